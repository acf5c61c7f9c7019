//! Gradient clipping by norm.

use super::{DoubleDouble, Real};
use crate::element::Element;
use crate::floats::Floats;
use crate::ops::clip_grad_norm::{ClipMode, NormType};

/// Returns the unrounded norm of finite gradients. The norm may exceed the range of f64.
///
/// ```
/// use evenkeel::NormType;
/// use evenkeel::reference::{DoubleDouble, Real, grad_norm};
/// let norm = grad_norm(&[(&[3e200]).into(), (&[4e200]).into()], NormType::Two);
/// assert_eq!((norm / DoubleDouble::from(1e200)).to_f64(), 5.0);
/// ```
pub fn grad_norm(grads: &[Floats<'_>], norm_type: NormType) -> DoubleDouble {
    let elements = grads.iter().flat_map(|grad| (0..grad.len()).filter_map(|i| grad.get(i)));
    let magnitudes = elements.map(|g| DoubleDouble::from(g.abs()));
    let zero = DoubleDouble::from(0.0);
    match norm_type {
        NormType::Two => magnitudes.fold(zero, |sum, g| sum + g * g).sqrt(),
        NormType::One => magnitudes.fold(zero, |sum, g| sum + g),
        NormType::Infinity => magnitudes.fold(zero, |largest, g| if g > largest { g } else { largest }),
    }
}

/// Returns the unrounded result of [`clip_grad_norm`](crate::clip_grad_norm()) for one tensor. `norm` is the norm over
/// all tensors.
pub fn clip_grad_norm<E: Element>(grad: &[E], norm: DoubleDouble, max_norm: f64, mode: ClipMode) -> Vec<E::Exact> {
    let max_norm = DoubleDouble::from(max_norm);
    let from = match mode {
        ClipMode::Exact => norm,
        ClipMode::Torch => norm + DoubleDouble::from(1e-6),
    };
    let clip = |g: DoubleDouble| if from > max_norm { g * max_norm / from } else { g };
    grad.iter().map(|g| E::Exact::from_double_double(clip(g.widen().into()))).collect()
}
