//! Logarithm of a sum of exponentials.

use super::softmax::{Softmax, finish_call};
use crate::cpu::scores::LogitTransform;
use crate::element::Element;
use crate::error::{Error, Result};
use crate::rows::Lanes;
use crate::simd::{Output, new_vec};

const OP: &str = "logsumexp";

/// Computes the log-sum-exp of each lane: the logarithm of the sum of its exponentials.
///
/// # Formula
/// ```text
/// y = m + ln sum_j e^(z_j - m),   m = max z,   z = scores after scale, softcap and mask (see Softmax)
/// ```
///
/// # Shapes
/// `x` has the shapes that [`softmax`](crate::softmax) expects. The result is `[outer, inner]`, one element for each
/// lane.
///
/// # Special values
/// | row | y |
/// |---|---|
/// | all -inf, or fully masked | -inf, or an error under the policy Error |
/// | no columns | -inf under every policy |
/// | a NaN, unless the mask excludes it | NaN |
/// | a logit of +inf | +inf |
/// | one element | its logit |
///
/// # Accuracy
/// f32: 2.5 ULP. f16, bf16: 0.51 ULP. f64: 3.5 ULP. Let S be the sum of e^(z_j - m), and n the number of columns. The
/// unit is the ULP of the largest of three magnitudes: those of the result, m and ln S. The unit is not the ULP of the
/// result alone, because m and ln S may cancel. `docs/accuracy/softmax.md` derives the bounds for every row. On rows
/// whose rounding errors are independent, such as random rows, tests assert 2 ULP in f32 and f64.
///
/// If ln S is below `n * 2^-126`, the error of ln S may be larger by `n * 2^-150`. In f64, replace 2^-126 by 2^-1022
/// and 2^-150 by 2^-1075.
///
/// # Errors
/// The errors of [`softmax`](crate::softmax).
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

/// Writes the result of [`logsumexp`] to `out`, which has one element for each lane, and returns the written slice.
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

fn run<'a, E: Element>(x: Lanes<'_, E>, out: Output<'a, E>, scores: LogitTransform<'_>) -> Result<&'a mut [E]> {
    let (written, guards) = E::logsumexp(x, out, scores)?;
    finish_call(OP, guards)?;
    Ok(written)
}
