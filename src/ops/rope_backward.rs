//! The gradient of rotary position embedding.

use super::rope::RopeTable;
use super::same_lanes;
use super::softmax::settle;
use crate::element::Element;
use crate::error::Result;
use crate::rows::{Rows, RowsMut};
use crate::simd::new_vec;

const OP: &str = "rope_backward";

/// The gradient of [`rope`](crate::rope()): `dy`, the gradient of its result, turned back, and times the
/// attention factor if the table has one. It needs no `x`.
///
/// # Formula
/// ```text
/// (da, db) = (dy_a cos + dy_b sin, dy_b cos - dy_a sin),   angle = position * theta^(-2i/d)
/// ```
///
/// # Shapes
/// As [`rope`](crate::rope()), by the table that it was given.
///
/// # Special values
/// | pair | result |
/// |---|---|
/// | a NaN or an infinity | NaN or infinite in this pair only |
/// | no columns | nothing |
///
/// # Accuracy
/// f32: 0.501 ULP of the largest of the pair and the result, f16, bf16: 0.51 ULP of that, f64: 2 ULP of that: as [`rope`](crate::rope()).
///
/// # Errors
/// [`Error::ShapeMismatch`](crate::Error::ShapeMismatch) where the table's columns or positions do not fit,
/// [`Error::Backend`](crate::Error::Backend).
///
/// # Panics
/// Never.
///
/// # Example
/// ```
/// use evenkeel::{Rope, RopeTable, Rows, rope, rope_backward};
/// // A position at which an angle in f32 would be off by whole radians.
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

/// [`rope_backward`] into `dx`, which has the shape of `dy`; returns the memory of `dx`.
pub fn rope_backward_into<'a, E: Element>(
    dy: Rows<'_, E>,
    dx: RowsMut<'a, E>,
    table: &RopeTable,
) -> Result<&'a mut [E]> {
    same_lanes(OP, "dx", &dx.geometry, &dy.geometry)?;
    let kernel = table.kernel(OP, dy.rows(), dy.cols())?.backward();
    let (written, met) = E::rope(dy.into(), dx.into(), kernel)?;
    settle(OP, met)?;
    Ok(written)
}

/// [`rope_backward`] in place.
pub fn rope_backward_in_place<E: Element>(dy: RowsMut<'_, E>, table: &RopeTable) -> Result<()> {
    let kernel = table.kernel(OP, dy.rows(), dy.cols())?.backward();
    let met = E::rope_in_place(OP, dy.into(), kernel)?;
    settle(OP, met)
}
