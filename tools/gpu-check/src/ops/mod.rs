//! Defines how to call each op on the CPU and on the device.
//!
//! To add an op, write an `impl Op` here and add its line to [`each_op!`](crate::each_op).

pub mod adamw;
pub mod attention_decode;
pub mod clip_grad_norm;
pub mod elementwise;
pub mod losses;
pub mod norms;
pub mod rope;
pub mod sample;
pub mod scores;

use crate::error::Result;
use crate::memory::{Placed, Stream};
use evenkeel::cuda::clip_grad_norm::Gradient;
use evenkeel::cuda::cudarc::driver::{CudaView, CudaViewMut};
use evenkeel::cuda::{DeviceElement, Operand, OperandMut};
use evenkeel::testing::values::Bits;
use half::{bf16, f16};

/// Calls `$then!` with the Rust path of each op's type, in the order of the report's table.
#[macro_export]
macro_rules! each_op {
    ($then:ident) => {
        $then!($crate::ops::scores::Softmax);
        $then!($crate::ops::scores::SoftmaxMasked);
        $then!($crate::ops::scores::LogSoftmax);
        $then!($crate::ops::scores::LogSoftmaxMasked);
        $then!($crate::ops::scores::LogSumExp);
        $then!($crate::ops::scores::LogSumExpMasked);
        $then!($crate::ops::scores::SoftmaxBackward);
        $then!($crate::ops::scores::SoftmaxBackwardMasked);
        $then!($crate::ops::scores::LogSoftmaxBackward);
        $then!($crate::ops::scores::LogSoftmaxBackwardMasked);
        $then!($crate::ops::scores::LogSumExpBackward);
        $then!($crate::ops::scores::LogSumExpBackwardMasked);
        $then!($crate::ops::losses::CrossEntropy);
        $then!($crate::ops::losses::CrossEntropyBackward);
        $then!($crate::ops::norms::RmsNorm);
        $then!($crate::ops::norms::RmsNormResidual);
        $then!($crate::ops::norms::LayerNorm);
        $then!($crate::ops::norms::RmsNormBackward);
        $then!($crate::ops::norms::LayerNormBackward);
        $then!($crate::ops::rope::Rope);
        $then!($crate::ops::rope::RopeBackward);
        $then!($crate::ops::rope::QkNormRope);
        $then!($crate::ops::attention_decode::AttentionDecode);
        $then!($crate::ops::attention_decode::AttentionDecodeShort);
        $then!($crate::ops::clip_grad_norm::ClipGradNorm);
        $then!($crate::ops::adamw::AdamW);
        $then!($crate::ops::sample::Sample);
        $then!($crate::ops::sample::SampleLogprobs);
        $then!($crate::ops::elementwise::Exp);
        $then!($crate::ops::elementwise::Exp2);
        $then!($crate::ops::elementwise::Expm1);
        $then!($crate::ops::elementwise::ClampedExp);
        $then!($crate::ops::elementwise::Log);
        $then!($crate::ops::elementwise::Log1p);
        $then!($crate::ops::elementwise::Log2);
        $then!($crate::ops::elementwise::ClampedLog);
        $then!($crate::ops::elementwise::Sqrt);
        $then!($crate::ops::elementwise::Rsqrt);
        $then!($crate::ops::elementwise::Reciprocal);
        $then!($crate::ops::elementwise::SafeDiv);
        $then!($crate::ops::elementwise::Sigmoid);
        $then!($crate::ops::elementwise::Silu);
        $then!($crate::ops::elementwise::Tanh);
        $then!($crate::ops::elementwise::Erf);
        $then!($crate::ops::elementwise::Gelu);
        $then!($crate::ops::elementwise::GeluTanh);
        $then!($crate::ops::elementwise::Softplus);
        $then!($crate::ops::elementwise::LogSigmoid);
        $then!($crate::ops::elementwise::LogAddExp);
        $then!($crate::ops::elementwise::Swiglu);
        $then!($crate::ops::elementwise::SwigluBackward);
        $then!($crate::ops::elementwise::ExpBackward);
        $then!($crate::ops::elementwise::Exp2Backward);
        $then!($crate::ops::elementwise::Expm1Backward);
        $then!($crate::ops::elementwise::ClampedExpBackward);
        $then!($crate::ops::elementwise::LogBackward);
        $then!($crate::ops::elementwise::Log1pBackward);
        $then!($crate::ops::elementwise::Log2Backward);
        $then!($crate::ops::elementwise::ClampedLogBackward);
        $then!($crate::ops::elementwise::SqrtBackward);
        $then!($crate::ops::elementwise::RsqrtBackward);
        $then!($crate::ops::elementwise::ReciprocalBackward);
        $then!($crate::ops::elementwise::SigmoidBackward);
        $then!($crate::ops::elementwise::SiluBackward);
        $then!($crate::ops::elementwise::TanhBackward);
        $then!($crate::ops::elementwise::ErfBackward);
        $then!($crate::ops::elementwise::GeluBackward);
        $then!($crate::ops::elementwise::GeluTanhBackward);
        $then!($crate::ops::elementwise::SoftplusBackward);
        $then!($crate::ops::elementwise::LogSigmoidBackward);
    };
}

