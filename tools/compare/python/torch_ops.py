"""torch contenders. They write to existing memory (`out`) where torch has such functions."""

import torch
import torch.nn.functional as F
from inputs import EPS
from race import Contender

torch.set_num_threads(1)
aten = torch.ops.aten

DTYPES = ["f32", "f16", "bf16"]
FACTS = {"torch": f"{torch.__version__}, {torch.backends.cpu.get_cpu_capability()}"}


def tensor(array, problem):
    """Makes a tensor. Arrays for bf16 hold bit patterns."""
    made = torch.from_numpy(array)
    return made.view(torch.bfloat16) if problem.dtype == "bf16" else made


def out(run, y):
    return Contender("torch", "out", run, lambda: y)


def form(name, run):
    """Makes the contender for a torch function that allocates its result."""
    kept = {}

    def call():
        kept["y"] = run()

    return Contender("torch", name, call, lambda: kept["y"])


def without_gradients(make):
    def of(problem):
        made = make(problem)
        for contender in made:
            contender.run = torch.no_grad()(contender.run)
        return made

    return of


def last_axis(function):
    def make(problem):
        x = tensor(problem.x, problem)
        y = torch.empty_like(x)
        return [out(lambda: function(x, -1, out=y), y), form("allocating", lambda: function(x, -1))]

    return make


def logsumexp(problem):
    x = tensor(problem.x, problem)
    y = torch.empty(problem.rows, dtype=x.dtype)
    return [out(lambda: torch.logsumexp(x, -1, out=y), y), form("allocating", lambda: torch.logsumexp(x, -1))]


def added(problem):
    x, mask = tensor(problem.x, problem), tensor(problem.added, problem)
    y = torch.empty_like(x)

    def run():
        torch.add(x, mask, out=y)
        torch.softmax(y, -1, out=y)

    return [out(run, y), form("allocating", lambda: torch.softmax(x + mask, -1))]


def flags(problem):
    x, hidden = tensor(problem.x, problem), torch.from_numpy(~problem.keep)
    return [form("allocating", lambda: torch.softmax(x.masked_fill(hidden, float("-inf")), -1))]


def rms_norm(problem):
    x, weight = tensor(problem.x, problem), tensor(problem.weight, problem)
    return [form("allocating", lambda: F.rms_norm(x, (problem.cols,), weight, EPS))]


def layer_norm(problem):
    x, weight, bias = (tensor(a, problem) for a in (problem.x, problem.weight, problem.bias))
    y, shape = torch.empty_like(x), (problem.cols,)
    _, mean, scale = torch.native_layer_norm(x, shape, weight, bias, EPS)
    run = lambda: aten.native_layer_norm.out(x, shape, weight, bias, EPS, out0=y, out1=mean, out2=scale)
    return [out(run, y), form("allocating", lambda: F.layer_norm(x, shape, weight, bias, EPS))]


def attention(problem):
    q, k, v = (tensor(array, problem)[None] for array in problem.attention)
    return [form("allocating", lambda: F.scaled_dot_product_attention(q, k, v))]


def attention_backward(problem):
    dy = tensor(problem.dy, problem)[None]
    all = leaves(problem, *(array[None] for array in problem.attention))
    return [form("autograd", lambda: torch.autograd.grad(F.scaled_dot_product_attention(*all), all, dy)[0])]


def qk_norm_rope(problem):
    """Composes the op like models do: cosines and sines for all columns, and a copy with swapped halves."""
    x, weight = tensor(problem.x, problem), tensor(problem.weight, problem)
    frequencies = 10_000.0 ** (-torch.arange(0, problem.cols, 2, dtype=torch.float64) / problem.cols)
    angles = torch.arange(problem.shape[1], dtype=torch.float64)[:, None] * frequencies
    cos, sin = (torch.cat([part, part], -1).to(x.dtype) for part in (angles.cos(), angles.sin()))

    def run():
        y = F.rms_norm(x, (problem.cols,), weight, EPS)
        first, second = y.chunk(2, -1)
        return y * cos + torch.cat([-second, first], -1) * sin

    return [form("allocating", run)]


def rms_norm_linear(problem):
    x, weight, layer = (tensor(array, problem) for array in (problem.x, problem.weight, problem.layer))
    run = lambda: F.linear(F.rms_norm(x, (problem.cols,), weight, EPS), layer)
    return [form("allocating", run)]


def swiglu(problem):
    gate, up = tensor(problem.x, problem), tensor(problem.dy, problem)
    return [form("allocating", lambda: F.silu(gate) * up)]


def unary(function):
    def make(problem):
        x = tensor(problem.x, problem)
        y = torch.empty_like(x)
        return [out(lambda: function.out(x, out=y), y), form("allocating", lambda: function(x))]

    return make


def leaves(problem, *arrays):
    return [tensor(array, problem).clone().requires_grad_() for array in arrays]


def softmax_backward(function, gradient):
    def make(problem):
        dy, (x,) = tensor(problem.dy, problem), leaves(problem, problem.x)
        with torch.no_grad():
            y = function(x, -1)
        dx = torch.empty_like(y)
        return [
            Contender("torch", "from y", lambda: gradient.out(dy, y, -1, y.dtype, **{OUT[gradient]: dx}), lambda: dx),
            form("autograd", lambda: torch.autograd.grad(function(x, -1), x, dy)[0]),
        ]

    return make


# Names of the keyword arguments through which aten's functions get the memory for the result.
OUT = {aten._softmax_backward_data: "grad_input", aten._log_softmax_backward_data: "out"}


