//! Root-mean-square normalisation of a head's row, followed by rotary embedding.

use super::rms_norm;
use super::rope::rotated;
use crate::element::Element;
use crate::ops::rope::Rope;

/// Returns the unrounded result of [`qk_norm_rope`](crate::qk_norm_rope()) for a row. The result of the norm is not
/// rounded either. The row's length must be even.
///
/// ```
/// use evenkeel::{Rope, reference::qk_norm_rope};
/// let y = qk_norm_rope(&[3e30f32, -3e30], None, 0.0, 0.0, (0, &Rope::default()));
/// assert_eq!(y, [1.0, -1.0]);
/// ```
pub fn qk_norm_rope<E: Element>(
    x: &[E],
    weight: Option<&[f64]>,
    weight_offset: f64,
    eps: f64,
    (position, options): (i64, &Rope<'_>),
) -> Vec<E::Exact> {
    rotated(&rms_norm(x, weight, weight_offset, eps), position, options)
}
