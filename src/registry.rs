//! The list of all ops, each with its backends and storage types.
//!
//! `tests/coverage.rs` checks that tests, benchmarks, fuzzing and the documentation cover every op in this list.

#![forbid(unsafe_code)]

use crate::element::DType;

/// Backend that runs ops.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Backend {
    /// Kernels for the CPU, on any instruction set.
    Cpu,
    /// Kernels for CUDA devices, with the feature `cuda`. They give the same bits as the CPU.
    Cuda,
    /// Programs for Trainium and Inferentia, with the feature `neuron`. They have error bounds of their own.
    Neuron,
}

impl Backend {
    /// All backends, in the order in which they are tried.
    pub const ALL: &[Backend] = &[Backend::Neuron, Backend::Cuda, Backend::Cpu];

    /// Returns the name of the backend, as used in `EVENKEEL_BACKEND`.
    pub fn name(self) -> &'static str {
        match self {
            Backend::Cpu => "cpu",
            Backend::Cuda => "cuda",
            Backend::Neuron => "neuron",
        }
    }
}

/// Kind of an op, by its operands and results.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// A function of one element.
    Elementwise,
    /// Gradient of an elementwise op: a function of an element and of the gradient of the op's result.
    ElementwiseBackward,
    /// A function of two elements, at the same index of two tensors of the same shape.
    Pairwise,
    /// Gradients of a pairwise op: functions of two elements and of the gradient of the op's result.
    PairwiseBackward,
    /// Lanes along an axis, with one result per element.
    Lanes,
    /// Gradient of an op on lanes or of a reduction, computed from the lanes and the gradients of the results.
    LanesBackward,
    /// Lanes along an axis, with one result per lane.
    Reduction,
    /// Rows and a matrix, with one result for each combination of an input row and a matrix row.
    Linear,
    /// Queries, keys and values. The backward op also takes the gradients of the results.
    Attention,
    /// Rows of logits, with tokens as results.
    Sampler,
    /// Whole tensors of any shape, or lists of them.
    Tensors,
}

/// An op, with its kind, its backends, and the storage types that each backend supports.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Op {
    /// Name of the op. The op's function and source files have this name, and it appears in errors and reports.
    pub name: &'static str,
    /// Kind of the op, by its operands and results.
    pub kind: Kind,
    /// Backends that support the op, each with its supported storage types.
    pub support: &'static [(Backend, &'static [DType])],
}

const CPU: &[(Backend, &[DType])] = &[(Backend::Cpu, DType::ALL)];

const CPU_AND_CUDA: &[(Backend, &[DType])] =
    &[(Backend::Cpu, DType::ALL), (Backend::Cuda, &[DType::F32, DType::F16, DType::BF16])];

const EVERYWHERE: &[(Backend, &[DType])] = &[
    (Backend::Cpu, DType::ALL),
    (Backend::Cuda, &[DType::F32, DType::F16, DType::BF16]),
    (Backend::Neuron, &[DType::F32, DType::F16, DType::BF16]),
];

const fn op(name: &'static str, kind: Kind) -> Op {
    Op { name, kind, support: CPU }
}

const fn on_cuda(name: &'static str, kind: Kind) -> Op {
    Op { name, kind, support: CPU_AND_CUDA }
}

const fn everywhere(name: &'static str, kind: Kind) -> Op {
    Op { name, kind, support: EVERYWHERE }
}

