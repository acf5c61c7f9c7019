//! Entry points of the CPU backend that ops call, for each storage type.
//!
//! Kernels are compiled here, once for each storage type. A generic function would be compiled again, for every
//! instruction set, in each crate that calls it.
//!
//! `simd::run` runs kernels in the default floating-point environment. Entry points that compute outside of kernels,
//! for example to add up tiles, call `in_default` themselves.

use super::*;
use crate::error::Result;
use crate::for_each_elementwise;
use crate::report::Counts;
use crate::rows::{Lanes, LanesMut, Rows, RowsMut};
use crate::simd::{Output, in_default};
use half::{bf16, f16};
use lanes::GuardCounts;

/// Result of a kernel, with its guard counts.
type Seen<T> = Result<(T, GuardCounts)>;

/// Passes the list of entry points, grouped by feature, to a macro. The functions of one element are in
/// `for_each_elementwise!` of `src/registry.rs`.
macro_rules! each_kernel {
    ($then:ident $($element:ident)?) => {
        $then! {
            $($element)?
            feature "inference" {
                lanes {
                    group_norm group_norm_in_place group_norm::GroupNorm<'_>;
                    l2_normalize l2_normalize_in_place l2_normalize::L2Normalize;
                    layer_norm layer_norm_in_place layer_norm::LayerNorm<'_>;
                    log_softmax log_softmax_in_place log_softmax::LogSoftmax<'_>;
                    qk_norm_rope qk_norm_rope_in_place qk_norm_rope::QkNormRope<'_>;
                    rms_norm rms_norm_in_place rms_norm::RmsNorm<'_>;
                    rope rope_in_place rope::Rope<'_>;
                    softmax softmax_in_place scores::LogitTransform<'_>;
                }
                fn attention<'a>(
                    call: attention::Attention<'_, Self>,
                    parts: Option<&[attention::Parts]>,
                    out: Output<'a, Self>,
                    lse: Option<&mut [f64]>,
                ) -> Seen<&'a mut [Self]> {
                    attention::apply(call, parts, out, lse)
                }
                fn clamped_exp<'a>(x: &[Self], out: Output<'a, Self>, function: elementwise::ClampedExp) -> Result<&'a mut [Self]> {
                    elementwise::apply(x, out, &function)
                }
                fn clamped_exp_in_place(x: &mut [Self], function: elementwise::ClampedExp) -> Result<()> {
                    elementwise::apply_in_place(x, &function)
                }
                fn clamped_log<'a>(x: &[Self], out: Output<'a, Self>, function: elementwise::ClampedLog) -> Result<&'a mut [Self]> {
                    elementwise::apply(x, out, &function)
                }
                fn clamped_log_in_place(x: &mut [Self], function: elementwise::ClampedLog) -> Result<()> {
                    elementwise::apply_in_place(x, &function)
                }
                fn gradient<'a>(x: &[Self], dy: &[Self], out: Output<'a, Self>, of: elementwise_backward::Gradient) -> Result<&'a mut [Self]> {
                    pairwise::apply(dy, x, out, of)
                }
                fn gradient_in_place(x: &[Self], dy: &mut [Self], of: elementwise_backward::Gradient) -> Result<()> {
                    pairwise::apply_in_place(dy, x, of)
                }
                fn logsumexp<'a>(
                    x: Lanes<'_, Self>,
                    out: Output<'a, Self>,
                    scores: scores::LogitTransform<'_>,
                ) -> Seen<&'a mut [Self]> {
                    logsumexp::apply(x, out, scores)
                }
                fn mean_pool<'a>(
                    x: Lanes<'_, Self>,
                    out: Output<'a, Self>,
                    pool: mean_pool::MeanPool<'_>,
                ) -> Seen<&'a mut [Self]> {
                    mean_pool::apply(x, out, pool)
                }
                fn pairwise<'a>(x: &[Self], other: &[Self], out: Output<'a, Self>, of: pairwise::Function) -> Result<&'a mut [Self]> {
                    pairwise::apply(x, other, out, of)
                }
                fn pairwise_in_place(x: &mut [Self], other: &[Self], of: pairwise::Function) -> Result<()> {
                    pairwise::apply_in_place(x, other, of)
                }
                fn rms_norm_linear<'a>(
                    x: Rows<'_, Self>,
                    out: RowsMut<'a, Self>,
                    call: rms_norm_linear::RmsNormLinear<'_, Self>,
                ) -> Seen<&'a mut [Self]> {
                    in_default(|| rms_norm_linear::apply(x, out, call))
                }
                fn rms_norm_residual<'a>(
                    x: [Rows<'_, Self>; 2],
                    out: [RowsMut<'a, Self>; 2],
                    kernel: rms_norm::RmsNorm<'_>,
                ) -> Seen<[&'a mut [Self]; 2]> {
                    rms_norm::with_residual(x, out, kernel)
                }
                fn rms_norm_residual_in_place(
                    op: &'static str,
                    x: [RowsMut<'_, Self>; 2],
                    kernel: rms_norm::RmsNorm<'_>,
                ) -> Result<GuardCounts> {
                    rms_norm::with_residual_in_place(op, x, kernel)
                }
                fn swiglu<'a>(gate: &[Self], up: &[Self], out: Output<'a, Self>) -> Result<&'a mut [Self]> {
                    swiglu::apply(gate, up, out)
                }
                fn swiglu_in_place(gate: &mut [Self], up: &[Self]) -> Result<()> {
                    swiglu::apply_in_place(gate, up)
                }
            }
            feature "train" {
                lanes {
                    log_softmax_backward log_softmax_backward_in_place log_softmax_backward::LogSoftmaxBackward<'_, Self>;
                    logsumexp_backward logsumexp_backward_in_place logsumexp_backward::LogSumExpBackward<'_, Self>;
                    norm_backward norm_backward_in_place norm_backward::NormBackward<'_, Self>;
                    output_backward output_backward_in_place output_backward::OutputBackward<'_, Self>;
                    softmax_backward softmax_backward_in_place softmax_backward::SoftmaxBackward<'_, Self>;
                }
                fn attention_backward<'a>(
                    call: attention_backward::AttentionBackward<'_, Self>,
                    out: [Output<'a, Self>; 3],
                    dsinks: &mut [f64],
                ) -> Seen<[&'a mut [Self]; 3]> {
                    attention_backward::apply(call, out, dsinks)
                }
                fn clip_value(x: &mut [Self], limit: f64) -> Result<clip_grad_value::NonFinite> {
                    in_default(|| clip_grad_value::clip(x, limit))
                }
                fn cross_entropy(
                    x: Rows<'_, Self>,
                    losses: &mut [cross_entropy::RowLoss],
                    kernel: cross_entropy::CrossEntropy<'_>,
                ) -> Result<Counts> {
                    cross_entropy::losses(x, losses, kernel)
                }
                fn cross_entropy_backward<'a>(
                    x: Rows<'_, Self>,
                    out: RowsMut<'a, Self>,
                    losses: &mut [cross_entropy::RowLoss],
                    kernel: cross_entropy_backward::Gradient<'_>,
                ) -> Result<(&'a mut [Self], Counts)> {
                    cross_entropy_backward::apply(x, out, losses, kernel)
                }
                fn cross_entropy_backward_in_place(
                    op: &'static str,
                    x: RowsMut<'_, Self>,
                    losses: &mut [cross_entropy::RowLoss],
                    kernel: cross_entropy_backward::Gradient<'_>,
                ) -> Result<Counts> {
                    cross_entropy_backward::apply_in_place(op, x, losses, kernel)
                }
                fn finite(x: &[Self]) -> Result<crate::stats::Finite> {
                    inspect::finite(x)
                }
                fn inspect(x: &[Self]) -> Result<crate::stats::Stats> {
                    in_default(|| inspect::inspect(x))
                }
                fn loss_gradients<'a>(
                    x: Rows<'_, Self>,
                    out: RowsMut<'a, Self>,
                    losses: &mut [f64],
                    each: usize,
                    op: row_loss::LossOp<'_>,
                ) -> Result<(&'a mut [Self], Counts)> {
                    row_loss::gradients(x, out, losses, each, op)
                }
                fn loss_gradients_in_place(
                    name: &'static str,
                    x: RowsMut<'_, Self>,
                    losses: &mut [f64],
                    each: usize,
                    op: row_loss::LossOp<'_>,
                ) -> Result<Counts> {
                    row_loss::gradients_in_place(name, x, losses, each, op)
                }
                fn losses(x: Rows<'_, Self>, losses: &mut [f64], each: usize, op: row_loss::LossOp<'_>) -> Result<Counts> {
                    row_loss::losses(x, losses, each, op)
                }
                fn mean_pool_backward<'a>(
                    dy: &[Self],
                    dx: LanesMut<'a, Self>,
                    pool: mean_pool::MeanPool<'_>,
                ) -> Seen<&'a mut [Self]> {
                    mean_pool_backward::apply(dy, dx, pool)
                }
                fn norm_columns(
                    x: [Rows<'_, Self>; 2],
                    norm: norm_backward::Norm<'_>,
                    moments: &[moments::Moments],
                    sums: [&mut [f64]; 2],
                ) -> Result<()> {
                    norm_columns::sums(x, norm, moments, sums)
                }
                fn norm_moments(x: Rows<'_, Self>, norm: norm_backward::Norm<'_>) -> Result<Vec<moments::Moments>> {
                    norm_columns::moments(x, norm)
                }
                fn norm_part(x: &[Self], norm_type: crate::options::NormType) -> Result<clip_grad_norm::TensorNorm> {
                    in_default(|| clip_grad_norm::part(x, norm_type))
                }
                fn scale(x: &mut [Self], scale: clip_grad_norm::Scale) -> Result<()> {
                    clip_grad_norm::scale(x, scale)
                }
                fn swiglu_backward<'a>(
                    operands: [&[Self]; 3],
                    out: [Output<'a, Self>; 2],
                ) -> Result<[&'a mut [Self]; 2]> {
                    swiglu_backward::apply(operands, out)
                }
                fn swiglu_backward_in_place(operands: [&mut [Self]; 2], dy: &[Self]) -> Result<()> {
                    swiglu_backward::apply_in_place(operands, dy)
                }
            }
            feature "sample" {
                lanes {}
                fn samples<T: crate::sampler::FromLeft>(
                    logits: Rows<'_, Self>,
                    mask: Option<crate::mask::Resolved<'_>>,
                    requests: &crate::sampler::Requests<'_, '_>,
                    out: &mut [Result<T>],
                ) -> Result<Counts> {
                    sample::each_row(logits, mask, requests, out)
                }
            }
            feature "partial" {
                lanes {}
                fn attention_parts(call: attention::Attention<'_, Self>) -> Result<attention::Parts> {
                    attention::Parts::of(call)
                }
                fn cross_entropy_found(
                    x: Rows<'_, Self>,
                    part: cross_entropy_partial::LossShard<'_>,
                ) -> Result<Vec<softmax_partial::ShardStats>> {
                    cross_entropy_partial::find(x, part)
                }
                fn cross_entropy_gradients<'a>(
                    x: Rows<'_, Self>,
                    out: RowsMut<'a, Self>,
                    gradients: cross_entropy_partial::Gradients<'_>,
                ) -> Seen<&'a mut [Self]> {
                    lanes::apply(x.into(), out.into(), &gradients)
                }
                fn cross_entropy_gradients_in_place(
                    op: &'static str,
                    x: RowsMut<'_, Self>,
                    gradients: cross_entropy_partial::Gradients<'_>,
                ) -> Result<GuardCounts> {
                    lanes::apply_in_place(op, x.into(), &gradients)
                }
                fn cross_entropy_logs(
                    all: usize,
                    found: &[softmax_partial::ShardStats],
                    sums: &[cross_entropy_partial::Sums],
                ) -> Result<Vec<f64>> {
                    cross_entropy_partial::logs::<Self>(all, found, sums)
                }
                fn cross_entropy_sums(
                    x: Rows<'_, Self>,
                    part: cross_entropy_partial::LossShard<'_>,
                    found: &[softmax_partial::ShardStats],
                ) -> Result<Vec<cross_entropy_partial::Sums>> {
                    cross_entropy_partial::sums(x, part, found)
                }
                fn layer_norm_part<'a>(
                    x: Rows<'_, Self>,
                    out: RowsMut<'a, Self>,
                    part: norm_partial::ShardNorm<'_, layer_norm::LayerNorm<'_>>,
                ) -> Seen<&'a mut [Self]> {
                    lanes::apply(x.into(), out.into(), &part)
                }
                fn norm_found(
                    x: Rows<'_, Self>,
                    question: norm_partial::Question<'_>,
                ) -> Result<Vec<norm_partial::ShardStats>> {
                    norm_partial::ask(x, question)
                }
                fn rms_norm_part<'a>(
                    x: Rows<'_, Self>,
                    out: RowsMut<'a, Self>,
                    part: norm_partial::ShardNorm<'_, rms_norm::RmsNorm<'_>>,
                ) -> Seen<&'a mut [Self]> {
                    lanes::apply(x.into(), out.into(), &part)
                }
                fn softmax_found(
                    x: Rows<'_, Self>,
                    part: softmax_partial::LogitShard<'_>,
                ) -> Result<Vec<softmax_partial::ShardStats>> {
                    softmax_partial::find(x, part)
                }
                fn softmax_logs(
                    all: usize,
                    found: &[softmax_partial::ShardStats],
                    sums: &[exp_sum::ExpSum],
                ) -> Result<Vec<f64>> {
                    softmax_partial::logs::<Self>(all, found, sums)
                }
                fn softmax_store<'a>(
                    x: Rows<'_, Self>,
                    out: RowsMut<'a, Self>,
                    store: softmax_partial::Store<'_>,
                ) -> Seen<&'a mut [Self]> {
                    lanes::apply(x.into(), out.into(), &store)
                }
                fn softmax_sums(
                    x: Rows<'_, Self>,
                    part: softmax_partial::LogitShard<'_>,
                    found: &[softmax_partial::ShardStats],
                    of: softmax_partial::For,
                ) -> Result<Vec<exp_sum::ExpSum>> {
                    softmax_partial::sums(x, part, found, of)
                }
            }
            feature "sharded" {
                lanes {}
                fn norm_backward_largest(
                    dy: Rows<'_, Self>,
                    norm: norm_backward::Norm<'_>,
                ) -> Result<Vec<norm_backward::partial::Largest>> {
                    norm_backward::partial::largest_of_each(dy, norm)
                }
                fn norm_backward_tiles(
                    dy: Rows<'_, Self>,
                    part: norm_backward::partial::ShardInput<'_, Self>,
                ) -> Result<Vec<norm_backward::partial::OfTiles>> {
                    norm_backward::partial::tiles_of_each(dy, part)
                }
                fn norm_tiles(x: &[Self], norm_type: crate::options::NormType, unit: f64) -> Result<clip_grad_norm::Tiles> {
                    in_default(|| clip_grad_norm::tiles(x, norm_type, unit))
                }
                fn scores_backward_largest(
                    part: scores_backward::partial::ShardInput<'_, Self>,
                    dy: Rows<'_, Self>,
                ) -> Result<Vec<f64>> {
                    scores_backward::partial::largest_of_each(part, dy)
                }
                fn scores_backward_store<'a>(
                    part: scores_backward::partial::ShardInput<'_, Self>,
                    dy: Rows<'_, Self>,
                    out: RowsMut<'a, Self>,
                    sums: &[scores_backward::partial::RowSums],
                ) -> Seen<&'a mut [Self]> {
                    scores_backward::partial::store(part, dy, out, sums)
                }
                fn scores_backward_terms(
                    part: scores_backward::partial::ShardInput<'_, Self>,
                    dy: Rows<'_, Self>,
                    largest: &[f64],
                ) -> Result<Vec<Vec<partial_tiles::PartialTiles>>> {
                    scores_backward::partial::terms_of_each(part, dy, largest)
                }
            }
        }
    };
}

