//! Ops on tensors of a framework, for [`candle_adapter!`](crate::candle_adapter!).
//!
//! The macro converts between candle's tensors and the types of this module, because this crate cannot name the types
//! of a version of candle that it does not depend on. This module does everything else.
//!
//! The functions are `#[inline]`, so that only crates that use the macro compile them.

#![forbid(unsafe_code)]

mod attention;
mod candle;
mod norm;
mod rope;

use crate::element::{DType, Element};
use crate::error::{Error, Result};
use crate::floats::{Floats, FloatsMut};
use crate::mask::Mask;
use crate::ops::attention::Attention;
use crate::ops::sample::{Request, Sampled};
use crate::ops::softmax::Softmax;
use crate::rows::{Lanes, MAX_RANK, Rows};
use half::{bf16, f16};
use std::borrow::Cow;
use std::fmt::Debug;

/// A tensor on the CPU.
#[derive(Clone, Copy)]
pub struct View<'a> {
    floats: Floats<'a>,
    dims: &'a [usize],
    strides: &'a [usize],
}

impl<'a> View<'a> {
    /// Creates a view of a tensor in `storage`. If the tensor is contiguous, `start..end` must be the range of its
    /// elements. Otherwise the tensor must begin at `start` and end at or before `end`.
    #[inline]
    pub fn new(storage: Floats<'a>, (start, end): (usize, usize), dims: &'a [usize], strides: &'a [usize]) -> Self {
        // An empty tensor may start past the end of its storage.
        let range = if start < end { start..end } else { 0..0 };
        View { floats: storage.part(range), dims, strides }
    }
}

/// Elements of a new tensor.
#[allow(clippy::exhaustive_enums, reason = "the macro converts each variant to candle's storage")]
pub enum Values {
    F64(Vec<f64>),
    F32(Vec<f32>),
    F16(Vec<f16>),
    BF16(Vec<bf16>),
}

impl Values {
    #[inline]
    fn zeros(dtype: DType, count: usize) -> Self {
        match dtype {
            DType::F64 => Values::F64(vec![0.0; count]),
            DType::F32 => Values::F32(vec![0.0; count]),
            DType::F16 => Values::F16(vec![f16::ZERO; count]),
            DType::BF16 => Values::BF16(vec![bf16::ZERO; count]),
        }
    }

    #[inline]
    fn floats_mut(&mut self) -> FloatsMut<'_> {
        match self {
            Values::F64(values) => values.into(),
            Values::F32(values) => values.into(),
            Values::F16(values) => values.into(),
            Values::BF16(values) => values.into(),
        }
    }
}

macro_rules! from {
    ($($Variant:ident $type:ty),*) => {$(
        impl From<Vec<$type>> for Values {
            fn from(values: Vec<$type>) -> Self {
                Values::$Variant(values)
            }
        }
    )*};
}
from!(F64 f64, F32 f32, F16 f16, BF16 bf16);

/// Evaluates one expression with the elements of one or more views, which must have the same type.
macro_rules! same_type {
    ($op:expr, [$($view:expr => $data:ident),+], $result:expr) => {
        match ($($view.floats,)+) {
            ($(crate::floats::Floats::F64($data),)+) => $result,
            ($(crate::floats::Floats::F32($data),)+) => $result,
            ($(crate::floats::Floats::F16($data),)+) => $result,
            ($(crate::floats::Floats::BF16($data),)+) => $result,
            #[allow(unreachable_patterns, reason = "a single view always has the same type as itself")]
            _ => return Err(crate::adapter::types_differ($op, &[$($view.floats),+])),
        }
    };
}
use same_type;

#[cold]
fn types_differ(op: &'static str, all: &[Floats<'_>]) -> Error {
    let types: Vec<String> = all.iter().map(|floats| floats.dtype().to_string()).collect();
    Error::invalid(op, "the type of the tensors", types.join(", "), "the same for all")
}

/// An op with its options. Its mask is borrowed from the caller or owned. Candle keeps owned ops for the backward pass.
pub struct Op<'a> {
    function: Function,
    mask: Option<Cow<'a, Mask<'a>>>,
}