/// Passes the list of elementwise functions to a macro. Each entry has the function's name, its kernel type, its
/// formula, its `_into` and `_in_place` forms, the reference function of its derivative, and the names of its gradient
/// functions. `clamped_exp` and `clamped_log`, which have options, are not in the list.
#[doc(hidden)]
#[macro_export]
macro_rules! for_each_elementwise {
    ($then:ident) => {
        $then! {
            erf Erf "the error function" [erf_into erf_in_place] erf_derivative
                [erf_backward erf_backward_into erf_backward_in_place];
            exp Exp "e^x" [exp_into exp_in_place] exp_derivative
                [exp_backward exp_backward_into exp_backward_in_place];
            exp2 Exp2 "2^x" [exp2_into exp2_in_place] exp2_derivative
                [exp2_backward exp2_backward_into exp2_backward_in_place];
            expm1 Expm1 "e^x - 1" [expm1_into expm1_in_place] expm1_derivative
                [expm1_backward expm1_backward_into expm1_backward_in_place];
            gelu Gelu "x (1 + erf(x / sqrt(2))) / 2" [gelu_into gelu_in_place] gelu_derivative
                [gelu_backward gelu_backward_into gelu_backward_in_place];
            gelu_tanh GeluTanh "x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))) / 2" [gelu_tanh_into gelu_tanh_in_place] gelu_tanh_derivative
                [gelu_tanh_backward gelu_tanh_backward_into gelu_tanh_backward_in_place];
            log Log "ln x" [log_into log_in_place] log_derivative
                [log_backward log_backward_into log_backward_in_place];
            log1p Log1p "ln(1 + x)" [log1p_into log1p_in_place] log1p_derivative
                [log1p_backward log1p_backward_into log1p_backward_in_place];
            log2 Log2 "log2 x" [log2_into log2_in_place] log2_derivative
                [log2_backward log2_backward_into log2_backward_in_place];
            log_sigmoid LogSigmoid "-ln(1 + e^-x)" [log_sigmoid_into log_sigmoid_in_place] log_sigmoid_derivative
                [log_sigmoid_backward log_sigmoid_backward_into log_sigmoid_backward_in_place];
            reciprocal Reciprocal "1 / x" [reciprocal_into reciprocal_in_place] reciprocal_derivative
                [reciprocal_backward reciprocal_backward_into reciprocal_backward_in_place];
            rsqrt Rsqrt "1 / sqrt(x)" [rsqrt_into rsqrt_in_place] rsqrt_derivative
                [rsqrt_backward rsqrt_backward_into rsqrt_backward_in_place];
            sigmoid Sigmoid "1 / (1 + e^-x)" [sigmoid_into sigmoid_in_place] sigmoid_derivative
                [sigmoid_backward sigmoid_backward_into sigmoid_backward_in_place];
            silu Silu "x / (1 + e^-x)" [silu_into silu_in_place] silu_derivative
                [silu_backward silu_backward_into silu_backward_in_place];
            softplus Softplus "ln(1 + e^x)" [softplus_into softplus_in_place] softplus_derivative
                [softplus_backward softplus_backward_into softplus_backward_in_place];
            sqrt Sqrt "sqrt x" [sqrt_into sqrt_in_place] sqrt_derivative
                [sqrt_backward sqrt_backward_into sqrt_backward_in_place];
            tanh Tanh "tanh x" [tanh_into tanh_in_place] tanh_derivative
                [tanh_backward tanh_backward_into tanh_backward_in_place];
        }
    };
}

