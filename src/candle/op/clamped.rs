//! Elementwise ops on one tensor that clamp their argument first.

#![forbid(unsafe_code)]

use super::elementwise::{apply, gradient, map, map_both};
use crate::candle::custom_op::{InPlace, Memory, Op, each_memory};
use crate::candle::device;
use crate::candle::view::{View, map_storage};
use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor};

macro_rules! clamped {
    ($($(#[$doc:meta])* $name:ident, $in_place:ident, $backward:ident, $Op:ident;)*) => {$(
        /// Op with its options.
        pub struct $Op(pub crate::$Op);

        $(#[$doc])*
        pub fn $name(xs: &Tensor, options: &crate::$Op) -> Result<Tensor> {
            apply(xs, $Op(*options), |xs| device::$name(xs, options))
        }

        impl Op for $Op {
            const NAME: &'static str = stringify!($name);

            fn forward(&self, args: &[View<'_>]) -> Result<(CpuStorage, Shape)> {
                let (x, options) = (args[0], &self.0);
                let y = map_storage!(Self::NAME, x, data => {
                    map(x, data, |x| crate::$name(x, options), |x| crate::$in_place(x, options))?
                });
                Ok((y, x.shape().clone()))
            }

            fn backward(&self, args: &[&Tensor], _: &Tensor, grad: &Tensor) -> Result<Vec<Option<Tensor>>> {
                gradient(args[0], grad, self)
            }
        }

        /// The gradient as an op on the argument and the gradient of the result.
        impl CustomOp2 for $Op {
            fn name(&self) -> &'static str {
                stringify!($backward)
            }

            fn cpu_fwd(&self, s1: &CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> Result<(CpuStorage, Shape)> {
                let (x, dy) = (View { storage: s1, layout: l1 }, View { storage: s2, layout: l2 });
                let dx = map_both!(stringify!($backward), x, dy, |x, dy| crate::$backward(x, dy, &self.0));
                Ok((dx, x.shape().clone()))
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
    clamped_exp, clamped_exp_in_place, clamped_exp_backward, ClampedExp;
    /// Computes ln x, after raising x to a floor.
    clamped_log, clamped_log_in_place, clamped_log_backward, ClampedLog;
}
