//! The logarithm of a sum of exponentials.

use super::softmax::{Softmax, settle};
use crate::element::Element;
use crate::error::{Error, Result};
use crate::rows::Lanes;
use crate::simd::{Output, new_vec};

const OP: &str = "logsumexp";

/// The logarithm of the sum of exponentials of each lane.
///
/// # Formula
/// ```text
/// y = m + ln sum_j e^(z_j - m),   m = max z,   z = logits of the scores (see Softmax)
/// ```
///
/// # Shapes
/// `x` as in [`softmax`](crate::softmax); one result for each lane, `[outer, inner]`.
///
/// # Special values
/// | row | y |
/// |---|---|
/// | all -inf, wholly masked, or no columns | -inf; an error under that policy, but for no columns |
/// | a NaN that is not behind a keep flag of 0 | NaN |
/// | a logit of +inf | +inf |
/// | one element | it |
///
/// # Accuracy
/// f32: 2 ULP of the larger of |m| and ln sum, which the result may cancel to far less than. f16, bf16: 0.51 ULP of
/// that. f64: 2 ULP of that.
///
/// # Errors
/// As [`softmax`](crate::softmax).
///
/// # Panics
/// Never.
///
/// # Example
/// ```
/// use evenkeel::{Rows, Softmax, logsumexp};
/// let y = logsumexp(Rows::new(&[1000.0f32, 1000.0], 1, 2)?, &Softmax::default())?;
/// assert_eq!(y, [1000.6932]);
/// # Ok::<(), evenkeel::Error>(())
/// ```
pub fn logsumexp<'x, E: Element>(x: impl Into<Lanes<'x, E>>, options: &Softmax<'_>) -> Result<Vec<E>> {
    let x = x.into();
    new_vec(x.lanes(), |out| logsumexp_into(x, out, options))
}

/// [`logsumexp`] into `out`, which has an element for each lane; returns what was written.
pub fn logsumexp_into<'x, 'a, E: Element>(
    x: impl Into<Lanes<'x, E>>,
    out: impl Into<Output<'a, E>>,
    options: &Softmax<'_>,
) -> Result<&'a mut [E]> {
    let (x, out) = (x.into(), out.into());
    if out.len() != x.lanes() {
        return Err(Error::shape(
            OP,
            "out",
            format!("{} elements", out.len()),
            format!("one for each of {} lanes", x.lanes()),
        ));
    }
    let scores = options.resolve(OP, &x.geometry)?;
    let (written, met) = E::logsumexp(x, out, scores)?;
    settle(OP, met)?;
    Ok(written)
}
