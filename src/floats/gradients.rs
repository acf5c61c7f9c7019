//! Inspection, norms and clipping of gradients of any storage type.

use super::{Floats, FloatsMut};
use crate::cpu::Kernels;
#[cfg(feature = "sharded")]
use crate::cpu::clip_grad_norm::Tiles;
use crate::cpu::clip_grad_norm::{Part, Scale};
use crate::cpu::clip_grad_value::Met;
use crate::error::Result;
use crate::ops::clip_grad_norm::NormType;
use crate::ops::inspect::{Finite, Stats};

impl Floats<'_> {
    pub(crate) fn inspect(&self) -> Result<Stats> {
        each_type!(self, values => crate::inspect(values))
    }

    pub(crate) fn finite(&self) -> Result<Finite> {
        each_type!(self, values => Kernels::finite(values))
    }

    pub(crate) fn norm_part(&self, norm_type: NormType) -> Result<Part> {
        each_type!(self, values => Kernels::norm_part(values, norm_type))
    }

    #[cfg(feature = "sharded")]
    pub(crate) fn norm_tiles(&self, norm_type: NormType, unit: f64) -> Result<Tiles> {
        each_type!(self, values => Kernels::norm_tiles(values, norm_type, unit))
    }
}

impl FloatsMut<'_> {
    pub(crate) fn scale(&mut self, by: Scale) -> Result<()> {
        match self {
            FloatsMut::F64(values) => Kernels::scale(values, by),
            FloatsMut::F32(values) => Kernels::scale(values, by),
            FloatsMut::F16(values) => Kernels::scale(values, by),
            FloatsMut::BF16(values) => Kernels::scale(values, by),
        }
    }

    pub(crate) fn clip(&mut self, limit: f64) -> Result<Met> {
        match self {
            FloatsMut::F64(values) => Kernels::clip_value(values, limit),
            FloatsMut::F32(values) => Kernels::clip_value(values, limit),
            FloatsMut::F16(values) => Kernels::clip_value(values, limit),
            FloatsMut::BF16(values) => Kernels::clip_value(values, limit),
        }
    }
}
