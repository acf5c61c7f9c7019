//! Gradient of the cross-entropy, together with the loss.

use super::cross_entropy::{CrossEntropy, Resolved};
use super::loss::{Loss, Reduction};
use super::same_lanes;
use crate::cpu::cross_entropy::RowLoss;
use crate::cpu::cross_entropy_backward::Gradient;
use crate::element::Element;
use crate::error::{Error, Result};
use crate::report;
use crate::rows::{Rows, RowsMut};
use crate::simd::{in_default, new_vec};

const OP: &str = "cross_entropy_backward";

/// Computes the gradient of [`cross_entropy`](crate::cross_entropy()) with respect to the logits, and the loss.
///
/// Returning the loss takes no additional time. `dloss` is the upstream gradient: the derivative of the final result
/// with respect to the loss. It is one number, or one for each row under [`Reduction::None`]. If the loss is the final
/// result, pass 1. If the final result is the loss times a scale, pass the scale.
///
/// # Formula
/// ```text
/// p = softmax(z);   a = (1 - s) w_t (dloss / D),   b = (s/V) (dloss / D),   c = 2 z_loss lse (dloss / n)
/// dz_j      = (a + b W + c) p_j - b w_j - (a if j = t),   W = sum_k w_k
/// dlogits_j = dz_j (1 - tanh^2(logits_j / cap))
/// ```
/// Names are as in [`cross_entropy`](crate::cross_entropy()), and lse is max + ln(Z). Under `Mean`, D is the sum of
/// the targets' weights and n the number of rows, both without ignored rows. Otherwise D and n are 1. At the target,
/// a p_t - a is computed as -a times the sum of the other probabilities, without a subtraction.
///
/// # Shapes
/// Shapes are as for [`cross_entropy`](crate::cross_entropy()). The gradient has the shape and the type of the logits.
///
/// # Special values
/// The first line that matches applies:
///
/// | input | dlogits |
/// |---|---|
/// | a target equal to `ignore_index` | 0 in this row; the row is not read |
/// | a fully masked row | 0 in this row |
/// | a NaN, or a logit of +inf without a softcap | NaN in this row only, also under `Mean` |
/// | a NaN weight | NaN in all rows |
/// | `Mean`, if the w_t sum to 0 | 0, except for the term of `z_loss` |
/// | a NaN `dloss` | NaN in the rows with this `dloss` |
/// | an infinite weight or `dloss` | NaN or infinite |
/// | an infinite logit, with a softcap | 0 at this logit, because the derivative of tanh is 0 |
/// | a logit of -inf | the formula with p_j = 0: -(a if j = t) - b w_j |
/// | one class | 0, except for the term of `z_loss` |
///
/// So the gradient of a masked target is finite, although its loss is not. If a, b or c exceeds the range of f64, it is
/// replaced by the largest finite f64 with its sign.
///
/// # Accuracy
/// The error of a gradient is at most 3.7 ULP in f32, 0.51 ULP in f16 and bf16, and 8 ULP in f64. On random rows, tests
/// assert 2 ULP in f32.
///
/// With label smoothing, `z_loss` or weights of both signs, the unit is the ULP of S, the sum of the terms' magnitudes.
/// Without these options, the unit is the ULP of the result. At the target, the product of a and p_t - 1 is one term of
/// S. In S, a p below the smallest normal number of the type (for f16 and bf16, of f32) is replaced by this number. The
/// log-sum-exp in S is replaced by the larger of |max| and ln(sum). In f64, label smoothing with class weights adds 15
/// ULP, and one more ULP for each 16,384 classes. The bounds do not include the rounding of softcapped logits to f64.
///
/// # Errors
/// The errors of [`cross_entropy`](crate::cross_entropy()), and [`Error::ShapeMismatch`] if the shape of `dloss` or of
/// an output is wrong. After an error no output has been written.
///
/// # Panics
/// Never.
///
/// # Example
/// ```
/// use evenkeel::{CrossEntropy, Rows, cross_entropy_backward};
/// // Even a confident row keeps its gradient, while 1 - softmax would be 0.
/// let logits = Rows::new(&[40.0f32, 0.0], 1, 2)?;
/// let (loss, dlogits) = cross_entropy_backward(logits, &[0], &[1.0], &CrossEntropy::default())?;
/// assert_eq!(dlogits, [-4.248354e-18, 4.248354e-18]);
/// assert_eq!(loss.value() as f32, 4.248354e-18);
/// # Ok::<(), evenkeel::Error>(())
/// ```
pub fn cross_entropy_backward<E: Element>(
    logits: Rows<'_, E>,
    targets: &[i64],
    dloss: &[f64],
    options: &CrossEntropy<'_>,
) -> Result<(Loss, Vec<E>)> {
    let (rows, cols) = (logits.rows(), logits.cols());
    let mut loss = Loss::Rows(Vec::new());
    let dlogits = new_vec(OP, rows * cols, |out| {
        let (value, written) =
            cross_entropy_backward_into(logits, targets, dloss, RowsMut::new(out, rows, cols)?, options)?;
        loss = value;
        Ok::<_, Error>(written)
    })?;
    Ok((loss, dlogits))
}

