//! The gradient of the cross-entropy, with the loss itself.

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

/// The gradient of [`cross_entropy`](crate::cross_entropy()) by the logits, and the loss, which costs nothing more.
///
/// `dloss` is the gradient of what follows by the loss: one number, or one for each row under [`Reduction::None`]. It
/// is 1 at the end of a graph, and a scaled loss's scale.
///
/// # Formula
/// ```text
/// p = softmax(z);   a = (1 - s) w_t dloss / D,   b = s/V dloss / D,   c = 2 z_loss lse dloss / n
/// dz_j      = (a + b sum(w) + c) p_j - b w_j - (a where j = t)
/// dlogits_j = dz_j (1 - tanh^2(logits_j / cap))
/// ```
/// with the names of [`cross_entropy`](crate::cross_entropy()): D the sum of the targets' weights and n the number of
/// rows that count under `Mean`, 1 otherwise. At the target, 1 - p_t is the share of all others, added up without it.
///
/// # Shapes
/// As [`cross_entropy`](crate::cross_entropy()); the gradient has the shape and the type of the logits.
///
/// # Special values
/// | what | dlogits |
/// |---|---|
/// | a target that is `ignore_index` | 0, its row is not read |
/// | every row ignored, or the weights of those that count sum to 0, under `Mean` | 0, but for `z_loss` |
/// | a logit of -inf | the formula with p_j = 0: 0, but for the target's `a` and `b w_j` of smoothing; with a softcap 0 |
/// | the target masked | finite, though the loss is not |
/// | all masked | 0 in this row |
/// | a NaN, or a logit of +inf | NaN in this row only, also under `Mean` |
/// | one class | 0, but for `z_loss` |
///
/// # Accuracy
/// f32: at most 3.7 ULP, and 2 on random rows; f16, bf16: 0.51; f64: 8. With label smoothing, `z_loss` or weights of both
/// signs, of the sum of the magnitudes of the terms, where p counts as at least the smallest normal number (for f16 and
/// bf16, of f32), and the log-sum-exp as the larger of |max| and ln sum. In f64, label smoothing with class weights adds 15
/// ULP and one for each 16,384 classes. A softcap's logits count as rounded to f64.
///
/// # Errors
/// As [`cross_entropy`](crate::cross_entropy()), and [`Error::ShapeMismatch`] for `dloss` or an output of another
/// shape; nothing was written then.
///
/// # Panics
/// Never.
///
/// # Example
/// ```
/// use evenkeel::{CrossEntropy, Rows, cross_entropy_backward};
/// // A confident row has a gradient yet; 1 - softmax would be 0.
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

/// [`cross_entropy_backward()`] into `dlogits`, which has the shape of `logits`; returns its memory beside the loss.
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

/// [`cross_entropy_backward()`] in place of the logits: their memory is gone through once.
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
    // A sum of weights of 0 leaves nothing to multiply with.
    let divisor = |divisor: f64| if divisor == 0.0 { None } else { Some(divisor) };
    let factors = in_default(|| options.divisors(resolved).map(divisor));
    Gradient { forward: options.kernel(resolved, targets), dloss, divisors: factors }
}
