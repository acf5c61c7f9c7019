//! The contract of each op: its options, its documentation, the checks on its arguments, and the public functions.
//!
//! Every op comes in three forms with the same order of arguments: allocating, `_into` (a slice or memory that is
//! not initialised), and `_in_place`. What an op computes is here in words and in [`crate::reference`] in plain
//! loops; how it does so is in `cpu`.

#![forbid(unsafe_code)]

#[macro_use]
pub(crate) mod elementwise;

pub mod attention;
pub mod attention_backward;
pub mod attention_partial;
pub mod bce_with_logits;
pub mod clamped_exp;
pub mod clamped_log;
pub mod clip_grad_norm;
pub mod clip_grad_value;
mod columns;
pub mod cross_entropy;
pub mod cross_entropy_backward;
pub mod cross_entropy_partial;
pub mod erf;
pub mod exp;
pub mod exp2;
pub mod expm1;
pub mod gelu;
pub mod gelu_tanh;
pub mod group_norm;
pub mod inspect;
pub mod kl_div;
pub mod l2_normalize;
pub mod layer_norm;
pub mod layer_norm_backward;
pub mod log;
pub mod log1p;
pub mod log2;
pub mod log_add_exp;
pub mod log_sigmoid;
pub mod log_softmax;
pub mod log_softmax_backward;
pub mod logsumexp;
pub mod logsumexp_backward;
pub mod loss;
pub mod mean_pool;
pub mod mean_pool_backward;
pub(crate) mod norm_backward;
pub mod norm_partial;
pub mod qk_norm_rope;
pub mod reciprocal;
pub mod rms_norm;
pub mod rms_norm_backward;
pub mod rms_norm_linear;
pub mod rope;
pub mod rope_backward;
pub mod rsqrt;
pub mod safe_div;
pub mod sample;
pub mod sigmoid;
pub mod silu;
pub mod softmax;
pub mod softmax_backward;
pub mod softmax_partial;
pub mod softplus;
pub mod sqrt;
pub mod swiglu;
pub mod swiglu_backward;
pub mod tanh;

use crate::error::{Error, Result};
use crate::floats::Floats;
use crate::rows::Geometry;

/// Checks that two views have the same lanes.
pub(crate) fn same_lanes(op: &'static str, argument: &'static str, got: &Geometry, expected: &Geometry) -> Result<()> {
    let of = |g: &Geometry| (g.outer(), g.len(), g.inner());
    if of(got) != of(expected) {
        return Err(Error::shape(
            op,
            argument,
            format!("shape {:?}", got.shape),
            format!("the input's, {:?},", expected.shape),
        ));
    }
    Ok(())
}

/// Checks an operand that has one value a column.
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

/// Whether the value is in 0 ..= `most`, which NaN is not. Bits decide: under DAZ, comparisons take a subnormal for 0.
pub(crate) fn is_in_zero_to(value: f64, most: f64) -> bool {
    value.to_bits() <= most.to_bits() || value.to_bits() == (-0.0f64).to_bits()
}

/// Whether the value is finite, by its bits too.
fn is_finite(value: f64) -> bool {
    is_in_zero_to(value.abs(), f64::MAX)
}

/// Checks eps: a finite number, not below zero.
fn valid_eps(op: &'static str, eps: f64) -> Result<()> {
    if is_in_zero_to(eps, f64::MAX) { Ok(()) } else { Err(Error::invalid(op, "eps", eps, "finite and not negative")) }
}
