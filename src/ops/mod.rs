//! Public functions of the ops, with their options, argument checks and documentation.
//!
//! Most ops have three functions with the same order of arguments: one that allocates the result, `_into` (writes to a
//! slice or uninitialised memory), and `_in_place`. The documentation here defines the result of each op.
//! [`crate::reference`] computes the result in plain loops, and `cpu` has the optimised kernels.

#![forbid(unsafe_code)]

#[macro_use]
pub(crate) mod elementwise;

#[cfg(feature = "inference")]
pub mod attention;
#[cfg(feature = "train")]
pub mod attention_backward;
#[cfg(feature = "partial")]
pub mod attention_partial;
#[cfg(feature = "train")]
pub mod bce_with_logits;
#[cfg(feature = "inference")]
pub mod clamped_exp;
#[cfg(feature = "inference")]
pub mod clamped_log;
#[cfg(feature = "train")]
pub mod clip_grad_norm;
#[cfg(feature = "train")]
pub mod clip_grad_value;
#[cfg(feature = "partial")]
mod columns;
#[cfg(feature = "train")]
pub mod cross_entropy;
#[cfg(feature = "train")]
pub mod cross_entropy_backward;
#[cfg(feature = "partial")]
pub mod cross_entropy_partial;
#[cfg(feature = "inference")]
pub mod group_norm;
#[cfg(feature = "train")]
pub mod inspect;
#[cfg(feature = "train")]
pub mod kl_div;
#[cfg(feature = "inference")]
pub mod l2_normalize;
#[cfg(feature = "inference")]
pub mod layer_norm;
#[cfg(feature = "train")]
pub mod layer_norm_backward;
#[cfg(feature = "inference")]
pub mod log_add_exp;
#[cfg(feature = "inference")]
pub mod log_softmax;
#[cfg(feature = "train")]
pub mod log_softmax_backward;
#[cfg(feature = "train")]
pub mod log_softmax_backward_from_output;
#[cfg(feature = "inference")]
pub mod logsumexp;
#[cfg(feature = "train")]
pub mod logsumexp_backward;
#[cfg(feature = "train")]
pub mod loss;
#[cfg(feature = "inference")]
pub mod mean_pool;
#[cfg(feature = "train")]
pub mod mean_pool_backward;
#[cfg(feature = "train")]
pub(crate) mod norm_backward;
#[cfg(feature = "partial")]
pub mod norm_partial;
#[cfg(feature = "inference")]
pub mod qk_norm_rope;
#[cfg(feature = "inference")]
pub mod rms_norm;
#[cfg(feature = "train")]
pub mod rms_norm_backward;
#[cfg(feature = "inference")]
pub mod rms_norm_linear;
#[cfg(feature = "inference")]
pub mod rope;
#[cfg(feature = "train")]
pub mod rope_backward;
#[cfg(feature = "inference")]
pub mod safe_div;
#[cfg(feature = "sample")]
pub mod sample;
#[cfg(feature = "inference")]
pub mod softmax;
#[cfg(feature = "train")]
pub mod softmax_backward;
#[cfg(feature = "train")]
pub mod softmax_backward_from_output;
#[cfg(feature = "partial")]
pub mod softmax_partial;
#[cfg(feature = "inference")]
pub mod swiglu;
#[cfg(feature = "train")]
pub mod swiglu_backward;

use crate::error::{Error, Result};
use crate::floats::Floats;
use crate::for_each_elementwise;
use crate::rows::Geometry;

/// Declares one module for each elementwise function of a single slice. Rustfmt does not format these modules, because
/// a macro declares them. They consist almost entirely of documentation, so they need little formatting.
macro_rules! modules {
    ($($name:ident $Op:ident $formula:literal $forms:tt $derivative:ident $gradient:tt;)*) => {
        $(
            #[cfg(feature = "inference")]
            pub mod $name;
        )*
    };
}
for_each_elementwise!(modules);

/// Checks that a view has the same lanes as the input: the same outer, lane and inner lengths.
pub(crate) fn same_lanes(op: &'static str, argument: &'static str, got: &Geometry, expected: &Geometry) -> Result<()> {
    let of = |g: &Geometry| (g.outer(), g.len(), g.inner());
    if of(got) != of(expected) {
        return Err(Error::shape(
            op,
            argument,
            format!("shape {:?}", got.shape),
            format!("the input's shape, {:?}", expected.shape),
        ));
    }
    Ok(())
}

/// Checks that an optional operand has one value per column.
fn one_a_column(op: &'static str, argument: &'static str, operand: Option<Floats<'_>>, cols: usize) -> Result<()> {
    match operand {
        Some(values) if values.len() != cols => Err(Error::shape(
            op,
            argument,
            format!("{} elements", values.len()),
            format!("one for each of {cols} columns"),
        )),
        _ => Ok(()),
    }
}

/// Returns whether the value is in the range from 0 to `most`. Returns false for NaN. Compares bit patterns, because
/// float comparisons treat subnormal numbers as 0 under DAZ (denormals are zero).
pub(crate) fn is_in_zero_to(value: f64, most: f64) -> bool {
    value.to_bits() <= most.to_bits() || value.to_bits() == (-0.0f64).to_bits()
}

/// Returns whether the value is finite. Compares bit patterns, like [`is_in_zero_to`].
fn is_finite(value: f64) -> bool {
    is_in_zero_to(value.abs(), f64::MAX)
}

/// Checks that eps is finite and not negative.
fn valid_eps(op: &'static str, eps: f64) -> Result<()> {
    if is_in_zero_to(eps, f64::MAX) { Ok(()) } else { Err(Error::invalid(op, "eps", eps, "finite and not negative")) }
}
