//! Ops of the comparison. To add an op, add its file here, its line in `each_op!`, and its function in
//! `python/*_ops.py`.

mod attention;
mod attention_backward;
mod clip_grad_norm;
mod cross_entropy;
mod cross_entropy_backward;
mod layer_norm;
mod layer_norm_backward;
mod log_softmax;
mod logsumexp;
mod masked_softmax;
mod qk_norm_rope;
mod rms_norm;
mod rms_norm_backward;
mod rms_norm_linear;
mod sample;
mod shapes;
mod softmax;
mod softmax_backward;
mod swiglu;
mod unary;

use crate::contender::Contender;
use crate::float::Float;
use crate::inputs::Distribution;
use crate::peers::Rten;
use crate::problem::{Problem, Shape};
use anyhow::Result;

/// Shape of a call's result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Results {
    /// A number for each element.
    Elements,
    /// A number for each row.
    Rows,
    /// One row of results for each matrix. The last two axes of the shape are the axes of a matrix.
    Matrices,
    /// A single number.
    One,
    /// A token for each row. The exact result of a row is a list of the tokens that a contender may draw.
    Tokens,
}

impl Results {
    /// Returns the number of results in a row of `cols` columns.
    pub fn of_row(self, cols: usize) -> usize {
        if matches!(self, Results::Elements | Results::Matrices) { cols } else { 1 }
    }

    /// Returns the number of rows of results.
    pub fn rows(self, shape: Shape) -> usize {
        match self {
            Results::Elements | Results::Rows | Results::Tokens => shape.rows(),
            Results::Matrices => shape.rows() / shape.0[shape.0.len() - 2],
            Results::One => 1,
        }
    }
}

pub trait Op {
    /// Name on the command line and in tables.
    const NAME: &'static str;
    /// Shape of the results: [`Results::Elements`] by default.
    const RESULTS: Results = Results::Elements;
    /// Distribution of the inputs.
    const INPUTS: Distribution = Distribution::Normal;
    /// Whether the results of each row sum to 1.
    const SUMS_TO_ONE: bool = false;
    /// Name of evenkeel's op whose accuracy bound defines the unit of error.
    const BOUND: &'static str = Self::NAME;
    const DTYPES: &'static [&'static str] = &["f32", "f16", "bf16"];
    /// Shapes; `--quick` uses the first two.
    const SHAPES: &'static [Shape];

    /// Computes one row of exact results. For [`Results::One`], computes the single result of all rows.
    fn exact<E: Float>(problem: &Problem<E>, row: usize) -> Vec<f64>;

    /// Returns the implementations in this program. `rten` is `None` if its library was not built.
    fn contenders<'a, E: Float>(problem: &'a Problem<E>, rten: Option<&'a Rten>) -> Result<Vec<Contender<'a, E>>>;
}

/// A visitor of all ops.
pub trait Visit {
    fn op<O: Op>(&mut self) -> Result<()>;
}

macro_rules! each_op {
    ($($op:ty),* $(,)?) => {
        /// Visits every op, in the order of the tables.
        pub fn each(visitor: &mut impl Visit) -> Result<()> {
            $(visitor.op::<$op>()?;)*
            Ok(())
        }
    };
}
each_op! {
    softmax::Softmax,
    log_softmax::LogSoftmax,
    logsumexp::LogSumExp,
    masked_softmax::Causal,
    masked_softmax::Additive,
    masked_softmax::Flags,
    attention::Prefill,
    attention::Decode,
    rms_norm::RmsNorm,
    layer_norm::LayerNorm,
    qk_norm_rope::QkNormRope,
    rms_norm_linear::RmsNormLinear,
    swiglu::Swiglu,
    unary::Exp,
    unary::Log,
    unary::Sigmoid,
    unary::Silu,
    unary::Tanh,
    unary::Erf,
    unary::Gelu,
    softmax_backward::SoftmaxBackward,
    softmax_backward::LogSoftmaxBackward,
    attention_backward::AttentionBackward,
    rms_norm_backward::RmsNormBackward,
    layer_norm_backward::LayerNormBackward,
    cross_entropy::CrossEntropy,
    cross_entropy_backward::CrossEntropyBackward,
    clip_grad_norm::GradNorm,
    clip_grad_norm::ClipGradNorm,
    sample::Argmax,
    sample::All,
    sample::TopK,
    sample::TopKFlat,
    sample::TopP,
    sample::TopPFlat,
    sample::TopPPeaked,
    sample::TopKTopP,
    sample::MinP,
    sample::MinPFlat,
    sample::MinPPeaked,
}