def rms_norm_backward(problem):
    dy, all = tensor(problem.dy, problem), leaves(problem, problem.x, problem.weight)
    x, weight = all
    return [form("autograd", lambda: torch.autograd.grad(F.rms_norm(x, (problem.cols,), weight, EPS), all, dy)[0])]


def layer_norm_backward(problem):
    dy, all = tensor(problem.dy, problem), leaves(problem, problem.x, problem.weight, problem.bias)
    (x, weight, bias), shape = all, (problem.cols,)
    still = [leaf.detach() for leaf in all]
    _, mean, scale = torch.native_layer_norm(still[0], shape, still[1], still[2], EPS)
    alone = lambda: aten.native_layer_norm_backward(dy, still[0], shape, mean, scale, still[1], still[2], [True] * 3)[0]
    return [
        form("from statistics", alone),
        form("autograd", lambda: torch.autograd.grad(F.layer_norm(x, shape, weight, bias, EPS), all, dy)[0]),
    ]


def cross_entropy(problem):
    x, targets = tensor(problem.x, problem), torch.from_numpy(problem.targets)
    return [form("allocating", lambda: F.cross_entropy(x, targets))]


def cross_entropy_backward(problem):
    (x,), targets = leaves(problem, problem.x), torch.from_numpy(problem.targets)
    return [form("autograd", lambda: torch.autograd.grad(F.cross_entropy(x, targets), x)[0])]


def grad_norm(problem):
    gradients = list(tensor(problem.x, problem))
    return [form("allocating", lambda: torch.nn.utils.get_total_norm(gradients))]


def clip_grad_norm(problem):
    whole = tensor(problem.x, problem)
    copy = whole.clone()
    parameters = [torch.nn.Parameter(torch.empty_like(row)) for row in copy]
    for parameter, row in zip(parameters, copy):
        parameter.grad = row
    run = lambda: torch.nn.utils.clip_grad_norm_(parameters, 1.0)
    return [Contender("torch", "in place", run, lambda: copy, lambda: copy.copy_(whole))]


def sampling(pick):
    """Composes the sampler like library code does: the filters, then `multinomial`."""

    def make(problem):
        x = tensor(problem.x, problem)
        return [form("allocating", lambda: pick(x).float())]

    return make


def top_k(x):
    values, tokens = torch.topk(x, 50)
    return tokens.gather(-1, torch.multinomial(torch.softmax(values, -1), 1))


def top_p_of(values, tokens):
    """Draws by top-p from logits in descending order."""
    probs = torch.softmax(values, -1)
    probs = probs.masked_fill(probs.cumsum(-1) - probs >= 0.9, 0.0)
    return tokens.gather(-1, torch.multinomial(probs, 1))


def min_p(x):
    probs = torch.softmax(x, -1)
    return torch.multinomial(probs.masked_fill(probs < 0.05 * probs.amax(-1, keepdim=True), 0.0), 1)


OPS = {
    "softmax": without_gradients(last_axis(torch.softmax)),
    "log_softmax": without_gradients(last_axis(torch.log_softmax)),
    "logsumexp": without_gradients(logsumexp),
    "softmax_causal": without_gradients(added),
    "softmax_bias": without_gradients(added),
    "softmax_keep": without_gradients(flags),
    "attention": without_gradients(attention),
    "attention_decode": without_gradients(attention),
    "attention_backward": attention_backward,
    "qk_norm_rope": without_gradients(qk_norm_rope),
    "rms_norm_linear": without_gradients(rms_norm_linear),
    "swiglu": without_gradients(swiglu),
    "rms_norm": without_gradients(rms_norm),
    "layer_norm": without_gradients(layer_norm),
    "exp": without_gradients(unary(aten.exp)),
    "log": without_gradients(unary(aten.log)),
    "sigmoid": without_gradients(unary(aten.sigmoid)),
    "silu": without_gradients(unary(aten.silu)),
    "tanh": without_gradients(unary(aten.tanh)),
    "erf": without_gradients(unary(aten.erf)),
    "gelu": without_gradients(unary(aten.gelu)),
    "softmax_backward": softmax_backward(torch.softmax, aten._softmax_backward_data),
    "log_softmax_backward": softmax_backward(torch.log_softmax, aten._log_softmax_backward_data),
    "rms_norm_backward": rms_norm_backward,
    "layer_norm_backward": layer_norm_backward,
    "cross_entropy": without_gradients(cross_entropy),
    "cross_entropy_backward": cross_entropy_backward,
    "grad_norm": without_gradients(grad_norm),
    "clip_grad_norm": without_gradients(clip_grad_norm),
    "sample_argmax": without_gradients(sampling(lambda x: x.argmax(-1))),
    "sample_all": without_gradients(sampling(lambda x: torch.multinomial(torch.softmax(x, -1), 1))),
    "sample_top_k": without_gradients(sampling(top_k)),
    "sample_top_k_flat": without_gradients(sampling(top_k)),
    "sample_top_p": without_gradients(sampling(lambda x: top_p_of(*torch.sort(x, descending=True)))),
    "sample_top_p_flat": without_gradients(sampling(lambda x: top_p_of(*torch.sort(x, descending=True)))),
    "sample_top_p_peaked": without_gradients(sampling(lambda x: top_p_of(*torch.sort(x, descending=True)))),
    "sample_top_k_top_p": without_gradients(sampling(lambda x: top_p_of(*torch.topk(x, 50)))),
    "sample_min_p": without_gradients(sampling(min_p)),
    "sample_min_p_flat": without_gradients(sampling(min_p)),
    "sample_min_p_peaked": without_gradients(sampling(min_p)),
}
