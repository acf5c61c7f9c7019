//! Attention of one query.

use super::Real;
use super::logsumexp::logsumexp_of;
use super::softmax::softmax_of;

/// Returns the unrounded result of [`attention`](crate::attention()) for a query with these logits, and the query's
/// log-sum-exp. Returns `None` if no logit, including the sink, is above -inf.
///
/// A key whose logit is -inf is masked, and its value is not read. The sink is an additional logit that has no value
/// vector.
///
/// ```
/// use evenkeel::reference::attention_of;
/// let (y, lse) = attention_of(&[0.0, 0.0], &[&[3.0], &[5.0]], None).unwrap();
/// assert_eq!((y, lse), (vec![4.0], 2f64.ln()));
/// ```
pub fn attention_of<R: Real>(logits: &[R], values: &[&[R]], sink: Option<R>) -> Option<(Vec<R>, R)> {
    let all: Vec<R> = logits.iter().copied().chain(sink).collect();
    let weights = softmax_of(&all)?;
    let masked = R::from(f64::NEG_INFINITY);
    let mut y = vec![R::from(0.0); values.first().map_or(0, |value| value.len())];
    for ((&logit, &weight), value) in logits.iter().zip(&weights).zip(values) {
        if logit != masked {
            for (y, &value) in y.iter_mut().zip(*value) {
                *y = *y + weight * value;
            }
        }
    }
    Some((y, logsumexp_of(&all)))
}
