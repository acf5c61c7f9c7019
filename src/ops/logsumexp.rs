//! The logarithm of a sum of exponentials.

use super::softmax::{Softmax, settle};
use crate::cpu::scores::Scores;
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
/// In ULP of the largest of the result, |m| and ln S, where S is the sum of e^(z_j - m): m and ln S may cancel. f32: 2.5. f16,
/// bf16: 0.51. f64: 3.5. The bounds are derived for every row in `docs/accuracy/softmax.md`. On rows whose errors are
/// unrelated, such as random ones, 2 ULP were measured in f32 and in f64, and are asserted by tests.
///
/// An ln S below n 2^-126 may also be off by 2^-150 for each of n columns (f64: below n 2^-1022 by 2^-1075).
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
    let scores = options.resolve(OP, &x.geometry)?;
    new_vec(OP, x.lanes(), |out| run(x, out.into(), scores))
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
    run(x, out, options.resolve(OP, &x.geometry)?)
}

fn run<'a, E: Element>(x: Lanes<'_, E>, out: Output<'a, E>, scores: Scores<'_>) -> Result<&'a mut [E]> {
    let (written, met) = E::logsumexp(x, out, scores)?;
    settle(OP, met)?;
    Ok(written)
}
