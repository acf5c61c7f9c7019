//! Division of a tensor's lanes by their Euclidean norms.

#![forbid(unsafe_code)]

use super::formula;
use crate::candle::composition::{self, Range, Unit, limited, unit};
use crate::candle::custom_op::{Custom, InPlace, Memory, Op, each_memory};
use crate::candle::support::on_cpu;
use crate::candle::view::{View, map_storage, readable};
use crate::ops::l2_normalize::L2Normalize as Options;
use crate::rows::LanesMut;
use candle_core::{CpuStorage, Result, Shape, Tensor};

const NAME: &str = "l2_normalize";

pub struct L2Normalize {
    pub axis: usize,
    pub options: Options,
}

/// Divides each lane along an axis by its norm.
pub fn l2_normalize(xs: &Tensor, axis: usize, options: &Options) -> Result<Tensor> {
    if !on_cpu(xs, NAME)? {
        return composition::l2_normalize(xs, axis, options);
    }
    readable(xs, axis)?.apply_op1(Custom(L2Normalize { axis, options: *options }))
}

impl Op for L2Normalize {
    fn name(&self) -> &'static str {
        NAME
    }

    fn cpu_fwd(&self, args: &[View<'_>]) -> Result<(CpuStorage, Shape)> {
        let x = args[0];
        let y = map_storage!(NAME, x, data => crate::l2_normalize(x.lanes(data, self.axis)?, &self.options)?);
        Ok((y, x.shape().clone()))
    }

    /// Computes `dx = (dy - y * sum(dy * y)) / norm`, or `dy / eps` in lanes whose norm is at most eps. If norm and eps
    /// are 0, dx is 0.
    fn bwd(&self, args: &[&Tensor], grad: &Tensor) -> Result<Vec<Option<Tensor>>> {
        let xs = args[0];
        if xs.elem_count() == 0 {
            return Ok(vec![Some(xs.zeros_like()?)]);
        }
        let dy = formula::wide(grad)?;
        let Unit { y, inverse, is_short } = unit(&formula::wide(xs)?, self.axis, self.options.eps)?;
        // Scaling keeps `sum(dy * y)` within the range of f64.
        let scale = Range::of(&dy).scale(&dy, self.axis, false)?;
        let h = dy.broadcast_mul(&scale)?;
        // For the smallest norms, the reciprocal 1 / norm overflows f64. The reciprocal is then limited to the largest
        // f64.
        let inverse = limited(&inverse, f64::MAX)?;
        let along = (&h * &y)?.sum_keepdim(self.axis)?;
        let along = is_short.where_cond(&along.zeros_like()?, &along)?;
        let dx = (h - y.broadcast_mul(&along)?)?.broadcast_mul(&inverse)?.broadcast_div(&scale)?;
        Ok(vec![Some(formula::rounded(NAME, &dx, &dy, xs)?)])
    }
}

impl InPlace for L2Normalize {
    fn overwrite(&self, xs: Memory<'_>, dims: &[usize], _: &[View<'_>]) -> Result<()> {
        let axis = self.axis as isize;
        each_memory!(xs, data => crate::l2_normalize_in_place(LanesMut::shaped(data, dims, axis)?, &self.options)?);
        Ok(())
    }
}
