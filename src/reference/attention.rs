//! Attention.

use super::Real;
use super::logsumexp::logsumexp_of;
use super::softmax::softmax_of;

/// [`attention`](crate::attention()) of a query whose logits are known, unrounded, and the log-sum-exp; `None` where there
/// is nothing to attend to. Keys of a logit of -inf are masked, and their values not looked at. A sink is a logit
/// without a value.
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
