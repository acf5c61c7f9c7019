//! Root-mean-square normalisation of the rows of a tensor, followed by rotary embedding.

#![forbid(unsafe_code)]

use super::norm::{self, NormOp};
use super::rms_norm::{RmsNorm, rms_norm};
use super::rope::{rope, rotated_back};
use crate::candle::custom_op::{Op, apply};
use crate::candle::support::on_cpu;
use crate::candle::view::{View, map_storage, readable};
use crate::ops::rms_norm::RmsNorm as Options;
use crate::ops::rope::RopeTable;
use candle_core::{CpuStorage, Result, Shape, Tensor};

const NAME: &str = "qk_norm_rope";

/// Computes normalisation and rotary embedding along the last axis of `[.., positions, cols]`.
pub fn qk_norm_rope(xs: &Tensor, weight: Option<&Tensor>, table: &RopeTable, options: &Options<'_>) -> Result<Tensor> {
    if !on_cpu(xs, NAME)? {
        return rope(&rms_norm(xs, weight, options)?, table);
    }
    let xs = readable(xs, norm::last_axis(NAME, xs)?)?;
    let weight = norm::operand(NAME, "weight", weight, options.weight, xs.device())?;
    apply(&xs, weight.as_slice(), QkNormRope { norm: RmsNorm::new(options), table: table.clone() })
}

struct QkNormRope {
    norm: RmsNorm,
    table: RopeTable,
}

impl Op for QkNormRope {
    fn name(&self) -> &'static str {
        NAME
    }

    fn cpu_fwd(&self, args: &[View<'_>]) -> Result<(CpuStorage, Shape)> {
        let x = args[0];
        let weight = args.get(1).map(|weight| weight.floats(NAME)).transpose()?;
        let options = self.norm.options(weight);
        let y = map_storage!(NAME, x, data => crate::qk_norm_rope(x.rows(data)?, &self.table, &options)?);
        Ok((y, x.shape().clone()))
    }

    fn bwd(&self, args: &[&Tensor], grad: &Tensor) -> Result<Vec<Option<Tensor>>> {
        norm::gradients(NormOp::Rms(self.norm), args, &rotated_back(grad, &self.table)?)
    }
}
