"""Measures the speed of other libraries on a device. Uses the shapes and the method of `gpu-check time`.

Calls run in batches between two events, after copies that keep the device busy while the calls are queued.
Successive calls use different buffers. Together, the buffers are larger than the device's caches.

usage: peers.py --out FILE [--seconds N] [--quick]

The output records libraries that are missing or fail, and cases skipped for lack of time.
"""

import argparse
import itertools
import json
import os
import statistics
import sys
import time

ROWS = [(8192, 1024), (8192, 4096), (8192, 8192), (8192, 16384), (8192, 32768), (2048, 131072), (2048, 50257)]
FLAT = [(8192, 16384)]
HEADS = [(262144, 128)]
LOGITS = [(128, 128256), (1, 128256)]
# Shapes that are compiled before the others, because the time may not suffice to compile all shapes.
FIRST_COMPILED = {(8192, 4096), (8192, 32768), (8192, 16384), (262144, 128), (128, 128256)}

ROUND = 256 << 20
BATCHES = 9
BATCH_US = 2000.0
MOST_CALLS = 200
TYPES = {"BF16": "bfloat16", "F32": "float32"}
EPS = {"rms": 1e-6, "layer": 1e-5}


def kinds_of_input(torch):
    """Returns a dict from argument names to functions that generate the arguments."""

    def whole(rows, cols, dtype):
        return torch.randn(rows, cols, device="cuda", dtype=dtype) * 3

    def column(rows, cols, dtype):
        return 1 + 0.2 * torch.randn(cols, device="cuda", dtype=dtype)

    return {"x": whole, "dy": whole, "residual": whole, "weight": column, "bias": column}


class Op:
    """An op, with a function for each library that provides it.

    A function takes the op's arguments and returns the results. For a library named in `prepare`, the function
    instead returns a second function without arguments. Only the second function is timed, and it returns the results.
    """

    def __init__(self, name, shapes, arguments, by, prepare=(), is_of_rows=True, compiled="torch"):
        self.name, self.shapes, self.arguments, self.by = name, shapes, arguments, dict(by)
        self.prepare, self.is_of_rows = set(prepare), is_of_rows
        self.compiled = compiled


