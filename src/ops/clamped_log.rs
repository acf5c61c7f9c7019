//! The logarithm of numbers that are first raised to a positive lower bound, and its gradient.

use super::elementwise::as_long;
use crate::cpu::elementwise::{ClampedLog as Kernel, Derivative};
use crate::cpu::elementwise_backward::Gradient;
use crate::element::{Element, Limits};
use crate::error::{Error, Result};
use crate::simd::{Output, in_default, new_vec};

const NAME: &str = "clamped_log";

/// Options of [`clamped_log`]: the lower bound of its input.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct ClampedLog {
    /// Lower bound of the input. Finite and above 0; by default the type's smallest positive normal number.
    pub floor: Option<f64>,
}

impl ClampedLog {
    /// Sets [`ClampedLog::floor`].
    #[must_use]
    pub fn floor(self, floor: f64) -> Self {
        ClampedLog { floor: Some(floor) }
    }

    /// Returns the floor, after checking it.
    pub(crate) fn checked(&self, op: &'static str, limits: &Limits) -> Result<f64> {
        let floor = self.floor.unwrap_or(limits.min_normal);
        if in_default(|| floor > 0.0 && floor.is_finite()) {
            return Ok(floor);
        }
        Err(Error::invalid(op, "floor", floor, "finite and above 0"))
    }
}

/// Computes ln max(x, floor) of each element. The result is finite for every x but NaN and +inf.
///
/// # Formula
/// ```text
/// y = ln max(x, options.floor)
/// ```
///
/// # Shapes
/// `x` and the result have the same length.
///
/// # Special values
/// | x | y |
/// |---|---|
/// | NaN | NaN |
/// | +inf | +inf |
/// | below the floor, which includes -inf, negative numbers, +0 and -0 | ln floor |
///
/// # Accuracy
/// Correctly rounded in f32, f16 and bf16; 0.6 ULP in f64.
///
/// # Errors
/// [`Error::InvalidArgument`] unless `floor` is finite and above 0; [`Error::Unavailable`] if `EVENKEEL_SIMD` names an
/// unknown or unavailable instruction set. `_into` also returns [`Error::ShapeMismatch`] if `out` and `x` differ in
/// length.
///
/// # Panics
/// Never.
///
/// # Example
/// ```
/// use evenkeel::{ClampedLog, clamped_log};
/// assert_eq!(clamped_log(&[1.0f32, 0.0], &ClampedLog::default())?, [0.0, -87.33655]);
/// assert_eq!(clamped_log(&[-3.0f32], &ClampedLog::default().floor(1.0))?, [0.0]);
/// # Ok::<(), evenkeel::Error>(())
/// ```
pub fn clamped_log<E: Element>(x: &[E], options: &ClampedLog) -> Result<Vec<E>> {
    new_vec(NAME, x.len(), |out| clamped_log_into(x, out, options))
}

/// Writes the result of [`clamped_log`] to `out`, which has the length of `x`, and returns the written slice.
pub fn clamped_log_into<'a, E: Element>(
    x: &[E],
    out: impl Into<Output<'a, E>>,
    options: &ClampedLog,
) -> Result<&'a mut [E]> {
    let out = out.into();
    as_long(NAME, "out", out.len(), x.len())?;
    let floor = options.checked(NAME, &E::LIMITS)?;
    E::clamped_log(x, out, Kernel { floor })
}

/// Replaces `x` by the result of [`clamped_log`].
pub fn clamped_log_in_place<E: Element>(x: &mut [E], options: &ClampedLog) -> Result<()> {
    let floor = options.checked(NAME, &E::LIMITS)?;
    E::clamped_log_in_place(x, Kernel { floor })
}

/// Computes dx, the gradient of [`clamped_log`] with respect to its input x. dy is the gradient of the result.
///
/// # Formula
/// ```text
/// dx = dy / x if x >= options.floor, otherwise 0
/// ```
///
/// # Shapes
/// `x`, `dy` and the result have the same length.
///
/// # Special values
/// | x | dx |
/// |---|---|
/// | NaN | NaN |
/// | below the floor | 0 for every dy |
/// | at or above the floor, with a NaN in dy | NaN |
///
/// # Accuracy
/// 0.501 ULP in f32, f16 and bf16; 2 ULP in f64.
///
/// # Errors
/// The errors of [`clamped_log`], and [`Error::ShapeMismatch`] unless all slices have the same length.
///
/// # Panics
/// Never.
///
/// # Example
/// ```
/// let dx = evenkeel::clamped_log_backward(&[4.0f32, 0.0], &[1.0, 1.0], &Default::default())?;
/// assert_eq!(dx, [0.25, 0.0]);
/// # Ok::<(), evenkeel::Error>(())
/// ```
pub fn clamped_log_backward<E: Element>(x: &[E], dy: &[E], options: &ClampedLog) -> Result<Vec<E>> {
    new_vec("clamped_log_backward", x.len(), |dx| clamped_log_backward_into(x, dy, dx, options))
}

/// Writes the result of [`clamped_log_backward`] to `dx`, which has the length of `x`, and returns the written slice.
pub fn clamped_log_backward_into<'a, E: Element>(
    x: &[E],
    dy: &[E],
    dx: impl Into<Output<'a, E>>,
    options: &ClampedLog,
) -> Result<&'a mut [E]> {
    const NAME: &str = "clamped_log_backward";
    let dx = dx.into();
    as_long(NAME, "dy", dy.len(), x.len())?;
    as_long(NAME, "dx", dx.len(), x.len())?;
    let within = Some((options.checked(NAME, &E::LIMITS)?, f64::INFINITY));
    E::gradient(x, dy, dx, Gradient { derivative: Derivative::Log, within })
}

/// Replaces `dy` by the result of [`clamped_log_backward`].
pub fn clamped_log_backward_in_place<E: Element>(x: &[E], dy: &mut [E], options: &ClampedLog) -> Result<()> {
    const NAME: &str = "clamped_log_backward";
    as_long(NAME, "dy", dy.len(), x.len())?;
    let within = Some((options.checked(NAME, &E::LIMITS)?, f64::INFINITY));
    E::gradient_in_place(x, dy, Gradient { derivative: Derivative::Log, within })
}
