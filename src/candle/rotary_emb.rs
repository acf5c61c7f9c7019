//! [`candle_nn::rotary_emb`] with Evenkeel's rotation: the same signatures, and all the rest.
//!
//! Products are f64 and rounded once. Any layout works, and so do f64 and tables of another float type than the rows.
//! Tables may hold more positions than there are rows, also where they are given for each entry of a batch, for which
//! candle reads the wrong ones. There are gradients: for `xs`, and for `cos` and `sin` where candle tracks them.

#![forbid(unsafe_code)]

pub use candle_nn::rotary_emb::*;

use super::op::rope::Given;
use super::place::is_foreign;
use candle_core::{Error, Result, Tensor};

/// Rotary embedding of `[batch, heads, positions, cols]` whose pairs are halves: (i, i + cols / 2).
///
/// `cos` and `sin` are `[positions, cols / 2]`, or `[batch, positions, cols / 2]`, with as many positions or more.
///
/// # Errors
/// Candle's, where the shapes do not fit or a type is an integer one.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use evenkeel::candle::rotary_emb;
/// let x = Tensor::new(&[[[[1f32, 2., 3., 4.]]]], &Device::Cpu)?;
/// let (cos, sin) = (Tensor::new(&[[0f32, 1.]], &Device::Cpu)?, Tensor::new(&[[1f32, 0.]], &Device::Cpu)?);
/// let y = rotary_emb::rope(&x, &cos, &sin)?; // the first pair by a right angle, the second not at all
/// assert_eq!(y.flatten_all()?.to_vec1::<f32>()?, [-3.0, 2.0, 1.0, 4.0]);
/// # Ok::<(), candle_core::Error>(())
/// ```
pub fn rope(xs: &Tensor, cos: &Tensor, sin: &Tensor) -> Result<Tensor> {
    if is_foreign(xs) {
        return candle_nn::rotary_emb::rope(xs, cos, sin);
    }
    given(xs, cos, sin, Given { interleaved: false, heads: 1 })
}

/// Rotary embedding of `[batch, heads, positions, cols]` whose pairs are neighbours: (2i, 2i + 1). Tables as in
/// [`rope`].
///
/// # Errors
/// As [`rope`].
pub fn rope_i(xs: &Tensor, cos: &Tensor, sin: &Tensor) -> Result<Tensor> {
    if is_foreign(xs) {
        return candle_nn::rotary_emb::rope_i(xs, cos, sin);
    }
    given(xs, cos, sin, Given { interleaved: true, heads: 1 })
}

/// Rotary embedding of `[batch, positions, heads, cols]` whose pairs are halves. Tables as in [`rope`].
///
/// # Errors
/// As [`rope`].
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

/// The positions of a table that are asked for.
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
