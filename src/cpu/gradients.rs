//! Norms and clipping of gradients of any storage type.

use super::Kernels;
#[cfg(feature = "sharded")]
use super::clip_grad_norm::Tiles;
use super::clip_grad_norm::{Scale, TensorNorm};
use super::clip_grad_value::NonFinite;
use crate::error::Result;
use crate::floats::{Floats, FloatsMut, each_type};
use crate::options::NormType;
use crate::stats::Finite;

impl Floats<'_> {
    pub(crate) fn finite(&self) -> Result<Finite> {
        each_type!(self, values => Kernels::finite(values))
    }

    pub(crate) fn norm_part(&self, norm_type: NormType) -> Result<TensorNorm> {
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

    pub(crate) fn clip(&mut self, limit: f64) -> Result<NonFinite> {
        match self {
            FloatsMut::F64(values) => Kernels::clip_value(values, limit),
            FloatsMut::F32(values) => Kernels::clip_value(values, limit),
            FloatsMut::F16(values) => Kernels::clip_value(values, limit),
            FloatsMut::BF16(values) => Kernels::clip_value(values, limit),
        }
    }
}
