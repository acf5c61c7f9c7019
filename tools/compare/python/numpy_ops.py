"""NumPy contenders: formulas composed of functions that write to existing memory."""

import numpy as np
from inputs import EPS
from race import Contender

DTYPES = ["f32", "f16"]
FACTS = {"numpy": np.__version__}


def out(run, y):
    return [Contender("numpy", "out", run, lambda: y)]


def exponentials(x, y):
    """Writes the exponentials of x minus its maximum to y. Returns the maximum and the sum of exponentials."""
    largest = np.max(x, axis=-1, keepdims=True)
    np.subtract(x, largest, out=y)
    np.exp(y, out=y)
    return largest, np.sum(y, axis=-1, keepdims=True)


def softmax_of(x, y):
    _, total = exponentials(x, y)
    np.divide(y, total, out=y)


def softmax(problem):
    y = np.empty_like(problem.x)
    return out(lambda: softmax_of(problem.x, y), y)


def log_softmax(problem):
    x, y = problem.x, np.empty_like(problem.x)

    def run():
        largest, total = exponentials(x, y)
        np.subtract(x, largest, out=y)
        np.subtract(y, np.log(total), out=y)

    return out(run, y)


def logsumexp(problem):
    x, scratch = problem.x, np.empty_like(problem.x)
    y = np.empty((problem.rows, 1), x.dtype)

    def run():
        largest, total = exponentials(x, scratch)
        np.add(np.log(total, out=y), largest, out=y)

    return out(run, y)


def added(problem):
    y = np.empty_like(problem.x)

    def run():
        np.add(problem.x, problem.added, out=y)
        softmax_of(y, y)

    return out(run, y)


def rms_norm(problem):
    x, weight, y = problem.x, problem.weight, np.empty_like(problem.x)

    def run():
        np.multiply(x, x, out=y)
        scale = 1 / np.sqrt(np.mean(y, axis=-1, keepdims=True) + x.dtype.type(EPS))
        np.multiply(x, scale, out=y)
        np.multiply(y, weight, out=y)

    return out(run, y)


def layer_norm(problem):
    x, weight, bias, y = problem.x, problem.weight, problem.bias, np.empty_like(problem.x)
    scratch = np.empty_like(x)

    def run():
        np.subtract(x, np.mean(x, axis=-1, keepdims=True), out=y)
        np.multiply(y, y, out=scratch)
        np.multiply(y, 1 / np.sqrt(np.mean(scratch, axis=-1, keepdims=True) + x.dtype.type(EPS)), out=y)
        np.multiply(y, weight, out=y)
        np.add(y, bias, out=y)

    return out(run, y)


def unary(function):
    def make(problem):
        y = np.empty_like(problem.x)
        return out(lambda: function(problem.x, out=y), y)

    return make


def sigmoid_of(x, y):
    np.negative(x, out=y)
    np.exp(y, out=y)
    np.add(y, x.dtype.type(1), out=y)
    np.reciprocal(y, out=y)


def sigmoid(problem):
    y = np.empty_like(problem.x)
    return out(lambda: sigmoid_of(problem.x, y), y)


def silu(problem):
    y = np.empty_like(problem.x)

    def run():
        sigmoid_of(problem.x, y)
        np.multiply(y, problem.x, out=y)

    return out(run, y)


def norm_of(gradients):
    return np.sqrt(sum(np.dot(row, row) for row in gradients))


def grad_norm(problem):
    kept = np.zeros(1, problem.x.dtype)
    return out(lambda: kept.__setitem__(0, norm_of(problem.x)), kept)


def clip_grad_norm(problem):
    copy = problem.x.copy()

    def run():
        scale = copy.dtype.type(1 / norm_of(copy))
        for row in copy:
            np.multiply(row, scale, out=row)

    return [Contender("numpy", "in place", run, lambda: copy, lambda: copy.__setitem__(..., problem.x))]


def sampling(pick):
    def make(problem):
        generator = np.random.default_rng(1)
        kept = np.zeros(problem.rows, np.float32)

        def run():
            for i, row in enumerate(problem.x):
                kept[i] = pick(row, generator)

        return out(run, kept)

    return make


def draw(generator, tokens, masses):
    """Draws a token with probability proportional to its mass."""
    cumulative = np.cumsum(masses)
    place = np.searchsorted(cumulative, generator.random() * cumulative[-1], side="right")
    return tokens[min(place, len(tokens) - 1)]


def every(row, generator):
    return draw(generator, np.arange(len(row)), np.exp(row - row.max()))


def best(row, k):
    """Returns the tokens of the k largest logits in descending order, and e^(logit - largest logit) for each."""
    tokens = np.argpartition(row, -k)[-k:]
    tokens = tokens[np.argsort(row[tokens])[::-1]]
    return tokens, np.exp(row[tokens] - row[tokens[0]])


def nucleus(tokens, masses):
    """Returns the shortest prefix with at least 0.9 of the total mass."""
    cumulative = np.cumsum(masses)
    count = np.searchsorted(cumulative, 0.9 * cumulative[-1]) + 1
    return tokens[:count], masses[:count]


def top_p(row, generator):
    tokens = np.argsort(row)[::-1]
    return draw(generator, *nucleus(tokens, np.exp(row[tokens] - row[tokens[0]])))


def min_p(row, generator):
    masses = np.exp(row - row.max())
    tokens = np.nonzero(masses >= 0.05)[0]
    return draw(generator, tokens, masses[tokens])


OPS = {
    "softmax": softmax,
    "log_softmax": log_softmax,
    "logsumexp": logsumexp,
    "softmax_causal": added,
    "softmax_bias": added,
    "softmax_keep": added,
    "rms_norm": rms_norm,
    "layer_norm": layer_norm,
    "exp": unary(np.exp),
    "log": unary(np.log),
    "sigmoid": sigmoid,
    "silu": silu,
    "tanh": unary(np.tanh),
    "grad_norm": grad_norm,
    "clip_grad_norm": clip_grad_norm,
    "sample_argmax": sampling(lambda row, _: np.argmax(row)),
    "sample_all": sampling(every),
    "sample_top_k": sampling(lambda row, generator: draw(generator, *best(row, 50))),
    "sample_top_k_flat": sampling(lambda row, generator: draw(generator, *best(row, 50))),
    "sample_top_p": sampling(top_p),
    "sample_top_p_flat": sampling(top_p),
    "sample_top_p_peaked": sampling(top_p),
    "sample_top_k_top_p": sampling(lambda row, generator: draw(generator, *nucleus(*best(row, 50)))),
    "sample_min_p": sampling(min_p),
    "sample_min_p_flat": sampling(min_p),
    "sample_min_p_peaked": sampling(min_p),
}
