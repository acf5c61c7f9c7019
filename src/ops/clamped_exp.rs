//! The exponential of numbers that are first clamped to a range, and its gradient.

use super::elementwise::{as_long, ordered};
use crate::cpu::elementwise::{ClampedExp as Kernel, Derivative};
use crate::cpu::elementwise_backward::Gradient;
use crate::element::{Element, Limits};
use crate::error::Result;
use crate::simd::{Output, new_vec};

const NAME: &str = "clamped_exp";

/// Options of [`clamped_exp`]. They set the range to which exponents are clamped.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct ClampedExp {
    /// Lower limit of the exponents. By default the type's smallest exponent whose exponential is a normal number
    /// ([`Limits::exp_min_normal`](crate::Limits::exp_min_normal)), so that dividing by a result is safe.
    pub min: Option<f64>,
    /// Upper limit of the exponents. By default the type's largest exponent whose exponential is finite
    /// ([`Limits::exp_max`](crate::Limits::exp_max)).
    pub max: Option<f64>,
}

impl ClampedExp {
    /// Sets [`ClampedExp::min`].
    #[must_use]
    pub fn min(self, min: f64) -> Self {
        ClampedExp { min: Some(min), ..self }
    }

    /// Sets [`ClampedExp::max`].
    #[must_use]
    pub fn max(self, max: f64) -> Self {
        ClampedExp { max: Some(max), ..self }
    }

    /// Returns the range as (min, max), after checking it.
    pub(crate) fn ends(&self, op: &'static str, limits: &Limits) -> Result<(f64, f64)> {
        let (min, max) = (self.min.unwrap_or(limits.exp_min_normal), self.max.unwrap_or(limits.exp_max));
        ordered(op, min, max)?;
        Ok((min, max))
    }
}

/// Computes e^x of each element after clamping x to a range. By default the result is finite and normal for every x but
/// NaN.
///
/// # Formula
/// ```text
/// y = e^min(max(x, options.min), options.max)
/// ```
///
/// # Shapes
/// `x` and the result have the same length.
///
/// # Special values
/// | x | y |
/// |---|---|
/// | NaN | NaN |
/// | -inf, or below min | e^min |
/// | +inf, or above max | e^max |
///
/// # Accuracy
/// Correctly rounded in f32, f16 and bf16; 0.8 ULP in f64.
///
/// # Errors
/// [`Error::InvalidArgument`](crate::Error::InvalidArgument) if `min` or `max` is NaN, or if `min` is above `max` (an
/// option that is not set counts as the type's default); [`Error::Unavailable`](crate::Error::Unavailable) if
/// `EVENKEEL_SIMD` names an unknown or unavailable instruction set. `_into` also returns
/// [`Error::ShapeMismatch`](crate::Error::ShapeMismatch) if `out` and `x` differ in length.
///
/// # Panics
/// Never.
///
/// # Example
/// ```
/// use evenkeel::{ClampedExp, clamped_exp};
/// let y = clamped_exp(&[1000.0f32, -1000.0], &ClampedExp::default())?;
/// assert!(y[0].is_finite() && (1.0 / y[1]).is_finite());
/// assert_eq!(clamped_exp(&[7.0f32], &ClampedExp::default().max(0.0))?, [1.0]);
/// # Ok::<(), evenkeel::Error>(())
/// ```
pub fn clamped_exp<E: Element>(x: &[E], options: &ClampedExp) -> Result<Vec<E>> {
    new_vec(NAME, x.len(), |out| clamped_exp_into(x, out, options))
}

/// Writes the result of [`clamped_exp`] to `out`, which has the length of `x`, and returns the written slice.
pub fn clamped_exp_into<'a, E: Element>(
    x: &[E],
    out: impl Into<Output<'a, E>>,
    options: &ClampedExp,
) -> Result<&'a mut [E]> {
    let out = out.into();
    as_long(NAME, "out", out.len(), x.len())?;
    let (min, max) = options.ends(NAME, &E::LIMITS)?;
    E::clamped_exp(x, out, Kernel { min, max })
}

/// Replaces `x` by the result of [`clamped_exp`].
pub fn clamped_exp_in_place<E: Element>(x: &mut [E], options: &ClampedExp) -> Result<()> {
    let (min, max) = options.ends(NAME, &E::LIMITS)?;
    E::clamped_exp_in_place(x, Kernel { min, max })
}

/// Computes dx, the gradient of [`clamped_exp`] with respect to its input x. dy is the gradient of the result.
///
/// # Formula
/// ```text
/// dx = dy e^x if options.min <= x <= options.max, otherwise 0
/// ```
///
/// # Shapes
/// `x`, `dy` and the result have the same length.
///
/// # Special values
/// | x | dx |
/// |---|---|
/// | NaN | NaN |
/// | outside the range | 0 for every dy |
/// | within the range, with a NaN in dy | NaN |
///
/// # Accuracy
/// 0.501 ULP in f32, f16 and bf16; 2 ULP in f64.
///
/// # Errors
/// The errors of [`clamped_exp`], and [`Error::ShapeMismatch`](crate::Error::ShapeMismatch) unless all slices have the
/// same length.
///
/// # Panics
/// Never.
///
/// # Example
/// ```
/// let dx = evenkeel::clamped_exp_backward(&[0.0f32, 1000.0], &[2.0, 2.0], &Default::default())?;
/// assert_eq!(dx, [2.0, 0.0]);
/// # Ok::<(), evenkeel::Error>(())
/// ```
pub fn clamped_exp_backward<E: Element>(x: &[E], dy: &[E], options: &ClampedExp) -> Result<Vec<E>> {
    new_vec("clamped_exp_backward", x.len(), |dx| clamped_exp_backward_into(x, dy, dx, options))
}

/// Writes the result of [`clamped_exp_backward`] to `dx`, which has the length of `x`, and returns the written slice.
pub fn clamped_exp_backward_into<'a, E: Element>(
    x: &[E],
    dy: &[E],
    dx: impl Into<Output<'a, E>>,
    options: &ClampedExp,
) -> Result<&'a mut [E]> {
    const NAME: &str = "clamped_exp_backward";
    let dx = dx.into();
    as_long(NAME, "dy", dy.len(), x.len())?;
    as_long(NAME, "dx", dx.len(), x.len())?;
    E::gradient(x, dy, dx, Gradient { derivative: Derivative::Exp, within: Some(options.ends(NAME, &E::LIMITS)?) })
}

/// Replaces `dy` by the result of [`clamped_exp_backward`].
pub fn clamped_exp_backward_in_place<E: Element>(x: &[E], dy: &mut [E], options: &ClampedExp) -> Result<()> {
    const NAME: &str = "clamped_exp_backward";
    as_long(NAME, "dy", dy.len(), x.len())?;
    E::gradient_in_place(x, dy, Gradient { derivative: Derivative::Exp, within: Some(options.ends(NAME, &E::LIMITS)?) })
}
