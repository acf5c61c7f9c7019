//! Rotary embedding of a tensor, with a [`RopeTable`] or with cosines and sines in tensors.

#![forbid(unsafe_code)]

use crate::candle::composition::{self, pairs};
use crate::candle::custom_op::{Custom, InPlace, Memory, Op, apply_borrowing, each_memory};
use crate::candle::device;
use crate::candle::place::{Place, place};
use crate::candle::view::{View, map_storage, readable};
use crate::cpu::rope::Layout;
use crate::ops::rope::{GivenTable, RopeTable};
use crate::rows::RowsMut;
use candle_core::{CpuStorage, Result, Shape, Tensor};
use std::borrow::Cow;

pub const NAME: &str = "rope";

/// Rotary embedding with a table.
pub struct Rope<'a>(pub Cow<'a, RopeTable>);

/// Computes the rotary embedding of `[.., positions, cols]` with a table.
pub fn rope(xs: &Tensor, table: &RopeTable) -> Result<Tensor> {
    match place(xs, NAME)? {
        Place::Cpu => {
            let xs = readable(xs, super::norm::last_axis(NAME, xs)?)?;
            apply_borrowing(&xs, Rope(Cow::Borrowed(table)), |rope| Rope(Cow::Owned(rope.0.into_owned())))
        }
        Place::Device => device::rope(xs, table),
    }
}

impl Op for Rope<'_> {
    const NAME: &'static str = NAME;

    fn forward(&self, args: &[View<'_>]) -> Result<(CpuStorage, Shape)> {
        let x = args[0];
        let y = map_storage!(NAME, x, data => crate::rope(x.rows(data)?, &self.0)?);
        Ok((y, x.shape().clone()))
    }

    fn backward(&self, _: &[&Tensor], _: &Tensor, grad: &Tensor) -> Result<Vec<Option<Tensor>>> {
        Ok(vec![Some(turned_back(grad, &self.0)?)])
    }
}

/// Computes the gradient of rotary embedding with a table, which is the inverse rotation of `grad`.
pub(super) fn turned_back(grad: &Tensor, table: &RopeTable) -> Result<Tensor> {
    match place(grad, NAME)? {
        Place::Cpu => {
            let grad = readable(grad, super::norm::last_axis(NAME, grad)?)?;
            grad.apply_op1_no_bwd(&Custom(RopeBackward(table)))
        }
        Place::Device => device::rope(grad, &table.inverse()),
    }
}

/// Inverse of the rotation by a table.
struct RopeBackward<'a>(&'a RopeTable);

impl Op for RopeBackward<'_> {
    const NAME: &'static str = "rope_backward";

    fn forward(&self, args: &[View<'_>]) -> Result<(CpuStorage, Shape)> {
        let dy = args[0];
        let dx = map_storage!(Self::NAME, dy, data => crate::rope_backward(dy.rows(data)?, self.0)?);
        Ok((dx, dy.shape().clone()))
    }

    /// Returns no gradients; candle never requests them, because the op is applied without gradient tracking.
    fn backward(&self, _: &[&Tensor], _: &Tensor, _: &Tensor) -> Result<Vec<Option<Tensor>>> {
        Ok(Vec::new())
    }
}

impl InPlace for Rope<'_> {
    fn overwrite(&self, xs: Memory<'_>, dims: &[usize], _: &[View<'_>]) -> Result<()> {
        each_memory!(xs, data => crate::rope_in_place(RowsMut::shaped(data, dims)?, &self.0)?);
        Ok(())
    }
}

/// Rotary embedding with cosines and sines in tensors.
///
/// Both tensors are `[positions, cols / 2]`, or both are `[batch, positions, cols / 2]`.
#[derive(Clone, Copy)]
pub struct Given {
    /// Whether pairs are adjacent, (2i, 2i + 1), instead of (i, i + cols / 2).
    pub interleaved: bool,
    /// Axis of the heads: 1 in `[batch, heads, positions, cols]`, 2 in `[batch, positions, heads, cols]`.
    pub heads: usize,
}

impl Given {
    /// Computes the rotary embedding of a tensor of rank 4 with as many positions as `cos` and `sin`.
    pub fn rope(self, xs: &Tensor, cos: &Tensor, sin: &Tensor) -> Result<Tensor> {
        match place(xs, NAME)? {
            Place::Cpu => readable(xs, 3)?.apply_op3(&cos.contiguous()?, &sin.contiguous()?, Custom(self)),
            Place::Device => {
                let per_row = |table: &Tensor| table.unsqueeze(table.rank() + self.heads - 3);
                composition::rotated(xs, &per_row(cos)?, &per_row(sin)?, self.interleaved)
            }
        }
    }

    /// Returns the mapping from rows of a tensor with these dimensions to rows of the table.
    fn layout(self, dims: &[usize], batched: bool) -> Layout {
        let (heads, positions) = (dims[self.heads], dims[3 - self.heads]);
        Layout {
            repeat: if self.heads == 2 { heads.max(1) } else { 1 },
            period: positions.max(1),
            batch_rows: (heads * positions).max(1),
            batch_stride: if batched { positions } else { 0 },
        }
    }

    /// Computes the gradient of a table: the sum over all rows that used the same row of the table.
    fn of_table(self, each: Tensor, table: &Tensor) -> Result<Tensor> {
        let batch = each.sum(self.heads)?;
        let sum = if table.rank() == 2 { batch.sum(0)? } else { batch };
        sum.to_dtype(table.dtype())
    }
}

impl Op for Given {
    const NAME: &'static str = NAME;

    fn forward(&self, args: &[View<'_>]) -> Result<(CpuStorage, Shape)> {
        let (x, cos, sin) = (args[0], args[1], args[2]);
        let layout = self.layout(x.shape().dims(), cos.shape().rank() == 3);
        let table =
            GivenTable { cos: cos.floats(NAME)?, sin: sin.floats(NAME)?, layout, interleaved: self.interleaved };
        let y = map_storage!(NAME, x, data => table.rope(x.rows(data)?)?);
        Ok((y, x.shape().clone()))
    }

    /// Computes the gradients. That of x is the rotation by the opposite angle. With (da, db) the gradient of the
    /// rotated pair, dcos = da a + db b and dsin = db a - da b for each pair (a, b).
    fn backward(&self, args: &[&Tensor], _: &Tensor, grad: &Tensor) -> Result<Vec<Option<Tensor>>> {
        let (xs, cos, sin) = (args[0], args[1], args[2]);
        let mut grads = vec![Some(self.rope(grad, cos, &sin.neg()?)?)];
        if cos.track_op() || sin.track_op() {
            let (a, b) = pairs(&composition::wide(xs)?, self.interleaved)?;
            let (da, db) = pairs(&composition::wide(grad)?, self.interleaved)?;
            grads.push(Some(self.of_table(((&da * &a)? + (&db * &b)?)?, cos)?));
            grads.push(Some(self.of_table(((db * a)? - (da * b)?)?, sin)?));
        }
        Ok(grads)
    }
}