/// All ops.
///
/// ```
/// use evenkeel::registry::{Backend, OPS};
/// assert!(OPS.iter().any(|op| op.name == "softmax" && op.support.iter().any(|(b, _)| *b == Backend::Cpu)));
/// ```
pub const OPS: &[Op] = &[
    op("attention", Kind::Attention),
    op("attention_backward", Kind::Attention),
    op("bce_with_logits", Kind::Reduction),
    everywhere("clamped_exp", Kind::Elementwise),
    on_cuda("clamped_exp_backward", Kind::ElementwiseBackward),
    everywhere("clamped_log", Kind::Elementwise),
    on_cuda("clamped_log_backward", Kind::ElementwiseBackward),
    on_cuda("clip_grad_norm", Kind::Tensors),
    op("clip_grad_value", Kind::Tensors),
    everywhere("cross_entropy", Kind::Reduction),
    on_cuda("cross_entropy_backward", Kind::LanesBackward),
    on_cuda("erf", Kind::Elementwise),
    on_cuda("erf_backward", Kind::ElementwiseBackward),
    on_cuda("exp", Kind::Elementwise),
    on_cuda("exp_backward", Kind::ElementwiseBackward),
    on_cuda("exp2", Kind::Elementwise),
    on_cuda("exp2_backward", Kind::ElementwiseBackward),
    on_cuda("expm1", Kind::Elementwise),
    on_cuda("expm1_backward", Kind::ElementwiseBackward),
    on_cuda("gelu", Kind::Elementwise),
    on_cuda("gelu_backward", Kind::ElementwiseBackward),
    on_cuda("gelu_tanh", Kind::Elementwise),
    on_cuda("gelu_tanh_backward", Kind::ElementwiseBackward),
    op("group_norm", Kind::Lanes),
    op("inspect", Kind::Tensors),
    op("kl_div", Kind::Reduction),
    op("l2_normalize", Kind::Lanes),
    everywhere("layer_norm", Kind::Lanes),
    on_cuda("layer_norm_backward", Kind::LanesBackward),
    on_cuda("log", Kind::Elementwise),
    on_cuda("log_backward", Kind::ElementwiseBackward),
    on_cuda("log1p", Kind::Elementwise),
    on_cuda("log1p_backward", Kind::ElementwiseBackward),
    on_cuda("log2", Kind::Elementwise),
    on_cuda("log2_backward", Kind::ElementwiseBackward),
    on_cuda("log_add_exp", Kind::Pairwise),
    on_cuda("log_sigmoid", Kind::Elementwise),
    on_cuda("log_sigmoid_backward", Kind::ElementwiseBackward),
    everywhere("log_softmax", Kind::Lanes),
    on_cuda("log_softmax_backward", Kind::LanesBackward),
    op("log_softmax_backward_from_output", Kind::LanesBackward),
    everywhere("logsumexp", Kind::Reduction),
    on_cuda("logsumexp_backward", Kind::LanesBackward),
    op("mean_pool", Kind::Reduction),
    op("mean_pool_backward", Kind::LanesBackward),
    on_cuda("qk_norm_rope", Kind::Lanes),
    on_cuda("reciprocal", Kind::Elementwise),
    on_cuda("reciprocal_backward", Kind::ElementwiseBackward),
    everywhere("rms_norm", Kind::Lanes),
    on_cuda("rms_norm_backward", Kind::LanesBackward),
    op("rms_norm_linear", Kind::Linear),
    on_cuda("rope", Kind::Lanes),
    on_cuda("rope_backward", Kind::LanesBackward),
    on_cuda("rsqrt", Kind::Elementwise),
    on_cuda("rsqrt_backward", Kind::ElementwiseBackward),
    on_cuda("safe_div", Kind::Pairwise),
    everywhere("sample", Kind::Sampler),
    on_cuda("sigmoid", Kind::Elementwise),
    on_cuda("sigmoid_backward", Kind::ElementwiseBackward),
    on_cuda("silu", Kind::Elementwise),
    on_cuda("silu_backward", Kind::ElementwiseBackward),
    everywhere("softmax", Kind::Lanes),
    on_cuda("softmax_backward", Kind::LanesBackward),
    op("softmax_backward_from_output", Kind::LanesBackward),
    on_cuda("softplus", Kind::Elementwise),
    on_cuda("softplus_backward", Kind::ElementwiseBackward),
    on_cuda("sqrt", Kind::Elementwise),
    on_cuda("sqrt_backward", Kind::ElementwiseBackward),
    on_cuda("swiglu", Kind::Pairwise),
    op("swiglu_backward", Kind::PairwiseBackward),
    on_cuda("tanh", Kind::Elementwise),
    on_cuda("tanh_backward", Kind::ElementwiseBackward),
];
