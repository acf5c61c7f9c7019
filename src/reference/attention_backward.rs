//! Gradients of attention for one query.

use super::Real;
use super::softmax::softmax_of;
use super::softmax_backward::softmax_backward_of;

/// Contribution of one query to the gradients of attention.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct AttentionGradient<R> {
    /// Softmax weight of each value. The gradient of a value is its weight times dy.
    pub weights: Vec<R>,
    /// Gradients of the logits. Multiply them by [`logit_derivatives`](super::logit_derivatives()) to get the gradients
    /// of the products of query and key.
    pub dlogits: Vec<R>,
    /// Gradient of the sink, if there is one.
    pub dsink: Option<R>,
}

/// Returns the unrounded terms that a query with these logits contributes to
/// [`attention_backward`](crate::attention_backward()), or `None` if no logit, including the sink, is above -inf.
///
/// A key whose logit is -inf is masked, and its value is not read.
///
/// ```
/// use evenkeel::reference::attention_backward_of;
/// let of = attention_backward_of(&[0.0, 0.0], &[&[3.0], &[5.0]], None, &[1.0]).unwrap();
/// assert_eq!((of.weights, of.dlogits), (vec![0.5, 0.5], vec![-0.5, 0.5]));
/// ```
pub fn attention_backward_of<R: Real>(
    logits: &[R],
    values: &[&[R]],
    sink: Option<R>,
    dy: &[R],
) -> Option<AttentionGradient<R>> {
    let (zero, masked) = (R::from(0.0), R::from(f64::NEG_INFINITY));
    let product = |value: &[R]| value.iter().zip(dy).fold(zero, |sum, (&v, &dy)| sum + v * dy);
    let mut grads: Vec<R> =
        logits.iter().zip(values).map(|(&z, value)| if z == masked { zero } else { product(value) }).collect();
    // The sink is a logit whose value vector is zero.
    let all: Vec<R> = logits.iter().copied().chain(sink).collect();
    grads.extend(sink.map(|_| zero));
    let (mut weights, mut dlogits) = (softmax_of(&all)?, softmax_backward_of(&all, &grads)?);
    weights.truncate(logits.len());
    let dsink = sink.and_then(|_| dlogits.pop());
    Some(AttentionGradient { weights, dlogits, dsink })
}
