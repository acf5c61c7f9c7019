//! Division with a finite result.

use super::elementwise::as_long;
use super::valid_eps;
use crate::cpu::pairwise::Function;
use crate::element::{Element, Limits};
use crate::error::Result;
use crate::simd::{Output, new_vec};

const NAME: &str = "safe_div";

/// Options of [`safe_div`].
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct SafeDiv {
    /// Lower limit of the divisor's magnitude. A divisor of smaller magnitude is replaced by this limit with the
    /// divisor's sign. Finite, not negative. By default the type's smallest positive normal number
    /// ([`Limits::div_eps`](crate::Limits::div_eps)), whose reciprocal is finite.
    pub eps: Option<f64>,
}

impl SafeDiv {
    /// Sets [`SafeDiv::eps`].
    #[must_use]
    pub fn eps(self, eps: f64) -> Self {
        SafeDiv { eps: Some(eps) }
    }

    /// Checks and returns eps, or the default from `limits` if eps is not set.
    pub(crate) fn checked(&self, limits: &Limits) -> Result<f64> {
        let eps = self.eps.unwrap_or(limits.div_eps);
        valid_eps(NAME, eps)?;
        Ok(eps)
    }

    fn function<E: Element>(&self) -> Result<Function> {
        Ok(Function::SafeDiv { eps: self.checked(&E::LIMITS)?, largest: E::LIMITS.max })
    }
}

/// Computes x / d for each pair of elements. The result is finite unless an operand is NaN or both operands are
/// infinite.
///
/// # Formula
/// ```text
/// q = x / d                    where |d| >= options.eps
/// q = x / copysign(eps, d)     elsewhere
/// y = min(max(q, -largest), largest)   with the type's largest finite value
/// ```
///
/// # Shapes
/// `x`, `d` and the result have the same length.
///
/// # Special values
/// | x | d | y |
/// |---|---|---|
/// | NaN | any | NaN |
/// | any | NaN | NaN |
/// | 0 | 0 | 0, also if eps is 0 |
/// | above 0 | +0, -0 | x / eps, -x / eps, limited to the largest finite value in magnitude |
/// | infinite | finite | the largest finite value, with the quotient's sign |
/// | finite | infinite | 0, with the quotient's sign |
/// | infinite | infinite | NaN |
///
/// # Accuracy
/// Correctly rounded in every type.
///
/// # Errors
/// [`Error::InvalidArgument`](crate::Error::InvalidArgument) for an `eps` that is negative or not finite;
/// [`Error::ShapeMismatch`](crate::Error::ShapeMismatch) unless all slices have the same length;
/// [`Error::Unavailable`](crate::Error::Unavailable) if `EVENKEEL_SIMD` names an unknown or unavailable instruction
/// set.
///
/// # Panics
/// Never.
///
/// # Example
/// ```
/// use evenkeel::{SafeDiv, safe_div};
/// let y = safe_div(&[6.0f32, 0.0, 1.0, 1e30], &[3.0, 0.0, 0.0, -1e-30], &SafeDiv::default())?;
/// assert_eq!(y, [2.0, 0.0, 1.0 / f32::MIN_POSITIVE, -f32::MAX]);
/// assert_eq!(safe_div(&[3.0f32], &[0.0], &SafeDiv::default().eps(0.5))?, [6.0]);
/// # Ok::<(), evenkeel::Error>(())
/// ```
pub fn safe_div<E: Element>(x: &[E], d: &[E], options: &SafeDiv) -> Result<Vec<E>> {
    new_vec(NAME, x.len(), |out| safe_div_into(x, d, out, options))
}

/// Writes the result of [`safe_div`] to `out`, which has the length of `x`, and returns the written slice.
pub fn safe_div_into<'a, E: Element>(
    x: &[E],
    d: &[E],
    out: impl Into<Output<'a, E>>,
    options: &SafeDiv,
) -> Result<&'a mut [E]> {
    let out = out.into();
    as_long(NAME, "d", d.len(), x.len())?;
    as_long(NAME, "out", out.len(), x.len())?;
    E::pairwise(x, d, out, options.function::<E>()?)
}

/// Replaces `x` by the result of [`safe_div`].
pub fn safe_div_in_place<E: Element>(x: &mut [E], d: &[E], options: &SafeDiv) -> Result<()> {
    as_long(NAME, "d", d.len(), x.len())?;
    E::pairwise_in_place(x, d, options.function::<E>()?)
}