def ops(torch, triton, liger):
    """Returns all ops, with the functions of the installed libraries."""
    functional, aten = torch.nn.functional, torch.ops.aten

    def rms_norm(x, weight):
        return functional.rms_norm(x, (x.shape[-1],), weight, EPS["rms"])

    def rms_norm_residual(x, weight, residual):
        total = x + residual
        return rms_norm(total, weight), total

    def layer_norm(x, weight, bias):
        return functional.layer_norm(x, (x.shape[-1],), weight, bias, EPS["layer"])

    def gradient(forward):
        """Returns a function that takes the arguments of `forward`, then dy, and prepares the gradients."""

        def prepared(*arguments):
            *arguments, dy = arguments
            leaves = [argument.detach().requires_grad_() for argument in arguments]
            y = forward(*leaves)
            return lambda: torch.autograd.grad(y, leaves, dy, retain_graph=True)

        return prepared

    def softmax_backward(dy, x):
        return aten._softmax_backward_data(dy, x, -1, dy.dtype)

    def log_softmax_backward(dy, x):
        return aten._log_softmax_backward_data(dy, x, -1, dy.dtype)

    def rope(x):
        positions, half = x.shape[0] // 32, x.shape[1] // 2
        rates = 10000.0 ** (-torch.arange(half, device=x.device) / half)
        angles = torch.arange(positions, device=x.device)[:, None] * rates
        cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)

        def turn():
            low, high = x.view(32, positions, 2 * half).chunk(2, -1)
            return torch.cat([low * cos - high * sin, high * cos + low * sin], -1)

        return turn

    def clip(x):
        gradients = [torch.nn.Parameter(part) for part in x.chunk(64)]
        for gradient in gradients:
            gradient.grad = gradient.data
        limits = (0.99**i for i in itertools.count())
        return lambda: torch.nn.utils.clip_grad_norm_(gradients, next(limits), foreach=True)

    def draw(probabilities):
        # Divides by exponentially distributed numbers, as inference engines do. `multinomial` would make the host wait.
        return (probabilities / torch.empty_like(probabilities).exponential_()).argmax(-1)

    def top_k_top_p(x):
        logits, tokens = torch.topk(x.float() / 0.7, 50, dim=-1)
        shares = logits.softmax(-1)
        is_out = shares.cumsum(-1) - shares > 0.9
        return tokens.gather(-1, draw(shares.masked_fill(is_out, 0.0))[:, None])

    def top_p(x):
        shares, tokens = (x.float() / 1.3).softmax(-1).sort(dim=-1, descending=True)
        is_out = shares.cumsum(-1) - shares > 0.95
        return tokens.gather(-1, draw(shares.masked_fill(is_out, 0.0))[:, None])

    def by(eager, of_triton=None, of_liger=None):
        found = {"torch": eager}
        if triton and of_triton:
            found["Triton"] = of_triton
        if liger and of_liger:
            found["Liger"] = of_liger
        return found

    def liger_rms_norm(x, weight):
        return liger["rms_norm"].apply(x, weight, EPS["rms"], 0.0, "llama", False)

    def liger_rms_norm_residual(x, weight, residual):
        return liger["fused_add_rms_norm"].apply(x, residual, weight, EPS["rms"])

    def liger_layer_norm(x, weight, bias):
        return liger["layer_norm"].apply(x, weight, bias, EPS["layer"])

    def liger_softmax(x):
        return liger["softmax"].apply(x)

    def unary(name, f):
        return Op(name, FLAT, ["x"], by(lambda x: f(x)))

    return [
        Op("softmax", ROWS, ["x"], by(lambda x: x.softmax(-1), triton and triton.softmax, liger_softmax)),
        Op("rms_norm", ROWS, ["x", "weight"], by(rms_norm, triton and triton.rms_norm, liger_rms_norm)),
        Op("layer_norm", ROWS, ["x", "weight", "bias"], by(layer_norm, None, liger_layer_norm)),
        Op(
            "rms_norm_residual",
            ROWS,
            ["x", "weight", "residual"],
            by(rms_norm_residual, None, liger_rms_norm_residual),
        ),
        Op("log_softmax", ROWS, ["x"], by(lambda x: x.log_softmax(-1))),
        Op("logsumexp", ROWS, ["x"], by(lambda x: x.logsumexp(-1))),
        Op("softmax_backward", ROWS, ["dy", "x"], by(softmax_backward)),
        Op("log_softmax_backward", ROWS, ["dy", "x"], by(log_softmax_backward)),
        Op(
            "rms_norm_backward",
            ROWS,
            ["x", "weight", "dy"],
            by(gradient(rms_norm), None, gradient(liger_rms_norm)),
            prepare=["torch", "Liger"],
            is_of_rows=False,
            compiled=None,
        ),
        Op(
            "layer_norm_backward",
            ROWS,
            ["x", "weight", "bias", "dy"],
            by(gradient(layer_norm), None, gradient(liger_layer_norm)),
            prepare=["torch", "Liger"],
            is_of_rows=False,
            compiled=None,
        ),
        Op("rope", HEADS, ["x"], by(rope), prepare=["torch"], is_of_rows=False),
        Op("clip_grad_norm", FLAT, ["x"], by(clip), prepare=["torch"], is_of_rows=False, compiled=None),
        unary("exp", torch.exp),
        unary("log", torch.log),
        unary("gelu", functional.gelu),
        unary("gelu_tanh", lambda x: functional.gelu(x, approximate="tanh")),
        unary("silu", functional.silu),
        unary("tanh", torch.tanh),
        unary("softplus", functional.softplus),
        Op("swiglu", FLAT, ["x", "residual"], by(lambda gate, up: functional.silu(gate) * up)),
        Op("silu_backward", FLAT, ["x", "dy"], by(lambda x, dy: aten.silu_backward(dy, x))),
        Op("gelu_backward", FLAT, ["x", "dy"], by(lambda x, dy: aten.gelu_backward(dy, x))),
        Op("sample: top_k 50, top_p 0.9", LOGITS, ["x"], by(top_k_top_p), is_of_rows=False),
        Op("sample: temperature", LOGITS, ["x"], by(lambda x: draw(x.float().softmax(-1))), is_of_rows=False),
        Op("sample: top_p 0.95", LOGITS, ["x"], by(top_p), is_of_rows=False),
        # This op writes only one number per row, so its time is the time to read the input.
        Op("read", [(8192, 32768)], ["x"], by(lambda x: x.amax(-1)), compiled=None),
    ]


