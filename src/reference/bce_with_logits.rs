//! Binary cross-entropy and focal loss of one logit.

use super::{Real, sigmoid_of, softplus_of};
use crate::element::Element;

/// Returns the unrounded [`bce_with_logits`](crate::bce_with_logits()) of one logit with weight 1. `pos_weight`
/// multiplies the term `target * softplus(-x)`.
///
/// ```
/// assert_eq!(evenkeel::reference::bce_with_logits(0.0f32, 0.25, 1.0), std::f64::consts::LN_2);
/// ```
pub fn bce_with_logits<E: Element>(x: E, target: f64, pos_weight: f64) -> E::Exact {
    let real = E::Exact::from;
    let x = real(x.widen());
    let term = |factor: E::Exact, x: E::Exact| if factor == real(0.0) { factor } else { factor * softplus_of(x) };
    term(real(pos_weight) * real(target), -x) + term(real(1.0) - real(target), x)
}

/// Returns the gradient of [`bce_with_logits`] with respect to the logit, as two terms. The gradient is their sum.
///
/// ```
/// assert_eq!(evenkeel::reference::bce_with_logits_backward(0.0f32, 0.25, 2.0), [0.375, -0.25]);
/// ```
pub fn bce_with_logits_backward<E: Element>(x: E, target: f64, pos_weight: f64) -> [E::Exact; 2] {
    let real = E::Exact::from;
    let x = real(x.widen());
    [(real(1.0) - real(target)) * sigmoid_of(x), -(real(pos_weight) * real(target) * sigmoid_of(-x))]
}

/// Returns the unrounded focal loss of one logit: [`bce_with_logits`] with a `pos_weight` of 1, multiplied by
/// `(alpha * y + (1 - alpha) * (1 - y)) * q^gamma`.
///
/// Here y is the target, `q = y * (1 - p) + (1 - y) * p`, and p is the sigmoid of the logit. If `alpha` is `None`, the
/// first factor is 1.
///
/// # Source
/// Lin et al., "Focal loss for dense object detection", 2017, in the form of torchvision's `sigmoid_focal_loss`.
///
/// ```
/// let loss = evenkeel::reference::focal_loss(0.0f32, 1.0, 2.0, Some(0.25));
/// assert_eq!(loss, std::f64::consts::LN_2 / 16.0);
/// ```
pub fn focal_loss<E: Element>(x: E, target: f64, gamma: f64, alpha: Option<f64>) -> E::Exact {
    let factor = focal_factor(E::Exact::from(x.widen()), target, gamma, alpha);
    if factor == E::Exact::from(0.0) { factor } else { factor * bce_with_logits(x, target, 1.0) }
}

/// Returns the gradient of [`focal_loss`] with respect to the logit, as three terms. The gradient is their sum.
///
/// ```
/// assert_eq!(evenkeel::reference::focal_loss_backward(0.0f32, 1.0, 0.0, None), [0.0, -0.5, 0.0]);
/// ```
pub fn focal_loss_backward<E: Element>(x: E, target: f64, gamma: f64, alpha: Option<f64>) -> [E::Exact; 3] {
    let real = E::Exact::from;
    let factor = focal_factor(real(x.widen()), target, gamma, alpha);
    let [miss, hit] = bce_with_logits_backward(x, target, 1.0);
    let (p, rest) = (sigmoid_of(real(x.widen())), sigmoid_of(real(-x.widen())));
    let y = real(target);
    // Computes p (1 - p) / q. Numerator and denominator are divided by the larger of p and 1 - p, to prevent underflow.
    let share =
        if p > rest { rest / (y * (rest / p) + (real(1.0) - y)) } else { p / (y + (real(1.0) - y) * (p / rest)) };
    let share = if p > rest && target == 1.0 {
        p
    } else if p <= rest && target == 0.0 {
        rest
    } else {
        share
    };
    let slope = real(gamma) * share * (real(1.0) - real(2.0) * y);
    let change = if slope == real(0.0) { slope } else { slope * focal_loss(x, target, gamma, alpha) };
    [factor * miss, factor * hit, change]
}

/// Returns (alpha y + (1 - alpha) (1 - y)) q^gamma.
fn focal_factor<R: Real>(x: R, target: f64, gamma: f64, alpha: Option<f64>) -> R {
    let (y, one) = (R::from(target), R::from(1.0));
    let of_class = alpha.map_or(one, |alpha| R::from(alpha) * y + (one - R::from(alpha)) * (one - y));
    if gamma == 0.0 || of_class == R::from(0.0) {
        return of_class;
    }
    let log_q = match target {
        1.0 => -softplus_of(x),
        0.0 => -softplus_of(-x),
        _ => (y * sigmoid_of(-x) + (one - y) * sigmoid_of(x)).ln(),
    };
    of_class * (R::from(gamma) * log_q).exp()
}
