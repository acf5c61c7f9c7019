//! Elementwise ops on one tensor.

#![forbid(unsafe_code)]

use crate::candle::custom_op::{Custom, InPlace, Memory, Op, each_memory};
use crate::candle::device;
use crate::candle::place::{Place, place};
use crate::candle::view::{View, map_storage, readable};
use crate::element::Element;
use crate::error::Result as Typed;
use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor};

/// Applies an elementwise op: the kernel on the CPU, and `composed` on other devices.
pub(super) fn apply<O>(xs: &Tensor, op: O, composed: impl FnOnce(&Tensor) -> Result<Tensor>) -> Result<Tensor>
where
    O: Op + Send + Sync + 'static,
{
    match place(xs, O::NAME)? {
        Place::Cpu => readable(xs, xs.rank().saturating_sub(1))?.apply_op1(Custom(op)),
        Place::Device => composed(xs),
    }
}

/// Applies an op to a view's elements in order. `op` handles a contiguous view, and `in_place` a copy of any other.
pub(super) fn map<E: Element>(
    x: View<'_>,
    data: &[E],
    op: impl FnOnce(&[E]) -> Typed<Vec<E>>,
    in_place: impl FnOnce(&mut [E]) -> Typed<()>,
) -> Result<Vec<E>> {
    if let Some(data) = x.contiguous(data) {
        return Ok(op(data)?);
    }
    let rows = x.rows(data)?;
    let mut values = Vec::with_capacity(x.shape().elem_count());
    for row in 0..rows.rows() {
        values.extend_from_slice(rows.row(row));
    }
    in_place(&mut values)?;
    Ok(values)
}

/// Computes the gradient with its kernel, for tensors on the CPU in any layout.
pub(super) fn gradient(x: &Tensor, dy: &Tensor, kernel: &impl CustomOp2) -> Result<Vec<Option<Tensor>>> {
    Ok(vec![Some(x.contiguous()?.apply_op2_no_bwd(&dy.contiguous()?, kernel)?)])
}

/// Returns the elements of a contiguous view.
pub(super) fn elements<'a, E>(view: View<'a>, data: &'a [E], op: &'static str) -> Result<&'a [E]> {
    view.contiguous(data).ok_or_else(|| candle_core::Error::RequiresContiguous { op }.bt())
}

/// Calls one function with the elements of two views of the same type, and wraps its result in storage.
macro_rules! map_both {
    ($op:expr, $x:expr, $dy:expr, $of:expr) => {{
        use crate::candle::op::elementwise::elements;
        match ($x.storage, $dy.storage) {
            (CpuStorage::F64(x), CpuStorage::F64(dy)) => {
                CpuStorage::F64($of(elements($x, x, $op)?, elements($dy, dy, $op)?)?)
            }
            (CpuStorage::F32(x), CpuStorage::F32(dy)) => {
                CpuStorage::F32($of(elements($x, x, $op)?, elements($dy, dy, $op)?)?)
            }
            (CpuStorage::F16(x), CpuStorage::F16(dy)) => {
                CpuStorage::F16($of(elements($x, x, $op)?, elements($dy, dy, $op)?)?)
            }
            (CpuStorage::BF16(x), CpuStorage::BF16(dy)) => {
                CpuStorage::BF16($of(elements($x, x, $op)?, elements($dy, dy, $op)?)?)
            }
            _ => return Err($dy.unsupported($op)),
        }
    }};
}

pub(super) use map_both;

macro_rules! elementwise {
    ($($(#[$doc:meta])* $name:ident, $in_place:ident, $backward:ident, $Op:ident;)*) => {$(
        pub struct $Op;

        $(#[$doc])*
        pub fn $name(xs: &Tensor) -> Result<Tensor> {
            apply(xs, $Op, device::$name)
        }

        impl Op for $Op {
            const NAME: &'static str = stringify!($name);

            fn forward(&self, args: &[View<'_>]) -> Result<(CpuStorage, Shape)> {
                let x = args[0];
                let y = map_storage!(Self::NAME, x, data => map(x, data, crate::$name, crate::$in_place)?);
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
                let dx = map_both!(stringify!($backward), x, dy, crate::$backward);
                Ok((dx, x.shape().clone()))
            }
        }

        impl InPlace for $Op {
            fn overwrite(&self, xs: Memory<'_>, _: &[usize], _: &[View<'_>]) -> Result<()> {
                Ok(each_memory!(xs, data => crate::$in_place(data))?)
            }
        }
    )*};
}

elementwise! {
    /// Computes the error function.
    erf, erf_in_place, erf_backward, Erf;
    /// Computes e^x.
    exp, exp_in_place, exp_backward, Exp;
    /// Computes 2^x.
    exp2, exp2_in_place, exp2_backward, Exp2;
    /// Computes e^x - 1.
    expm1, expm1_in_place, expm1_backward, Expm1;
    /// Computes x (1 + erf(x / sqrt(2))) / 2.
    gelu, gelu_in_place, gelu_backward, Gelu;
    /// Computes x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))) / 2.
    gelu_tanh, gelu_tanh_in_place, gelu_tanh_backward, GeluTanh;
    /// Computes ln x.
    log, log_in_place, log_backward, Log;
    /// Computes ln(1 + x).
    log1p, log1p_in_place, log1p_backward, Log1p;
    /// Computes log2 x.
    log2, log2_in_place, log2_backward, Log2;
    /// Computes -ln(1 + e^-x).
    log_sigmoid, log_sigmoid_in_place, log_sigmoid_backward, LogSigmoid;
    /// Computes 1 / x.
    reciprocal, reciprocal_in_place, reciprocal_backward, Reciprocal;
    /// Computes 1 / sqrt(x).
    rsqrt, rsqrt_in_place, rsqrt_backward, Rsqrt;
    /// Computes 1 / (1 + e^-x).
    sigmoid, sigmoid_in_place, sigmoid_backward, Sigmoid;
    /// Computes x / (1 + e^-x).
    silu, silu_in_place, silu_backward, Silu;
    /// Computes ln(1 + e^x).
    softplus, softplus_in_place, softplus_backward, Softplus;
    /// Computes sqrt x.
    sqrt, sqrt_in_place, sqrt_backward, Sqrt;
    /// Computes tanh x.
    tanh, tanh_in_place, tanh_backward, Tanh;
}
