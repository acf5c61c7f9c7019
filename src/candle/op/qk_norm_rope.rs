//! Root-mean-square normalisation of the rows of a tensor, followed by rotary embedding.

#![forbid(unsafe_code)]

use super::norm;
use super::rms_norm::RmsNorm;
use super::rope::turned_back;
use crate::candle::custom_op::{Custom, Op};
use crate::candle::device;
use crate::candle::place::{Place, place};
use crate::candle::view::{View, map_storage, readable};
use crate::ops::rms_norm::RmsNorm as Options;
use crate::ops::rope::RopeTable;
use candle_core::{CpuStorage, Result, Shape, Tensor};

const NAME: &str = "qk_norm_rope";

/// Computes normalisation and rotary embedding along the last axis of `[.., positions, cols]`.
pub fn qk_norm_rope(xs: &Tensor, weight: Option<&Tensor>, table: &RopeTable, options: &Options<'_>) -> Result<Tensor> {
    match place(xs, NAME)? {
        Place::Cpu => {
            let xs = readable(xs, norm::last_axis(NAME, xs)?)?;
            let op = Custom(QkNormRope { norm: RmsNorm::new(options), table: table.clone() });
            match norm::operand(NAME, "weight", weight, options.weight, xs.device())? {
                Some(weight) => xs.apply_op2(&weight, op),
                None => xs.apply_op1(op),
            }
        }
        Place::Device => device::rope(&device::rms_norm(xs, weight, options)?, table),
    }
}

struct QkNormRope {
    norm: RmsNorm,
    table: RopeTable,
}

impl Op for QkNormRope {
    const NAME: &'static str = NAME;

    fn forward(&self, args: &[View<'_>]) -> Result<(CpuStorage, Shape)> {
        let x = args[0];
        let weight = args.get(1).map(|weight| weight.floats(NAME)).transpose()?;
        let options = self.norm.options(weight);
        let y = map_storage!(NAME, x, data => crate::qk_norm_rope(x.rows(data)?, &self.table, &options)?);
        Ok((y, x.shape().clone()))
    }

    fn backward(&self, args: &[&Tensor], _: &Tensor, grad: &Tensor) -> Result<Vec<Option<Tensor>>> {
        self.norm.gradients(args, &turned_back(grad, &self.table)?)
    }
}
