//! Root-mean-square normalisation of a head's row and rotary embedding of the result.

use super::rms_norm;
use super::rope::rotated;
use crate::element::Element;
use crate::ops::rope::Rope;

/// [`qk_norm_rope`](crate::qk_norm_rope()) of a row, without the rounding in between, unrounded. The row's length is
/// even.
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
