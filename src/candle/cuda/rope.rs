//! Rotary embedding with a table, which is copied to the device at each call.

#![forbid(unsafe_code)]

use super::is_taken;
use super::kernel::{Kernel, View, each_type, untracked, written_rows};
use crate::candle::composition;
use crate::cuda::{RopeTable as DeviceTable, rope_backward_into, rope_into};
use crate::ops::rope::RopeTable;
use candle_core::{CudaStorage, Result, Shape, Tensor};
use std::sync::Arc;

const NAME: &str = "rope";

/// Computes the rotary embedding of `[.., positions, cols]`, as [`composition::rope`] does.
pub fn rope(xs: &Tensor, table: &RopeTable) -> Result<Tensor> {
    if !is_taken(xs) {
        return composition::rope(xs, table);
    }
    if !xs.track_op() {
        return untracked(NAME, &[xs], |args| turned(args[0], table, false));
    }
    let table = Arc::new(table.clone());
    let back = table.clone();
    xs.contiguous()?.apply_op1(Kernel {
        name: NAME,
        forward: move |args: &[View<'_>]| turned(args[0], &table, false),
        backward: move |_: &[&Tensor], grad: &Tensor| {
            Ok(vec![Some(untracked("rope_backward", &[grad], |args| turned(args[0], &back, true))?)])
        },
    })
}

fn turned(x: View<'_>, table: &RopeTable, back: bool) -> Result<(CudaStorage, Shape)> {
    let table = DeviceTable::new(&x.stream(), table)?;
    let y = each_type!(NAME, x.dtype(), E => {
        let rows = x.rows::<E>(NAME)?;
        written_rows(&x, |stream, y| {
            let turn = if back { rope_backward_into } else { rope_into };
            turn(stream, rows, y, &table)
        })
    })?;
    Ok((y, x.shape().clone()))
}
