"""ONNX Runtime contenders: models of one op, or of a few ops that compose it. They write to existing memory."""

import numpy as np
import onnxruntime
from inputs import EPS
from onnx import TensorProto, helper, numpy_helper
from race import Contender

DTYPES = ["f32", "f16"]
FACTS = {"onnxruntime": onnxruntime.__version__}
TYPES = {"f32": TensorProto.FLOAT, "f16": TensorProto.FLOAT16}


def session(model):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def contender(problem, nodes, shape, constants={}):
    """Makes the contender of a graph whose nodes compute `y` from `x`."""
    value = lambda name, shape: helper.make_tensor_value_info(name, TYPES[problem.dtype], shape)
    initializers = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    graph = helper.make_graph(nodes, "graph", [value("x", problem.shape)], [value("y", shape)], initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=11)
    running = session(model)
    y = np.zeros(shape, problem.x.dtype)
    binding = running.io_binding()
    x = onnxruntime.OrtValue.ortvalue_from_numpy(problem.x)
    binding.bind_ortvalue_input("x", x)
    place = onnxruntime.OrtValue.ortvalue_from_numpy(y)
    binding.bind_ortvalue_output("y", place)
    return [Contender("onnxruntime", "out", lambda: running.run_with_iobinding(binding), place.numpy)]


def elements(*nodes):
    return lambda problem: contender(problem, list(nodes), problem.shape)



def node(name, inputs=("x",), output="y", **attributes):
    return helper.make_node(name, list(inputs), [output], **attributes)


def added(problem):
    nodes = [node("Add", ("x", "mask"), "z"), node("Softmax", ("z",), axis=-1)]
    return contender(problem, nodes, problem.shape, {"mask": problem.added})


def flags(problem):
    nodes = [node("Where", ("keep", "x", "low"), "z"), node("Softmax", ("z",), axis=-1)]
    low = np.array(-np.inf, problem.x.dtype)
    return contender(problem, nodes, problem.shape, {"keep": problem.keep, "low": low})


def rms_norm(problem):
    nodes = [node("RMSNormalization", ("x", "weight"), axis=-1, epsilon=EPS)]
    return contender(problem, nodes, problem.shape, {"weight": problem.weight})


def layer_norm(problem):
    nodes = [node("LayerNormalization", ("x", "weight", "bias"), axis=-1, epsilon=EPS)]
    return contender(problem, nodes, problem.shape, {"weight": problem.weight, "bias": problem.bias})


OPS = {
    "softmax": elements(node("Softmax", axis=-1)),
    "log_softmax": elements(node("LogSoftmax", axis=-1)),
    "logsumexp": lambda problem: contender(
        problem,
        [node("ReduceLogSumExp", ("x", "axes"), keepdims=0)],
        problem.shape[:-1],
        {"axes": np.array([len(problem.shape) - 1], np.int64)},
    ),
    "softmax_causal": added,
    "softmax_bias": added,
    "softmax_keep": flags,
    "rms_norm": rms_norm,
    "layer_norm": layer_norm,
    "exp": elements(node("Exp")),
    "log": elements(node("Log")),
    "sigmoid": elements(node("Sigmoid")),
    "silu": elements(node("Sigmoid", output="s"), node("Mul", ("x", "s"))),
    "tanh": elements(node("Tanh")),
    "erf": elements(node("Erf")),
    "gelu": elements(node("Gelu")),
}
