//! Root-mean-square normalisation of tensors.

#![forbid(unsafe_code)]

use super::norm::{self, Kind};
use super::norm_backward::{self, Of};
use crate::candle::composition;
use crate::candle::custom_op::{Custom, InPlace, Memory, Op, each_memory};
use crate::candle::device;
use crate::candle::place::{Place, place};
use crate::candle::view::{View, map_storage, readable};
use crate::floats::Floats;
use crate::ops::rms_norm::{RmsNorm as Options, Rounding};
use crate::rows::RowsMut;
use candle_core::{CpuStorage, Result, Shape, Tensor};

pub const NAME: &str = "rms_norm";

/// Options without the weight, which is an argument of the op.
#[derive(Clone, Copy)]
pub struct RmsNorm {
    weight_offset: f64,
    eps: f64,
    rounding: Rounding,
}

/// Computes root-mean-square normalisation along the last axis.
pub fn rms_norm(xs: &Tensor, weight: Option<&Tensor>, options: &Options<'_>) -> Result<Tensor> {
    let op = RmsNorm::new(options);
    match place(xs, NAME)? {
        Place::Cpu => {
            let xs = readable(xs, norm::last_axis(NAME, xs)?)?;
            match norm::operand(NAME, "weight", weight, options.weight, xs.device())? {
                Some(weight) => xs.apply_op2(&weight, Custom(op)),
                None => xs.apply_op1(Custom(op)),
            }
        }
        Place::Device => device::rms_norm(xs, weight, options),
    }
}

impl RmsNorm {
    pub fn new(options: &Options<'_>) -> Self {
        let Options { weight_offset, eps, rounding, .. } = *options;
        RmsNorm { weight_offset, eps, rounding }
    }

    pub fn options<'a>(&self, weight: Option<Floats<'a>>) -> Options<'a> {
        let RmsNorm { weight_offset, eps, rounding } = *self;
        Options { weight, weight_offset, eps, rounding }
    }

    /// Returns the options for kernels, with this weight.
    fn with<'a>(&self, weight: Option<&View<'a>>) -> Result<Options<'a>> {
        Ok(self.options(weight.map(|weight| weight.floats(NAME)).transpose()?))
    }

    /// Computes the gradients of x and, where candle tracks it, of the weight.
    pub fn gradients(&self, args: &[&Tensor], grad: &Tensor) -> Result<Vec<Option<Tensor>>> {
        if let Place::Cpu = place(args[0], NAME)? {
            return norm_backward::gradients(Of::Rms(*self), args, grad);
        }
        let weight = args.get(1).map(|w| composition::wide(w)? + self.weight_offset).transpose()?;
        let weight = match weight {
            None if self.weight_offset != 0.0 => Some(Tensor::new(1.0 + self.weight_offset, args[0].device())?),
            weight => weight,
        };
        norm::gradients(Kind { centred: false, eps: self.eps }, args, weight.as_ref(), grad)
    }
}

impl Op for RmsNorm {
    const NAME: &'static str = NAME;

    fn forward(&self, args: &[View<'_>]) -> Result<(CpuStorage, Shape)> {
        let (x, options) = (args[0], self.with(args.get(1))?);
        let y = map_storage!(NAME, x, data => crate::rms_norm(x.rows(data)?, &options)?);
        Ok((y, x.shape().clone()))
    }

    fn backward(&self, args: &[&Tensor], _: &Tensor, grad: &Tensor) -> Result<Vec<Option<Tensor>>> {
        self.gradients(args, grad)
    }
}

impl InPlace for RmsNorm {
    fn overwrite(&self, xs: Memory<'_>, dims: &[usize], args: &[View<'_>]) -> Result<()> {
        let options = self.with(args.first())?;
        each_memory!(xs, data => crate::rms_norm_in_place(RowsMut::shaped(data, dims)?, &options)?);
        Ok(())
    }
}
