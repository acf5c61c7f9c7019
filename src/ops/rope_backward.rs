//! The gradient of rotary position embedding.

use super::rope::RopeTable;
use super::same_lanes;
use super::softmax::finish_call;
use crate::element::Element;
use crate::error::Result;
use crate::rows::{Rows, RowsMut};
use crate::simd::new_vec;

const OP: &str = "rope_backward";

/// Computes the gradient of [`rope`](crate::rope()) by applying the opposite rotation to `dy`, the gradient of the
/// result.
///
/// If the table has an attention factor, the gradient is multiplied by this factor too. The input `x` is not needed.
///
/// # Formula
/// ```text
/// (da, db) = (dy_a cos + dy_b sin, dy_b cos - dy_a sin),   angle = position * theta^(-2i/d)
/// ```
///
/// # Shapes
/// Shapes are as for [`rope`](crate::rope()), with `dy` in place of `x`, and the same table.
///
/// # Special values
/// | pair | result |
/// |---|---|
/// | a NaN or an infinity | NaN or infinite in this pair only |
/// | no columns | empty |
///
/// # Accuracy
/// Bounds are in ULP of the largest of |dy_a|, |dy_b| and the result, as for [`rope`](crate::rope()). They are 0.501 in
/// f32, 0.51 in f16 and bf16, and 2 in f64.
///
/// # Errors
/// [`Error::ShapeMismatch`](crate::Error::ShapeMismatch) if the table's columns or positions do not fit `dy`;
/// [`Error::Unavailable`](crate::Error::Unavailable) if the requested instruction set is unavailable.
///
/// # Panics
/// Never.
///
/// # Example
/// ```
/// use evenkeel::{Rope, RopeTable, Rows, rope, rope_backward};
/// // At this position an angle computed in f32 would be off by whole radians.
/// let table = RopeTable::new(&[1_000_000_000_000], 2, &Rope::default())?;
/// let y = rope(Rows::new(&[1.0f32, 0.0], 1, 2)?, &table)?;
/// let back = rope_backward(Rows::new(&y, 1, 2)?, &table)?;
/// assert!((back[0] - 1.0).abs() < 1e-7 && back[1].abs() < 1e-7);
/// # Ok::<(), evenkeel::Error>(())
/// ```
pub fn rope_backward<E: Element>(dy: Rows<'_, E>, table: &RopeTable) -> Result<Vec<E>> {
    let (rows, cols) = (dy.rows(), dy.cols());
    new_vec(OP, rows * cols, |dx| rope_backward_into(dy, RowsMut::new(dx, rows, cols)?, table))
}

/// Writes the result of [`rope_backward`] to `dx`, which has the shape of `dy`, and returns `dx` as an initialised
/// slice.
pub fn rope_backward_into<'a, E: Element>(
    dy: Rows<'_, E>,
    dx: RowsMut<'a, E>,
    table: &RopeTable,
) -> Result<&'a mut [E]> {
    same_lanes(OP, "dx", &dx.geometry, &dy.geometry)?;
    let kernel = table.kernel(OP, dy.rows(), dy.cols())?.backward();
    let (written, guards) = E::rope(dy.into(), dx.into(), kernel)?;
    finish_call(OP, guards)?;
    Ok(written)
}

/// Replaces `dy` by the result of [`rope_backward`].
pub fn rope_backward_in_place<E: Element>(dy: RowsMut<'_, E>, table: &RopeTable) -> Result<()> {
    let kernel = table.kernel(OP, dy.rows(), dy.cols())?.backward();
    let guards = E::rope_in_place(OP, dy.into(), kernel)?;
    finish_call(OP, guards)
}