pub fn names() -> Vec<&'static str> {
    let mut names = Vec::new();
    macro_rules! name {
        ($op:ty) => {
            names.push(<$op as Op>::NAME)
        };
    }
    each_op!(name);
    names
}

/// Number of rows and columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    pub rows: usize,
    pub cols: usize,
}

impl Shape {
    pub fn elements(self) -> usize {
        self.rows * self.cols
    }
}

impl std::fmt::Display for Shape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}x{}", self.rows, self.cols)
    }
}

/// Number of elements of an argument or a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// One number for each element of the shape.
    Whole,
    /// One number for each row.
    Rows,
    /// One number for each column: a weight or its gradient.
    Columns,
    /// Queries or results of attention, which have [`QUERIES`] rows.
    Queries,
    /// Keys or values of attention: one number for each element of the shape. Few of them are hostile, because a result
    /// depends on many rows.
    Cache,
}

/// Number of queries in a call of attention.
pub const QUERIES: usize = 48;

impl Extent {
    pub fn len(self, shape: Shape) -> usize {
        match self {
            Extent::Whole | Extent::Cache => shape.elements(),
            Extent::Queries => QUERIES * shape.cols,
            Extent::Rows => shape.rows,
            Extent::Columns => shape.cols,
        }
    }
}

/// Results of a call.
pub struct Results<E> {
    /// One list for each entry of [`Op::WRITTEN`]. A list is empty if the call does not write that result.
    pub written: Vec<Vec<E>>,
    /// Bits of the results whose type is not `E`.
    pub words: Vec<u64>,
}

impl<E> From<Vec<Vec<E>>> for Results<E> {
    fn from(written: Vec<Vec<E>>) -> Self {
        Results { written, words: Vec::new() }
    }
}

/// A call on the device. Everything is prepared except the memory for [`Op::READ`] and [`Op::WRITTEN`].
pub trait Ready<E> {
    /// Writes the initial contents of the results, if the op reads them.
    fn fill(&mut self, _read: &[Placed<E>], _written: &mut [Placed<E>]) -> Result<()> {
        Ok(())
    }

    fn launch(&mut self, read: &[Placed<E>], written: &mut [Placed<E>]) -> Result<()>;

    /// Returns the [`Results::words`].
    fn words(&self) -> Result<Vec<u64>> {
        Ok(Vec::new())
    }
}

impl<E, F: FnMut(&[Placed<E>], &mut [Placed<E>]) -> Result<()>> Ready<E> for F {
    fn launch(&mut self, read: &[Placed<E>], written: &mut [Placed<E>]) -> Result<()> {
        self(read, written)
    }
}

/// An op of `evenkeel::cuda`.
pub trait Op {
    const NAME: &'static str;
    const READ: &'static [Extent];
    const WRITTEN: &'static [Extent];
    /// Number of times that the op reads all elements again, in addition to [`Op::READ`].
    const AGAIN: usize = 0;
    /// Whether the results of a row depend only on that row and on the weights.
    const IS_OF_ROWS: bool = true;
    /// Names of the forms of the call, such as with an option or without weights.
    const WAYS: &'static [&'static str] = &["plain"];
    /// A check that is limited to small shapes runs only every n-th case, where n is this number. With `--part P`, it
    /// runs every n / P-th of the remaining cases, rounded up. Such checks run kernels on an interpreter, so slow ops
    /// have a larger n. n is not a multiple of 3 and has no common divisor with the number of forms, so that without
    /// `--part` each form has aligned and unaligned cases.
    const SMALL_CASE_STEP: usize = 1;

    /// Returns a shape that the op accepts.
    fn shape(shape: Shape) -> Shape {
        shape
    }

    fn on_cpu<E: Number>(shape: Shape, way: usize, read: &[Vec<E>]) -> Result<Results<E>>;

    fn on_device<E: Number>(stream: &Stream, shape: Shape, way: usize) -> Result<impl Ready<E>>;

    /// Returns the smallest number of bytes that the op has to read and write.
    fn bytes<E>(shape: Shape) -> usize {
        let moved = Self::READ.iter().chain(Self::WRITTEN);
        size_of::<E>() * (moved.map(|extent| extent.len(shape)).sum::<usize>() + Self::AGAIN * shape.elements())
    }
}

/// An element type that devices support.
pub trait Number: DeviceElement + Bits {
    fn operand(view: CudaView<'_, Self>) -> Operand<'_>;
    fn operand_mut(view: CudaViewMut<'_, Self>) -> OperandMut<'_>;
    fn to_clip(view: CudaViewMut<'_, Self>) -> Gradient<'_>;
}

macro_rules! numbers {
    ($($type:ty),*) => {
        $(impl Number for $type {
            fn operand(view: CudaView<'_, Self>) -> Operand<'_> {
                view.into()
            }
            fn operand_mut(view: CudaViewMut<'_, Self>) -> OperandMut<'_> {
                view.into()
            }
            fn to_clip(view: CudaViewMut<'_, Self>) -> Gradient<'_> {
                view.into()
            }
        })*
    };
}
numbers!(f32, f16, bf16);

/// Returns the rows of a slice.
pub fn rows<E: Number>(x: &[E], shape: Shape) -> Result<evenkeel::Rows<'_, E>> {
    Ok(evenkeel::Rows::new(x, shape.rows, shape.cols)?)
}