macro_rules! declare_elementwise {
    ($($name:ident $Op:ident $formula:literal [$into:ident $in_place:ident] $derivative:ident $gradient:tt;)*) => {$(
        #[doc(hidden)]
        fn $name<'a>(x: &[Self], out: Output<'a, Self>) -> Result<&'a mut [Self]>;
        #[doc(hidden)]
        fn $in_place(x: &mut [Self]) -> Result<()>;
    )*};
}

macro_rules! implement_elementwise {
    ($($name:ident $Op:ident $formula:literal [$into:ident $in_place:ident] $derivative:ident $gradient:tt;)*) => {$(
        fn $name<'a>(x: &[Self], out: Output<'a, Self>) -> Result<&'a mut [Self]> {
            elementwise::apply(x, out, &elementwise::$Op)
        }
        fn $in_place(x: &mut [Self]) -> Result<()> {
            elementwise::apply_in_place(x, &elementwise::$Op)
        }
    )*};
}

macro_rules! declare {
    ($(feature $family:literal {
        lanes { $($lane:ident $lane_in_place:ident $kernel:ty;)* }
        $(fn $name:ident $(<$life:lifetime>)? $(<$generic:ident: $bound:path>)? (
            $($argument:ident: $type:ty),* $(,)?
        ) -> $result:ty $body:block)*
    })*) => {
        /// Entry points of one storage type: the sealed part of [`Element`](crate::Element) that ops call.
        pub trait Kernels: Sized {
            #[cfg(feature = "inference")]
            for_each_elementwise!(declare_elementwise);
            $(
                $(
                    #[cfg(feature = $family)]
                    #[doc(hidden)]
                    fn $lane<'a>(x: Lanes<'_, Self>, out: LanesMut<'a, Self>, kernel: $kernel) -> Seen<&'a mut [Self]>;
                    #[cfg(feature = $family)]
                    #[doc(hidden)]
                    fn $lane_in_place(op: &'static str, x: LanesMut<'_, Self>, kernel: $kernel) -> Result<GuardCounts>;
                )*
                $(
                    #[cfg(feature = $family)]
                    #[doc(hidden)]
                    fn $name $(<$life>)? $(<$generic: $bound>)? ($($argument: $type),*) -> $result;
                )*
            )*
        }
    };
}

