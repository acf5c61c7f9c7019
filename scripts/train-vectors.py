#!/usr/bin/env python3
"""Makes tests/vectors/train.tsv and tests/vectors/losses.tsv from PyTorch's results.

train.tsv holds results of GradScaler, AdamW, SGD and clip_grad_norm_. losses.tsv holds losses, and their gradients with
respect to the logits.

Run `python3 scripts/train-vectors.py` (needs torch) from the root of the repository. The script does not depend on the
crate's code.

Lines of train.tsv:
- `scaler`, init, growth, backoff, interval, a digit for each step (1 if its gradients are finite, 0 if not), and the bits
  of the f32 scale before each step and after the last.
- `adamw`, lr, beta1, beta2, eps, weight decay; or `sgd`, lr, momentum, dampening, weight decay, nesterov (0 or 1). Both
  are followed by the number of steps, the number of elements, and the bits of the f64 parameters and states (exp_avg and
  exp_avg_sq, or the momentum buffer, or nothing) after the last step. A parameter starts as `numbers(elements, 1)`, and
  its gradient in step t, counted from 1, is `numbers(elements, 1 + t)`.
- `clip`, the largest norm, the kind of norm (1, 2 or inf), the number of elements of each tensor, and the bits of the f32
  gradients, of the norm in f64, and of the clipped gradients in f64.

Lines of losses.tsv:
- `bce_with_logits`, columns, reduction, and the bits of the f64 logits, targets, weights and pos_weights (empty if there
  are none), of the loss, and of the gradient of the summed loss.
- `kl_div`, columns, reduction (with `none`, the losses of a row are added up), whether targets are logarithms (1 or 0),
  the factor of the logits, and the bits of logits, targets, loss and gradient.
"""
import random
import struct

import torch

PRIME = 2654435761


def numbers(count, seed):
    """Returns multiples of 1/8 between -4 and 4."""
    return torch.tensor([((i * PRIME + seed * 40503) % 65 - 32) / 8 for i in range(count)], dtype=torch.float64)


def bits(values, form):
    return " ".join(struct.pack(form, float(x)).hex() for x in values)


def scaler(init, growth, backoff, interval, finite):
    scaler = torch.amp.GradScaler("cpu", init, growth, backoff, interval)
    weight = torch.nn.Parameter(torch.ones(2))
    optimizer = torch.optim.SGD([weight], lr=0.0)
    scaler.scale(torch.ones(()))
    scales = [scaler.get_scale()]
    for good in finite:
        weight.grad = torch.tensor([1.0, 1.0 if good else float("inf")])
        scaler.unscale_(optimizer)
        scaler.step(optimizer)
        scaler.update()
        scales.append(scaler.get_scale())
    pattern = "".join(str(int(good)) for good in finite)
    return "\t".join(["scaler", repr(init), repr(growth), repr(backoff), str(interval), pattern, bits(scales, ">f")])


def optimizer(name, arguments, steps, elements, make, states):
    weight = torch.nn.Parameter(numbers(elements, 1))
    optimizer = make([weight])
    for step in range(1, steps + 1):
        weight.grad = numbers(elements, 1 + step)
        optimizer.step()
    fields = [name, *map(repr, arguments), str(steps), str(elements), bits(weight.detach(), ">d")]
    return "\t".join(fields + [bits(optimizer.state[weight][state], ">d") for state in states])


def adamw(arguments, steps, elements):
    lr, beta1, beta2, eps, decay = arguments

    def make(weights):
        return torch.optim.AdamW(weights, lr=lr, betas=(beta1, beta2), eps=eps, weight_decay=decay, foreach=False)

    return optimizer("adamw", arguments, steps, elements, make, ["exp_avg", "exp_avg_sq"])


def sgd(arguments, steps, elements):
    lr, momentum, dampening, decay, nesterov = arguments

    def make(weights):
        return torch.optim.SGD(weights, lr, momentum, dampening, decay, bool(nesterov), foreach=False)

    return optimizer("sgd", arguments, steps, elements, make, ["momentum_buffer"] if momentum else [])


def clip(max_norm, norm_type, sizes, spread, seed):
    make = torch.Generator().manual_seed(seed)
    grads = [torch.randn(size, generator=make) * spread for size in sizes]
    weights = [torch.nn.Parameter(torch.zeros(size, dtype=torch.float64)) for size in sizes]
    for weight, grad in zip(weights, grads):
        weight.grad = grad.double()
    norm = torch.nn.utils.clip_grad_norm_(weights, max_norm, norm_type, foreach=False)
    fields = ["clip", repr(max_norm), repr(norm_type), " ".join(map(str, sizes)), bits(torch.cat(grads), ">f")]
    clipped = torch.cat([weight.grad for weight in weights])
    return "\t".join(fields + [bits([norm], ">d"), bits(clipped, ">d")])


