//! Division of lanes by their Euclidean norm.

use super::softmax::finish_call;
use super::{same_lanes, valid_eps};
use crate::cpu;
use crate::element::Element;
use crate::error::Result;
use crate::rows::{Lanes, LanesMut};
use crate::simd::new_vec;

/// Options of [`l2_normalize`].
///
/// ```
/// use evenkeel::L2Normalize;
/// let options = L2Normalize::default().eps(0.0);
/// # let _ = options;
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct L2Normalize {
    /// Lower bound of the divisor, in f64 for lanes of any type. Finite, not negative; 1e-12 by default.
    pub eps: f64,
}

impl Default for L2Normalize {
    fn default() -> Self {
        L2Normalize { eps: 1e-12 }
    }
}

impl L2Normalize {
    /// Sets [`L2Normalize::eps`].
    pub fn eps(self, eps: f64) -> Self {
        Self { eps, ..self }
    }

    /// Checks the options that can be checked without the view.
    pub(crate) fn check(&self) -> Result<()> {
        valid_eps(OP, self.eps)
    }

    fn kernel(&self) -> Result<cpu::l2_normalize::L2Normalize> {
        self.check()?;
        Ok(cpu::l2_normalize::L2Normalize { eps: self.eps })
    }
}

const OP: &str = "l2_normalize";

/// Divides each lane by its Euclidean norm. The result is a vector of length 1 in the same direction, unless the norm
/// is below eps.
///
/// # Formula
/// ```text
/// y_i = x_i / max(sqrt(sum x^2), eps)
/// ```
///
/// # Shapes
/// `x` is `[rows, cols]` ([`Rows`](crate::Rows)) or `[outer, len, inner]` ([`Lanes`]). The result has as many elements
/// as `x`, without gaps.
///
/// # Special values
/// | lane | y |
/// |---|---|
/// | a NaN | NaN in this lane only |
/// | an infinity | NaN at the infinity, 0 elsewhere |
/// | all zeros, even with eps = 0 | zeros |
/// | values whose squares overflow or underflow in their type | correct: squared in f64; f64 values are scaled first |
/// | a norm below eps | x / eps, even if f16 would round eps to 0 |
/// | no elements | empty |
///
/// # Accuracy
/// f32: 0.501 ULP. f16, bf16: 0.51 ULP. f64: 11 ULP for lanes of up to 16,384 elements, and 0.5 ULP more for each
/// further 16,384 elements. At most 4 ULP were measured on lanes that were not constructed to maximise the error.
/// `docs/accuracy/norms.md` derives the bounds.
///
/// The squares are added by a [tiled sum](crate::math::sum), so the bits of a lane do not depend on its position, the
/// thread count or the instruction set.
///
/// # Errors
/// [`Error::InvalidArgument`](crate::Error::InvalidArgument) if eps is negative or not finite;
/// [`Error::ShapeMismatch`](crate::Error::ShapeMismatch) if an output has another shape;
/// [`Error::Unavailable`](crate::Error::Unavailable) if the requested instruction set is unavailable.
///
/// # Panics
/// Never.
///
/// # Example
/// ```
/// use evenkeel::{L2Normalize, Rows, l2_normalize};
/// use half::f16;
/// // The squares of these values overflow f16.
/// let x = [300.0f32, -400.0].map(f16::from_f32);
/// let y = l2_normalize(Rows::new(&x, 1, 2)?, &L2Normalize::default())?;
/// assert_eq!(y, [0.6, -0.8].map(f16::from_f32));
/// # Ok::<(), evenkeel::Error>(())
/// ```
pub fn l2_normalize<'x, E: Element>(x: impl Into<Lanes<'x, E>>, options: &L2Normalize) -> Result<Vec<E>> {
    let x = x.into();
    new_vec(OP, x.geometry.shape.elements(), |out| {
        l2_normalize_into(x, LanesMut::shaped(out, x.geometry.shape.dims(), x.geometry.axis as isize)?, options)
    })
}

/// Writes the result of [`l2_normalize`] to `out`, which has the shape of `x`, and returns `out` as an initialised
/// slice.
pub fn l2_normalize_into<'x, 'a, E: Element>(
    x: impl Into<Lanes<'x, E>>,
    out: impl Into<LanesMut<'a, E>>,
    options: &L2Normalize,
) -> Result<&'a mut [E]> {
    let (x, out) = (x.into(), out.into());
    same_lanes(OP, "out", &out.geometry, &x.geometry)?;
    let (written, guards) = E::l2_normalize(x, out, options.kernel()?)?;
    finish_call(OP, guards)?;
    Ok(written)
}

/// Replaces `x` by the result of [`l2_normalize`].
pub fn l2_normalize_in_place<'a, E: Element>(x: impl Into<LanesMut<'a, E>>, options: &L2Normalize) -> Result<()> {
    let guards = E::l2_normalize_in_place(OP, x.into(), options.kernel()?)?;
    finish_call(OP, guards)
}
