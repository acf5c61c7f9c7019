#!/usr/bin/env python3
"""Makes tests/vectors/attention.tsv: the f64 results of ONNX's reference implementation of Attention and of
PyTorch's scaled_dot_product_attention. This script and the test make the inputs by the same formula.

Run `python3 scripts/attention-vectors.py` (needs onnx, numpy and torch) from the root of the repository. The script does
not depend on the crate's code.

Fields of a line: source, batch, heads, heads of keys, queries, keys, features, features of values, scale, softcap (0 is
none), causal (0 or 1; the last query is at the position of the last key), window (number of keys up to the query's own; 0
is all), lengths (one for each batch, or -), keep (flags of [batch, heads, queries, keys], or -), bias (0 or 1), results.
"""
import struct

import numpy as np
import torch
from onnx.reference.ops.op_attention import _compute_attention

PRIME = 2654435761


def numbers(count, seed):
    """Returns multiples of 1/8 between -4 and 4, which are exact in every type."""
    return np.array([((i * PRIME + seed * 40503) % 65 - 32) / 8 for i in range(count)])


def flags(count):
    return np.array([(i * PRIME // 64) % 3 != 0 for i in range(count)])


def tensors(shape):
    batch, heads, of_keys, queries, keys, features, of_values = shape
    q = numbers(batch * heads * queries * features, 1).reshape(batch, heads, queries, features)
    k = numbers(batch * of_keys * keys * features, 2).reshape(batch, of_keys, keys, features)
    v = numbers(batch * of_keys * keys * of_values, 3).reshape(batch, of_keys, keys, of_values)
    return q, k, v


def masks(shape, keep, bias):
    batch, heads, _, queries, keys, *_ = shape
    count = batch * heads * queries * keys
    of = (batch, heads, queries, keys)
    keep = flags(count).reshape(of) if keep else None
    bias = numbers(count, 4).reshape(of) if bias else None
    return keep, bias


def onnx(shape, scale, softcap, causal, window, lengths, keep, bias):
    """Returns ONNX's results.

    The keys before the first query are passed as past keys, so that the last query is at the position of the last key.
    """
    q, k, v = tensors(shape)
    keep, bias = masks(shape, keep, bias)
    past = shape[4] - shape[3]
    extra = {}
    if lengths:
        extra["nonpad_kv_seqlen"] = np.array(lengths)
    elif past > 0:
        extra |= {"past_key": k[:, :, :past], "past_value": v[:, :, :past]}
        k, v = k[:, :, past:], v[:, :, past:]
    mask = bias if bias is not None else keep
    if bias is not None and keep is not None:
        mask = np.where(keep, bias, -np.inf)
    if window:
        extra |= {"left_window_size": window - 1, "right_window_size": -1}
    y, *_ = _compute_attention(q, k, v, mask, scale=scale, softcap=softcap, is_causal=bool(causal), **extra)
    return y


def pytorch(shape, scale, softcap, causal, window, lengths, keep, bias):
    assert softcap == 0 and not window and not lengths and not (keep and bias)
    q, k, v = (torch.from_numpy(x) for x in tensors(shape))
    keep, bias = masks(shape, keep, bias)
    mask = keep if keep is not None else bias
    mask = None if mask is None else torch.from_numpy(mask)
    grouped = shape[1] != shape[2]
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        y = torch.nn.functional.scaled_dot_product_attention(
            q, k, v, attn_mask=mask, is_causal=bool(causal), scale=scale, enable_gqa=grouped
        )
    return y.numpy()


# Arguments of the cases: shape, scale, softcap, causal, window, lengths, keep, bias.
ONNX = [
    ((1, 1, 1, 1, 1, 4, 3), 0.5, 0, 0, 0, None, 0, 0),
    ((2, 2, 2, 3, 3, 4, 4), 0.5, 0, 1, 0, None, 0, 0),
    ((1, 4, 2, 5, 5, 8, 6), 0.25, 0, 1, 0, None, 1, 0),
    ((1, 2, 1, 2, 7, 8, 4), 0.25, 0, 1, 0, None, 0, 0),
    ((1, 2, 1, 1, 9, 8, 4), 0.25, 0, 1, 0, None, 0, 1),
    ((2, 2, 1, 4, 6, 8, 5), 0.375, 5.0, 0, 0, None, 1, 0),
    ((2, 2, 1, 4, 4, 8, 5), 0.375, 5.0, 1, 0, None, 1, 1),
    ((3, 2, 2, 3, 6, 4, 4), 0.5, 0, 0, 0, (6, 2, 0), 0, 0),
    ((2, 2, 1, 3, 6, 4, 4), 0.5, 3.0, 0, 0, (4, 1), 1, 0),
    ((1, 2, 2, 6, 6, 4, 4), 0.5, 0, 1, 2, None, 0, 0),
    ((1, 2, 1, 3, 8, 4, 4), 0.5, 0, 1, 3, None, 0, 1),
    ((1, 2, 1, 3, 8, 4, 4), 0.5, 2.0, 1, 1, None, 1, 0),
]
PYTORCH = [
    ((1, 1, 1, 1, 1, 4, 3), 0.5, 0, 0, 0, None, 0, 0),
    ((2, 3, 3, 4, 4, 8, 8), 0.25, 0, 1, 0, None, 0, 0),
    ((2, 4, 2, 3, 6, 8, 5), 0.25, 0, 0, 0, None, 1, 0),
    ((2, 4, 1, 3, 6, 8, 5), 0.25, 0, 0, 0, None, 0, 1),
    ((1, 2, 2, 2, 12, 4, 4), 0.5, 0, 0, 0, None, 1, 0),
]


def line(source, results, case):
    shape, scale, softcap, causal, window, lengths, keep, bias = case
    y = results(*case).reshape(-1)
    joined = ",".join(map(str, lengths)) if lengths else "-"
    of_keep = "".join(str(int(flag)) for flag in masks(shape, keep, bias)[0].reshape(-1)) if keep else "-"
    fields = [source, *shape, scale, softcap, causal, window, joined, of_keep, bias]
    bits = " ".join(struct.pack(">d", x).hex() for x in y)
    return "\t".join([*map(str, fields), bits])


with open("tests/vectors/attention.tsv", "w") as out:
    out.write("# Made by scripts/attention-vectors.py, which says what the fields are.\n")
    for case in ONNX:
        out.write(line("onnx", onnx, case) + "\n")
    for case in PYTORCH:
        out.write(line("torch", pytorch, case) + "\n")