random.seed(20)
with open("tests/vectors/train.tsv", "w") as out:
    out.write("# Made by scripts/train-vectors.py, which says what the fields are.\n")
    lines = [
        scaler(65536.0, 2.0, 0.5, 3, [random.random() < 0.8 for _ in range(200)]),
        # The factors are not powers of two, so each product is rounded to f32.
        scaler(1000.0, 1.7, 0.3, 2, [random.random() < 0.75 for _ in range(200)]),
        scaler(3.0, 1.0001, 0.9999, 1, [random.random() < 0.5 for _ in range(100)]),
        # If growth would make the scale infinite, the scale stays as it is. The count of finite steps starts again.
        scaler(2.0**120, 2.0, 0.5, 1, [True] * 10 + [False] + [True] * 3),
        scaler(2.0**126, 3.0, 0.5, 2, [True] * 7 + [False] * 2 + [True] * 9),
        scaler(65536.0, 2.0, 0.5, 2000, [True] * 4001 + [False, True]),
        scaler(1.0, 2.0, 0.5, 4, [False] * 40 + [True] * 9),
    ]
    lines += [
        adamw((1e-3, 0.9, 0.999, 1e-8, 0.01), 1, 5),
        adamw((1e-3, 0.9, 0.999, 1e-8, 0.01), 10, 65),
        adamw((0.05, 0.8, 0.95, 1e-5, 0.1), 1000, 33),
        adamw((1e-2, 0.0, 0.5, 0.25, 0.0), 20, 17),
        adamw((1e-4, 0.9, 0.9999, 1e-8, 0.0), 100000, 3),
        sgd((0.1, 0.0, 0.0, 0.0, 0), 3, 9),
        sgd((0.1, 0.0, 0.0, 0.01, 0), 100, 17),
        sgd((0.01, 0.9, 0.0, 1e-3, 0), 200, 17),
        sgd((0.01, 0.9, 0.25, 1e-3, 0), 200, 33),
        sgd((0.01, 0.95, 0.0, 1e-3, 1), 1000, 17),
    ]
    lines += [
        clip(max_norm, norm_type, sizes, spread, 80 + i)
        for i, (sizes, spread) in enumerate([([1], 1.0), ([3, 17, 5], 1e-3), ([64, 1, 300], 10.0), ([5, 5], 1e18)])
        for norm_type in (1.0, 2.0, float("inf"))
        for max_norm in (1.0, 1e-3, 1e4)
    ]
    out.write("\n".join(lines) + "\n")


def bce_with_logits(rows, cols, spread, reduction, weighted, seed):
    make = torch.Generator().manual_seed(seed)
    x = (torch.randn(rows, cols, dtype=torch.float64, generator=make) * spread).clamp(-40, 40).requires_grad_()
    y = torch.rand(rows, cols, dtype=torch.float64, generator=make)
    y = torch.where(torch.rand(rows, cols, generator=make) < 0.5, y.round(), y)
    weight, pos = None, None
    if weighted:
        weight = torch.rand(rows, cols, dtype=torch.float64, generator=make) * 2
        pos = torch.rand(cols, dtype=torch.float64, generator=make) * 4
    loss = torch.nn.functional.binary_cross_entropy_with_logits(x, y, weight, reduction=reduction, pos_weight=pos)
    loss.sum().backward()
    operands = [[] if t is None else t.detach().flatten() for t in (x, y, weight, pos, loss, x.grad)]
    return "\t".join(["bce_with_logits", str(cols), reduction] + [bits(t, ">d") for t in operands])


def kl_div(rows, cols, spread, reduction, log_target, scale, seed):
    make = torch.Generator().manual_seed(seed)
    x = (torch.randn(rows, cols, dtype=torch.float64, generator=make) * spread).clamp(-20, 20).requires_grad_()
    p = torch.softmax(torch.randn(rows, cols, dtype=torch.float64, generator=make) * 3, -1)
    if log_target:
        p = p.log()
    elif cols > 1:
        p[:, 0] = 0
    log_q = torch.log_softmax(x * scale, -1)
    loss = torch.nn.functional.kl_div(log_q, p, reduction=reduction, log_target=log_target)
    if reduction == "none":
        loss = loss.sum(-1)
    loss.sum().backward()
    fields = ["kl_div", str(cols), reduction, str(int(log_target)), repr(scale)]
    return "\t".join(fields + [bits(t.detach().flatten(), ">d") for t in (x, p, loss, x.grad)])


with open("tests/vectors/losses.tsv", "w") as out:
    out.write("# Made by scripts/train-vectors.py, which says what the fields are.\n")
    lines = [
        bce_with_logits(rows, cols, spread, reduction, weighted, 40 + i)
        for i, (rows, cols, spread) in enumerate([(1, 1, 1.0), (3, 17, 3.0), (4, 5, 20.0)])
        for reduction in ("none", "mean", "sum")
        for weighted in (False, True)
    ]
    lines += [
        kl_div(rows, cols, spread, reduction, log_target, scale, 60 + i)
        for i, (rows, cols, spread, scale) in enumerate([(2, 1, 1.0, 1.0), (3, 17, 3.0, 1.0), (4, 33, 8.0, 0.5)])
        for reduction in ("none", "batchmean", "sum")
        for log_target in (False, True)
    ]
    out.write("\n".join(lines) + "\n")
