"""Reimplements the inputs of the Rust program, bit for bit: see src/inputs.rs and src/problem.rs."""

import functools

import numpy as np

EPS = 1e-5
U64 = np.uint64


def hashes(index):
    h = (index + U64(1)) * U64(0x9E3779B97F4A7C15)
    h = (h ^ (h >> U64(32))) * U64(0xD6E8FEB86659FD93)
    return h ^ (h >> U64(32))


def indices(stream, start, stop):
    return U64(stream << 40) | np.arange(start, stop, dtype=U64)


def normal(index):
    total = np.zeros(len(index), U64)
    for k in range(3):
        h = hashes(U64(3) * index + U64(k))
        for shift in (0, 16, 32, 48):
            total += h >> U64(shift) & U64(0xFFFF)
    return (total.astype(np.float32) - np.float32(6 * 65535)) * np.float32(3.0 / 65536.0)


def flat(index):
    return normal(index) / np.float32(32)


def peaked(index):
    return normal(index) / np.float32(2) + np.where(index % U64(4096) == U64(17), np.float32(16), np.float32(0))


def positive(index):
    return ((hashes(index) >> U64(40)) + U64(1)).astype(np.float32) / np.float32(1 << 20)


def numbers(kind, stream, count):
    """Makes the numbers in parts, because all hashes together would take much memory."""
    make = {"normal": normal, "flat": flat, "peaked": peaked, "positive": positive}[kind]
    part = 1 << 20
    return np.concatenate([make(indices(stream, i, min(i + part, count))) for i in range(0, count, part)])


def typed(values, dtype):
    """Rounds to the type. bf16 is rounded by torch and returned as bits."""
    if dtype == "bf16":
        import torch

        return torch.from_numpy(values).to(torch.bfloat16).view(torch.int16).numpy()
    return values.astype({"f32": np.float32, "f16": np.float16}[dtype])


class Problem:
    """Inputs of one op in one type and shape. Arrays for bf16 hold bit patterns."""

    def __init__(self, case):
        self.op, self.dtype, self.shape = case["op"], case["dtype"], tuple(case["shape"])
        self.kind, self.digest, self.kept = case["inputs"], case["digest"], case["kept"]
        self.name = "x".join(map(str, self.shape))
        self.elements = int(np.prod(self.shape))
        self.cols = self.shape[-1]
        self.rows = self.elements // self.cols

    @functools.cached_property
    def x(self):
        return typed(numbers(self.kind, 0, self.elements), self.dtype).reshape(self.shape)

    @functools.cached_property
    def dy(self):
        return typed(numbers("normal", 1, self.elements), self.dtype).reshape(self.shape)

    @functools.cached_property
    def weight(self):
        return typed(numbers("normal", 2, self.cols), self.dtype)

    @functools.cached_property
    def bias(self):
        return typed(numbers("normal", 3, self.cols), self.dtype)

    @functools.cached_property
    def targets(self):
        return np.arange(self.rows, dtype=np.int64) * 977 % self.cols

    @functools.cached_property
    def added(self):
        """Returns the mask, a matrix that is added to the scores: see src/ops/masked_softmax.rs."""
        queries, keys = self.shape[1:]
        values = numbers("normal", 4, queries * keys).reshape(queries, keys)
        hidden = np.arange(keys) > np.arange(queries)[:, None]
        if self.op == "softmax_keep":
            hidden, values = values < 0, np.zeros_like(values)
        elif self.op == "softmax_causal":
            values = np.zeros_like(values)
        return typed(np.where(hidden, np.float32(-np.inf), values), self.dtype)

    @functools.cached_property
    def attention(self):
        """Returns queries, keys and values: see src/ops/attention.rs."""
        heads, positions, features = self.shape
        queries = 1 if self.op == "attention_decode" else positions
        beside = typed(numbers("normal", 4, self.elements + heads * queries * features), self.dtype)
        first, second = beside[: self.elements].reshape(self.shape), beside[self.elements :].reshape(heads, queries, -1)
        return (second, self.x, first) if queries == 1 else (self.x, first, second)

    @functools.cached_property
    def layer(self):
        """Returns a square linear layer, with a row for each output."""
        return typed(numbers("normal", 4, self.cols * self.cols), self.dtype).reshape(self.cols, self.cols)

    @functools.cached_property
    def keep(self):
        queries, keys = self.shape[1:]
        return numbers("normal", 4, queries * keys).reshape(queries, keys) >= 0

    def check(self):
        """Ends the program unless the Rust program has the same numbers."""
        bits = self.x.reshape(-1).view(np.uint32 if self.dtype == "f32" else np.uint16).astype(U64)
        terms = bits * (U64(2) * np.arange(len(bits), dtype=U64) + U64(1))
        digest = f"{int(terms.sum(dtype=U64)):016x}"
        if digest != self.digest:
            raise SystemExit(f"inputs of {self.op}/{self.dtype}/{self.name}: expected the digest "
                             f"{self.digest} as in Rust, got {digest}")