class Clock:
    def __init__(self, torch):
        self.torch = torch
        self.busy = [torch.zeros(1 << 30, dtype=torch.uint8, device="cuda") for _ in range(2)]
        self.start, self.end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        self.copy_us = None
        for _ in range(2):
            self.copy_us = self._between(lambda: self.keep_busy(8))[0] / 8

    def keep_busy(self, copies):
        for _ in range(copies):
            self.busy[1].copy_(self.busy[0])

    def _between(self, body):
        """Returns the device's time for `body` and the host's time to queue it, in µs."""
        self.start.record()
        began = time.perf_counter()
        body()
        queueing = (time.perf_counter() - began) * 1e6
        self.end.record()
        self.end.synchronize()
        return self.start.elapsed_time(self.end) * 1e3, queueing

    def measure(self, calls):
        """Returns the median, the fastest and the slowest batch, in µs per call, and a problem if there was one.

        The calls of a batch cycle through the functions in `calls`.
        """
        around = itertools.cycle(range(len(calls)))
        # Keeps each result until its call runs again. Otherwise, the previous result would be freed, and every call
        # would write to the same memory.
        results = [None] * len(calls)

        def some(count):
            for _ in range(count):
                i = next(around)
                results[i] = calls[i]()

        some(len(calls))
        self.torch.cuda.synchronize()
        # No copies keep the device busy before these calls. If the host is slower than the device, the measured time is
        # too long. A measured time that is too long only makes the batches shorter.
        us, queueing = self._between(lambda: some(4))
        count = int(min(max(BATCH_US / (us / 4), 4), MOST_CALLS))
        copies = 4 + int(2 * count * queueing / 4 / self.copy_us)
        times, late = [], []
        for _ in range(BATCHES):
            self.keep_busy(copies)
            us, queueing = self._between(lambda: some(count))
            times.append(us / count)
            late.append(queueing > copies * self.copy_us)
        trouble = "the host was slower than the device" if all(late) else None
        return statistics.median(times), min(times), max(times), trouble


