//! All of [`candle_nn::rotary_emb`], with `rope`, `rope_i` and `rope_thd` replaced by Evenkeel's functions, which have
//! the same signatures.
//!
//! Products are computed in f64 and rounded once. Tensors may have any layout and may be f64, and tables may have
//! another float type than the rows. Tables may have more positions than `xs`. If such a table has a batch axis,
//! candle's own function reads the wrong positions. `xs` has a gradient. `cos` and `sin` have gradients if candle
//! tracks them.

#![forbid(unsafe_code)]

pub use candle_nn::rotary_emb::*;

use super::op::rope::Given;
use super::support::is_foreign;
use candle_core::{Error, Result, Tensor};

/// Computes the rotary embedding of `[batch, heads, positions, cols]`, rotating the pairs (i, i + cols / 2).
///
/// `cos` and `sin` are `[positions, cols / 2]` or `[batch, positions, cols / 2]`, with at least as many positions as
/// `xs`.
///
/// # Errors
/// Candle's error for shapes that do not match, and for an integer type.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use evenkeel::candle::rotary_emb;
/// let x = Tensor::new(&[[[[1f32, 2., 3., 4.]]]], &Device::Cpu)?;
/// let (cos, sin) = (Tensor::new(&[[0f32, 1.]], &Device::Cpu)?, Tensor::new(&[[1f32, 0.]], &Device::Cpu)?);
/// let y = rotary_emb::rope(&x, &cos, &sin)?; // rotates the first pair by a right angle, the second by zero
/// assert_eq!(y.flatten_all()?.to_vec1::<f32>()?, [-3.0, 2.0, 1.0, 4.0]);
/// # Ok::<(), candle_core::Error>(())
/// ```
pub fn rope(xs: &Tensor, cos: &Tensor, sin: &Tensor) -> Result<Tensor> {
    if is_foreign(xs) {
        return candle_nn::rotary_emb::rope(xs, cos, sin);
    }
    given(xs, cos, sin, Given { interleaved: false, heads: 1 })
}

/// Computes the rotary embedding of `[batch, heads, positions, cols]`, rotating the adjacent pairs (2i, 2i + 1).
///
/// `cos` and `sin` are as for [`rope`].
///
/// # Errors
/// The errors of [`rope`].
pub fn rope_i(xs: &Tensor, cos: &Tensor, sin: &Tensor) -> Result<Tensor> {
    if is_foreign(xs) {
        return candle_nn::rotary_emb::rope_i(xs, cos, sin);
    }
    given(xs, cos, sin, Given { interleaved: true, heads: 1 })
}

/// Computes the rotary embedding of `[batch, positions, heads, cols]`, rotating the pairs (i, i + cols / 2).
///
/// `cos` and `sin` are as for [`rope`].
///
/// # Errors
/// The errors of [`rope`].
pub fn rope_thd(xs: &Tensor, cos: &Tensor, sin: &Tensor) -> Result<Tensor> {
    if is_foreign(xs) {
        return candle_nn::rotary_emb::rope_thd(xs, cos, sin);
    }
    given(xs, cos, sin, Given { interleaved: false, heads: 2 })
}

fn given(xs: &Tensor, cos: &Tensor, sin: &Tensor, op: Given) -> Result<Tensor> {
    let (batch, a, b, cols) = xs.dims4()?;
    let positions = if op.heads == 1 { b } else { a };
    let cos = fitted(xs, cos, batch, positions, cols)?;
    let sin = fitted(xs, sin, batch, positions, cols)?;
    if cos.rank() == sin.rank() {
        return op.rope(xs, &cos, &sin);
    }
    let batched = |table: &Tensor| table.broadcast_as((batch, positions, cols / 2));
    op.rope(xs, &batched(&cos)?, &batched(&sin)?)
}

/// Returns the first `positions` positions of a table, after checking its shape.
fn fitted(xs: &Tensor, table: &Tensor, batch: usize, positions: usize, cols: usize) -> Result<Tensor> {
    let fits = |held: usize, half: usize| held >= positions && cols == 2 * half;
    match *table.dims() {
        [held, half] if fits(held, half) => table.narrow(0, 0, positions),
        [entries, held, half] if entries == batch && fits(held, half) => table.narrow(1, 0, positions),
        _ => {
            let (lhs, rhs) = (xs.shape().clone(), table.shape().clone());
            Err(Error::ShapeMismatchBinaryOp { lhs, rhs, op: "rope" }.bt())
        }
    }
}
