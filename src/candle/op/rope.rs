//! Rotary embedding of a tensor, with a [`RopeTable`] or with cosines and sines in tensors.

#![forbid(unsafe_code)]

use super::norm::last_axis;
use crate::candle::composition::{self, pairs};
use crate::candle::custom_op::{Custom, InPlace, Memory, Op, apply, each_memory};
use crate::candle::support::on_cpu;
use crate::candle::view::{View, map_storage, readable};
use crate::cpu::rope::Layout;
use crate::ops::rope::{GivenTable, RopeTable};
use crate::rows::RowsMut;
use candle_core::{CpuStorage, Result, Shape, Tensor};
#[cfg(feature = "candle-cuda")]
use {
    crate::candle::cuda::{OnDevice, copied, map_rows, supports},
    crate::cuda,
    candle_core::CudaStorage,
};

pub const NAME: &str = "rope";

/// Rotary embedding with a table.
pub struct Rope(pub RopeTable);

/// Computes the rotary embedding of `[.., positions, cols]` with a table.
pub fn rope(xs: &Tensor, table: &RopeTable) -> Result<Tensor> {
    let op = Rope(table.clone());
    if !op.has_kernel(xs, &[])? {
        return composition::rope(xs, table);
    }
    let xs = readable(xs, last_axis(NAME, xs)?)?;
    apply(&xs, &[], op)
}

impl Op for Rope {
    fn name(&self) -> &'static str {
        NAME
    }

    fn cpu_fwd(&self, args: &[View<'_>]) -> Result<(CpuStorage, Shape)> {
        let x = args[0];
        let y = map_storage!(NAME, x, data => crate::rope(x.rows(data)?, &self.0)?);
        Ok((y, x.shape().clone()))
    }

    #[cfg(feature = "candle-cuda")]
    fn has_cuda_kernel(&self, xs: &Tensor, _: &[Tensor]) -> bool {
        supports(xs)
    }

    #[cfg(feature = "candle-cuda")]
    fn cuda_fwd(&self, args: &[View<'_, CudaStorage>]) -> Result<(CudaStorage, Shape)> {
        let x = args[0];
        let table = on_device(&x, &self.0)?;
        let y = map_rows!(self.name(), x, |stream, rows, y| cuda::rope_into(stream, rows, y, table.get()?));
        Ok((y, x.shape().clone()))
    }

    fn bwd(&self, _: &[&Tensor], grad: &Tensor) -> Result<Vec<Option<Tensor>>> {
        Ok(vec![Some(rotated_back(grad, &self.0)?)])
    }
}

/// Returns the copy of the table on the device of `x`.
#[cfg(feature = "candle-cuda")]
fn on_device(x: &View<'_, CudaStorage>, table: &RopeTable) -> Result<OnDevice<cuda::RopeTable>> {
    copied((NAME, "table"), x, table.copies(), |stream| cuda::RopeTable::new(stream, table))
}

/// Computes the gradient of rotary embedding with a table: rotates `grad` by the opposite angles.
pub(super) fn rotated_back(grad: &Tensor, table: &RopeTable) -> Result<Tensor> {
    readable(grad, last_axis(NAME, grad)?)?.apply_op1_no_bwd(&Custom(RopeBackward(table)))
}

/// Op that rotates by the negated angles of a table.
struct RopeBackward<'a>(&'a RopeTable);

impl Op for RopeBackward<'_> {
    fn name(&self) -> &'static str {
        "rope_backward"
    }

    fn cpu_fwd(&self, args: &[View<'_>]) -> Result<(CpuStorage, Shape)> {
        let dy = args[0];
        let dx = map_storage!(self.name(), dy, data => crate::rope_backward(dy.rows(data)?, self.0)?);
        Ok((dx, dy.shape().clone()))
    }

    #[cfg(feature = "candle-cuda")]
    fn cuda_fwd(&self, args: &[View<'_, CudaStorage>]) -> Result<(CudaStorage, Shape)> {
        let dy = args[0];
        let table = on_device(&dy, self.0)?;
        let y = map_rows!(self.name(), dy, |stream, rows, y| cuda::rope_backward_into(stream, rows, y, table.get()?));
        Ok((y, dy.shape().clone()))
    }
}

impl InPlace for Rope {
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
    /// Computes the rotary embedding of a tensor of rank 4. `cos` and `sin` must have as many positions as the tensor.
    pub fn rope(self, xs: &Tensor, cos: &Tensor, sin: &Tensor) -> Result<Tensor> {
        if !on_cpu(xs, NAME)? {
            let per_row = |table: &Tensor| table.unsqueeze(table.rank() + self.heads - 3);
            return composition::rotated(xs, &per_row(cos)?, &per_row(sin)?, self.interleaved);
        }
        readable(xs, 3)?.apply_op3(&cos.contiguous()?, &sin.contiguous()?, Custom(self))
    }

    /// Returns the layout that maps each row of a tensor with these dimensions to its row of the table.
    fn layout(self, dims: &[usize], batched: bool) -> Layout {
        let (heads, positions) = (dims[self.heads], dims[3 - self.heads]);
        Layout {
            repeat: if self.heads == 2 { heads.max(1) } else { 1 },
            period: positions.max(1),
            batch_rows: (heads * positions).max(1),
            batch_stride: if batched { positions } else { 0 },
        }
    }

    /// Computes the gradient of a table of cosines or sines. `each` has one gradient for each row of the rotated
    /// tensor. The gradients of all rows that use the same table row are added up.
    fn of_table(self, each: Tensor, table: &Tensor) -> Result<Tensor> {
        let batch = each.sum(self.heads)?;
        let sum = if table.rank() == 2 { batch.sum(0)? } else { batch };
        sum.to_dtype(table.dtype())
    }
}

impl Op for Given {
    fn name(&self) -> &'static str {
        NAME
    }

    fn cpu_fwd(&self, args: &[View<'_>]) -> Result<(CpuStorage, Shape)> {
        let (x, cos, sin) = (args[0], args[1], args[2]);
        let layout = self.layout(x.shape().dims(), cos.shape().rank() == 3);
        let table = GivenTable {
            cos: cos.floats(NAME)?,
            sin: sin.floats(NAME)?,
            layout,
            interleaved: self.interleaved,
            direction: 1.0,
        };
        let y = map_storage!(NAME, x, data => table.rope(x.rows(data)?)?);
        Ok((y, x.shape().clone()))
    }

    /// Computes the gradients. The gradient of x is `grad`, rotated by the opposite angle. Let (a, b) be a pair of x,
    /// and (da, db) the gradient of the rotated pair. Then the gradient of the cosine is `da * a + db * b`, and the
    /// gradient of the sine is `db * a - da * b`.
    fn bwd(&self, args: &[&Tensor], grad: &Tensor) -> Result<Vec<Option<Tensor>>> {
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