class Race:
    def __init__(self, torch, out, deadline):
        self.torch, self.out, self.deadline = torch, out, deadline
        self.clock = Clock(torch)
        self.kinds = kinds_of_input(torch)
        self.document = {"versions": [f"torch {torch.__version__}"], "timings": [], "left_out": []}
        self.done = set()

    def save(self):
        write(self.out, self.document)

    def case(self, op, by, shape, dtype):
        key = (op.name, by, shape, dtype)
        if key in self.done:
            return
        self.done.add(key)
        what = f"{by}, {op.name} of {dtype}, {shape[0]}x{shape[1]}"
        if time.monotonic() > self.deadline:
            self.document["left_out"].append(f"{what}: no time was left")
            return
        us, fastest, slowest, trouble = 0.0, 0.0, 0.0, None
        try:
            us, fastest, slowest, trouble = self.time(op, by, shape, dtype)
        except Exception as error:  # Any failure of a library: the others must still be timed.
            trouble = f"{type(error).__name__}: {error}"[:200]
        size = getattr(self.torch, TYPES[dtype]).itemsize
        self.document["timings"].append(
            {
                "op": op.name,
                "dtype": dtype,
                "rows": shape[0],
                "cols": shape[1],
                "by": by,
                "bytes": size * shape[0] * shape[1],
                "us": us,
                "fastest": fastest,
                "slowest": slowest,
                "trouble": trouble,
            }
        )
        print(f"{what}: {us:.1f} us {trouble or ''}")
        self.save()

    def function(self, op, by):
        torch = self.torch
        if by != "torch.compile":
            return op.by[by], by in op.prepare
        torch._dynamo.reset()
        options = {"mode": "max-autotune-no-cudagraphs", "dynamic": False}
        eager = op.by[op.compiled]
        if op.compiled in op.prepare:
            return lambda *arguments: torch.compile(eager(*arguments), **options), True
        return torch.compile(eager, **options), False

    def time(self, op, by, shape, dtype):
        torch = self.torch
        rows, cols = shape
        of_type = getattr(torch, TYPES[dtype])
        # Number of bytes of one input and one output. Most ops read and write at least this many bytes.
        moved = 2 * rows * cols * of_type.itemsize
        pieces = min(max(-(-ROUND // moved), 1), 64)
        function, is_prepared = self.function(op, by)
        inputs, calls = [], []
        for _ in range(pieces):
            arguments = [self.kinds[kind](rows, cols, of_type) for kind in op.arguments]
            inputs.append(arguments)
            if is_prepared:
                calls.append(function(*arguments))
            else:
                calls.append(lambda arguments=arguments: function(*arguments))
        with torch.set_grad_enabled(is_prepared):
            wrong = self.wrong(op, by, calls[0], inputs[0]) if op.is_of_rows else None
            us, fastest, slowest, trouble = self.clock.measure(calls)
        return us, fastest, slowest, wrong or trouble

    def wrong(self, op, by, call, arguments):
        """Compares the first rows with torch's results in f32. If they differ, the times mean nothing."""
        if by == "torch":
            return None
        first = [value[:64].float() if value.dim() == 2 else value.float() for value in arguments]
        expected, got = op.by["torch"](*first), call()
        if isinstance(got, tuple):
            expected, got = expected[0], got[0]
        close = self.torch.isclose(got[:64].float(), expected, rtol=0.02, atol=0.02, equal_nan=True)
        return None if close.all() else f"{int((~close).sum())} results differ from torch's"


def write(path, document):
    os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    with open(f"{path}.part", "w") as file:
        json.dump(document, file, indent=1)
    os.replace(f"{path}.part", path)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", required=True, help="file for the timings")
    parser.add_argument("--seconds", type=float, default=170, help="start no case after this many seconds")
    parser.add_argument("--quick", action="store_true", help="two shapes of each op, in bf16, without torch.compile")
    arguments = parser.parse_args()
    deadline = time.monotonic() + arguments.seconds
    try:
        import torch
        import torch._dynamo
        import torch._functorch.config

        missing = None if torch.cuda.is_available() else "torch finds no CUDA device"
    except ImportError as error:
        missing = f"torch can't be imported: {error}"
    if missing:
        write(arguments.out, {"versions": [], "timings": [], "left_out": [missing]})
        sys.exit(f"peers.py: {missing}")
    # Gradients are computed repeatedly from one graph, so torch.compile must keep the graph's buffers.
    torch._functorch.config.donated_buffer = False
    race = Race(torch, arguments.out, deadline)
    versions, left_out = race.document["versions"], race.document["left_out"]
    triton, liger = None, None
    try:
        import triton as installed
        import triton_rows as triton

        versions.append(f"Triton {installed.__version__}")
    except Exception as error:
        left_out.append(f"Triton: {error}"[:200])
    try:
        from importlib.metadata import version

        from liger_kernel.ops.fused_add_rms_norm import LigerFusedAddRMSNormFunction
        from liger_kernel.ops.layer_norm import LigerLayerNormFunction
        from liger_kernel.ops.rms_norm import LigerRMSNormFunction
        from liger_kernel.ops.softmax import LigerSoftmaxFunction

        liger = {
            "softmax": LigerSoftmaxFunction,
            "layer_norm": LigerLayerNormFunction,
            "rms_norm": LigerRMSNormFunction,
            "fused_add_rms_norm": LigerFusedAddRMSNormFunction,
        }
        versions.append(f"Liger {version('liger-kernel')}")
    except Exception as error:
        left_out.append(f"Liger: {type(error).__name__}: {error}"[:200])
    everything = ops(torch, triton, liger)

    def each(dtype, by_all=True, may=lambda shape: True):
        for op in everything:
            for shape in op.shapes[: 2 if arguments.quick else None]:
                names = op.by if by_all else ["torch.compile"] if op.compiled else []
                for by in names:
                    if may(shape):
                        race.case(op, by, shape, dtype)

    each("BF16")
    if not arguments.quick:
        each("BF16", by_all=False, may=lambda shape: shape in FIRST_COMPILED)
        each("F32", may=lambda shape: shape in FIRST_COMPILED)
        each("BF16", by_all=False)
        each("F32")
        each("F32", by_all=False, may=lambda shape: shape in FIRST_COMPILED)
    race.save()


if __name__ == "__main__":
    main()