/// Computes [`cross_entropy_backward()`], and writes the gradient to `dlogits`, which has the shape of `logits`.
/// Returns the loss, and `dlogits` as an initialised slice.
pub fn cross_entropy_backward_into<'a, E: Element>(
    logits: Rows<'_, E>,
    targets: &[i64],
    dloss: &[f64],
    dlogits: RowsMut<'a, E>,
    options: &CrossEntropy<'_>,
) -> Result<(Loss, &'a mut [E])> {
    let (rows, cols) = (logits.rows(), logits.cols());
    same_lanes(OP, "dlogits", &dlogits.geometry, &logits.geometry)?;
    let resolved = resolve(options, rows, cols, targets, dloss)?;
    let mut losses = vec![RowLoss::default(); rows];
    let kernel = gradient(options, &resolved, targets, dloss);
    let (written, counts) = E::cross_entropy_backward(logits, dlogits, &mut losses, kernel)?;
    report::record(OP, counts);
    Ok((options.reduce(&losses, &resolved), written))
}

/// Computes [`cross_entropy_backward()`] in one pass that overwrites the logits with the gradient. Returns the loss.
pub fn cross_entropy_backward_in_place<E: Element>(
    logits: RowsMut<'_, E>,
    targets: &[i64],
    dloss: &[f64],
    options: &CrossEntropy<'_>,
) -> Result<Loss> {
    let (rows, cols) = (logits.rows(), logits.cols());
    let resolved = resolve(options, rows, cols, targets, dloss)?;
    let mut losses = vec![RowLoss::default(); rows];
    let kernel = gradient(options, &resolved, targets, dloss);
    let counts = E::cross_entropy_backward_in_place(OP, logits, &mut losses, kernel)?;
    report::record(OP, counts);
    Ok(options.reduce(&losses, &resolved))
}

pub(crate) fn resolve(
    options: &CrossEntropy<'_>,
    rows: usize,
    cols: usize,
    targets: &[i64],
    dloss: &[f64],
) -> Result<Resolved> {
    let expected = if options.reduction == Reduction::None { rows } else { 1 };
    if dloss.len() != expected {
        return Err(Error::shape(OP, "dloss", format!("{} elements", dloss.len()), expected.to_string()));
    }
    options.resolve(OP, rows, cols, targets)
}

pub(super) fn gradient<'k>(
    options: &CrossEntropy<'_>,
    resolved: &'k Resolved,
    targets: &'k [i64],
    dloss: &'k [f64],
) -> Gradient<'k> {
    // A divisor is 0 for a mean over no rows, and for a mean with weights that sum to 0. The loss defines such a mean
    // as 0, so its gradient is 0 too.
    let divisor = |divisor: f64| if divisor == 0.0 { None } else { Some(divisor) };
    let factors = in_default(|| options.divisors(resolved).map(divisor));
    Gradient { forward: options.kernel(resolved, targets), dloss, divisors: factors }
}
