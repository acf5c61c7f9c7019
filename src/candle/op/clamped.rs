//! Elementwise ops on one tensor that clamp their argument first.

#![forbid(unsafe_code)]

use super::elementwise::{Gradient, apply, gradient, map, map_both};
use crate::candle::composition;
use crate::candle::custom_op::{InPlace, Memory, Op, each_memory};
use crate::candle::view::{View, map_storage};
use candle_core::{CpuStorage, Result, Shape, Tensor};
#[cfg(feature = "candle-cuda")]
use {
    super::elementwise::cuda_fwd, crate::candle::cuda::supports, crate::cuda::elementwise::Function,
    candle_core::CudaStorage,
};

macro_rules! clamped {
    ($($(#[$doc:meta])* $name:ident, $in_place:ident, $backward:ident, $Op:ident, $OpBackward:ident;)*) => {$(
        /// Op with its options.
        pub struct $Op(pub crate::$Op);

        $(#[$doc])*
        pub fn $name(xs: &Tensor, options: &crate::$Op) -> Result<Tensor> {
            apply(xs, $Op(*options), |xs| composition::$name(xs, options))
        }

        impl Op for $Op {
            fn name(&self) -> &'static str {
                stringify!($name)
            }

            fn cpu_fwd(&self, args: &[View<'_>]) -> Result<(CpuStorage, Shape)> {
                let (x, options) = (args[0], &self.0);
                let y = map_storage!(self.name(), x, data => {
                    map(x, data, |x| crate::$name(x, options), |x| crate::$in_place(x, options))?
                });
                Ok((y, x.shape().clone()))
            }

            #[cfg(feature = "candle-cuda")]
            fn has_cuda_kernel(&self, xs: &Tensor, _: &[Tensor]) -> bool {
                supports(xs)
            }

            #[cfg(feature = "candle-cuda")]
            fn cuda_fwd(&self, args: &[View<'_, CudaStorage>]) -> Result<(CudaStorage, Shape)> {
                cuda_fwd(self.name(), Function::$Op(self.0), None, args)
            }

            fn bwd(&self, args: &[&Tensor], grad: &Tensor) -> Result<Vec<Option<Tensor>>> {
                gradient(self, args[0], grad)
            }
        }

        impl Op for Gradient<'_, $Op> {
            fn name(&self) -> &'static str {
                stringify!($backward)
            }

            fn cpu_fwd(&self, args: &[View<'_>]) -> Result<(CpuStorage, Shape)> {
                let (x, dy, options) = (args[0], args[1], &self.0.0);
                let dx = map_both!(self.name(), x, dy, |x, dy| crate::$backward(x, dy, options));
                Ok((dx, x.shape().clone()))
            }

            #[cfg(feature = "candle-cuda")]
            fn cuda_fwd(&self, args: &[View<'_, CudaStorage>]) -> Result<(CudaStorage, Shape)> {
                cuda_fwd(self.name(), Function::$OpBackward(self.0.0), Some("dy"), args)
            }
        }

        impl InPlace for $Op {
            fn overwrite(&self, xs: Memory<'_>, _: &[usize], _: &[View<'_>]) -> Result<()> {
                Ok(each_memory!(xs, data => crate::$in_place(data, &self.0))?)
            }
        }
    )*};
}

clamped! {
    /// Computes e^x, after clamping x to a range.
    clamped_exp, clamped_exp_in_place, clamped_exp_backward, ClampedExp, ClampedExpBackward;
    /// Computes ln x, after raising x to a floor.
    clamped_log, clamped_log_in_place, clamped_log_backward, ClampedLog, ClampedLogBackward;
}