/// Function that an op computes, with all of its options except the mask.
enum Function {
    Softmax(usize, Softmax<'static>),
    LogSoftmax(usize, Softmax<'static>),
    RmsNorm { eps: f64 },
    LayerNorm { eps: f64 },
    Rope(rope::Rope),
    Sigmoid,
    Silu,
    Attention(Attention<'static>, Option<Vec<f64>>),
}

impl<'a> Op<'a> {
    /// Returns the op for softmax along an axis.
    #[inline]
    pub fn softmax(axis: usize, options: &Softmax<'a>) -> Self {
        let Softmax { mask, scale, softcap, fully_masked } = *options;
        let function = Function::Softmax(axis, Softmax { mask: None, scale, softcap, fully_masked });
        Op { function, mask: mask.map(Cow::Borrowed) }
    }

    /// Returns the op for the logarithm of softmax along an axis.
    #[inline]
    pub fn log_softmax(axis: usize, options: &Softmax<'a>) -> Self {
        let Softmax { mask, scale, softcap, fully_masked } = *options;
        let function = Function::LogSoftmax(axis, Softmax { mask: None, scale, softcap, fully_masked });
        Op { function, mask: mask.map(Cow::Borrowed) }
    }

    /// Returns the op for root-mean-square normalisation. Its operand is the weight.
    #[inline]
    pub fn rms_norm(eps: f32) -> Self {
        Function::RmsNorm { eps: norm::widened(eps) }.into()
    }

    /// Returns the op for layer normalisation. Its operands are the weight and the bias.
    #[inline]
    pub fn layer_norm(eps: f32) -> Self {
        Function::LayerNorm { eps: norm::widened(eps) }.into()
    }

    /// Returns the op for rotary embedding. Its operands are the cosines and the sines. `heads` is the axis of the
    /// heads: 1 in `[batch, heads, positions, cols]`, 2 in `[batch, positions, heads, cols]`.
    #[inline]
    pub fn rope(interleaved: bool, heads: usize) -> Self {
        Function::Rope(rope::Rope { interleaved, heads }).into()
    }

    /// Returns the op for 1 / (1 + e^-x) of each element.
    #[inline]
    pub fn sigmoid() -> Self {
        Function::Sigmoid.into()
    }

    /// Returns the op for x / (1 + e^-x) of each element.
    #[inline]
    pub fn silu() -> Self {
        Function::Silu.into()
    }

    /// Returns the op for attention of queries. Its operands are the keys and the values.
    #[inline]
    pub fn attention(options: &Attention<'a>) -> Self {
        let Attention { scale, softcap, mask, sinks, fully_masked } = *options;
        let sinks = sinks.map(|sinks| (0..sinks.len()).filter_map(|i| sinks.get(i)).collect());
        let options = Attention { scale, softcap, mask: None, sinks: None, fully_masked };
        Op { function: Function::Attention(options, sinks), mask: mask.map(Cow::Borrowed) }
    }

    /// Returns the op with a copy of its mask, so that the op borrows nothing.
    #[inline]
    pub fn into_owned(self) -> Op<'static> {
        let mask = self.mask.map(|mask| Cow::Owned(mask.into_owned().into_owned()));
        Op { function: self.function, mask }
    }

    /// Returns the op's name for errors.
    #[inline]
    pub fn name(&self) -> &'static str {
        match &self.function {
            Function::Softmax(..) => "softmax",
            Function::LogSoftmax(..) => "log_softmax",
            Function::RmsNorm { .. } => "rms_norm",
            Function::LayerNorm { .. } => "layer_norm",
            Function::Rope(_) => "rope",
            Function::Sigmoid => "sigmoid",
            Function::Silu => "silu",
            Function::Attention(..) => "attention",
        }
    }

    /// Computes the result and its shape. All arguments must be contiguous. For attention, it suffices that the last
    /// axis of each argument is contiguous.
    #[inline]
    pub fn forward(&self, args: &[View<'_>]) -> Result<(Values, Vec<usize>)> {
        let (x, operands) = args.split_first().ok_or(Error::empty_input(self.name()))?;
        Mask::check_rank(self.mask.as_deref(), self.name(), x.dims.len())?;
        let y: Values = match &self.function {
            Function::Softmax(axis, options) => {
                let options = Softmax { mask: self.mask.as_deref(), ..*options };
                same_type!("softmax", [x => data], crate::softmax(lanes(data, x, *axis)?, &options)?.into())
            }
            Function::LogSoftmax(axis, options) => {
                let options = Softmax { mask: self.mask.as_deref(), ..*options };
                same_type!("log_softmax", [x => data], crate::log_softmax(lanes(data, x, *axis)?, &options)?.into())
            }
            Function::RmsNorm { eps } => norm::rms_norm(x, operands, *eps)?,
            Function::LayerNorm { eps } => norm::layer_norm(x, operands, *eps)?,
            Function::Rope(rope) => rope.forward(x, operands)?,
            Function::Sigmoid => same_type!("sigmoid", [x => data], crate::sigmoid(data)?.into()),
            Function::Silu => same_type!("silu", [x => data], crate::silu(data)?.into()),
            Function::Attention(options, sinks) => {
                let options = attention::options(options, self.mask.as_deref(), sinks.as_deref());
                return attention::forward(x, operands, &options);
            }
        };
        Ok((y, x.dims.to_vec()))
    }

    /// Computes the gradients of the arguments, in their order. The list has `None` for an argument without a gradient.
    /// The list may be shorter if the last arguments have no gradients.
    #[inline]
    pub fn backward(&self, args: &[View<'_>], dy: View<'_>) -> Result<Vec<Option<Values>>> {
        let (x, operands) = args.split_first().ok_or(Error::empty_input(self.name()))?;
        let dx: Values = match &self.function {
            Function::Softmax(axis, options) => {
                let options = Softmax { mask: self.mask.as_deref(), ..*options };
                same_type!("softmax_backward", [x => data, dy => grads], {
                    crate::softmax_backward(lanes(data, x, *axis)?, lanes(grads, &dy, *axis)?, &options)?.into()
                })
            }
            Function::LogSoftmax(axis, options) => {
                let options = Softmax { mask: self.mask.as_deref(), ..*options };
                same_type!("log_softmax_backward", [x => data, dy => grads], {
                    crate::log_softmax_backward(lanes(data, x, *axis)?, lanes(grads, &dy, *axis)?, &options)?.into()
                })
            }
            Function::RmsNorm { eps } => return norm::rms_norm_backward(x, operands, dy, *eps),
            Function::LayerNorm { eps } => return norm::layer_norm_backward(x, operands, dy, *eps),
            Function::Rope(rope) => rope.backward(operands, dy)?,
            Function::Sigmoid => {
                same_type!("sigmoid_backward", [x => x, dy => dy], crate::sigmoid_backward(x, dy)?.into())
            }
            Function::Silu => same_type!("silu_backward", [x => x, dy => dy], crate::silu_backward(x, dy)?.into()),
            Function::Attention(options, sinks) => {
                let options = attention::options(options, self.mask.as_deref(), sinks.as_deref());
                return attention::backward(x, operands, dy, &options);
            }
        };
        Ok(vec![Some(dx)])
    }
}

impl From<Function> for Op<'_> {
    fn from(function: Function) -> Self {
        Op { function, mask: None }
    }
}

/// Draws a token from each row along the last axis; see [`sample_rows`](crate::sample_rows).
#[inline]
pub fn sample_rows(
    logits: View<'_>,
    mask: Option<&Mask<'_>>,
    requests: &[Request<'_>],
) -> Result<Vec<Result<Sampled>>> {
    Mask::check_rank(mask, "sample", logits.dims.len())?;
    same_type!("sample", [logits => data], crate::sample_rows(rows(data, &logits)?, mask, requests))
}

/// Returns the error for a tensor that is not on the CPU.
#[inline]
pub fn not_on_cpu(op: &'static str, device: impl Debug) -> Error {
    Error::unavailable(format!("{device:?}"), format!("{op} of candle_adapter supports only tensors on the CPU"))
}

/// Returns the lanes along an axis. A shape with more than [`MAX_RANK`] axes is folded to three axes.
fn lanes<'a, E: Element>(data: &'a [E], of: &View<'_>, axis: usize) -> Result<Lanes<'a, E>> {
    if of.dims.len() <= MAX_RANK {
        return Lanes::shaped(data, of.dims, axis as isize);
    }
    let (outer, inner) = (&of.dims[..axis], &of.dims[axis + 1..]);
    Lanes::new(data, outer.iter().product(), of.dims[axis], inner.iter().product())
}

/// Returns the rows along the last axis. A shape with more than [`MAX_RANK`] axes is folded to two axes.
fn rows<'a, E: Element>(data: &'a [E], of: &View<'_>) -> Result<Rows<'a, E>> {
    match of.dims.split_last() {
        Some((&cols, outer)) if outer.len() >= MAX_RANK => Rows::new(data, outer.iter().product(), cols),
        _ => Rows::shaped(data, of.dims),
    }
}