macro_rules! implement {
    ($element:ident $(feature $family:literal {
        lanes { $($lane:ident $lane_in_place:ident $kernel:ty;)* }
        $(fn $name:ident $(<$life:lifetime>)? $(<$generic:ident: $bound:path>)? (
            $($argument:ident: $type:ty),* $(,)?
        ) -> $result:ty $body:block)*
    })*) => {
        impl Kernels for $element {
            #[cfg(feature = "inference")]
            for_each_elementwise!(implement_elementwise);
            $(
                $(
                    #[cfg(feature = $family)]
                    fn $lane<'a>(x: Lanes<'_, Self>, out: LanesMut<'a, Self>, kernel: $kernel) -> Seen<&'a mut [Self]> {
                        lanes::apply(x, out, &kernel)
                    }
                    #[cfg(feature = $family)]
                    fn $lane_in_place(op: &'static str, x: LanesMut<'_, Self>, kernel: $kernel) -> Result<GuardCounts> {
                        lanes::apply_in_place(op, x, &kernel)
                    }
                )*
                $(
                    #[cfg(feature = $family)]
                    fn $name $(<$life>)? $(<$generic: $bound>)? ($($argument: $type),*) -> $result $body
                )*
            )*
        }
    };
}

each_kernel!(declare);
each_kernel!(implement f64);
each_kernel!(implement f32);
each_kernel!(implement f16);
each_kernel!(implement bf16);
