//! Elementwise ops on one tensor.

#![forbid(unsafe_code)]

use crate::candle::composition;
use crate::candle::custom_op::{Custom, InPlace, Memory, Op, each_memory};
use crate::candle::view::{View, map_storage, readable};
use crate::element::Element;
use crate::error::Result as Typed;
use crate::for_each_elementwise;
use candle_core::{CpuStorage, Result, Shape, Tensor};
#[cfg(feature = "candle-cuda")]
use {
    crate::candle::cuda::{each_type, supports, written},
    crate::cuda::elementwise::Function,
    candle_core::{CudaStorage, Error},
};

/// Applies an elementwise op with its kernel, or with `composed` for a tensor without a kernel.
pub(super) fn apply<O>(xs: &Tensor, op: O, composed: impl FnOnce(&Tensor) -> Result<Tensor>) -> Result<Tensor>
where
    O: Op + Send + Sync + 'static,
{
    if !op.has_kernel(xs, &[])? {
        return composed(xs);
    }
    readable(xs, xs.rank().saturating_sub(1))?.apply_op1(Custom(op))
}

/// Applies an op to the elements of a view. If the view is contiguous, `op` computes the result. Any other view is
/// copied, and `in_place` overwrites the copy with the result.
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

/// Runs the CUDA kernel of a function over one or two tensors of the same shape and type. `second` is the name of the
/// second argument.
#[cfg(feature = "candle-cuda")]
pub(super) fn cuda_fwd(
    name: &'static str,
    function: Function,
    second: Option<&'static str>,
    args: &[View<'_, CudaStorage>],
) -> Result<(CudaStorage, Shape)> {
    let x = args[0];
    let y = each_type!(name, x.dtype(), E => {
        let values = x.values::<E>(name)?;
        let other = second.zip(args.get(1).map(|view| view.values::<E>(name)).transpose()?);
        written(&x, x.shape().elem_count(), |stream, y| {
            crate::cuda::elementwise::apply(stream, &function, values, other, y)
        })
    })?;
    Ok((y, x.shape().clone()))
}

/// Runs the CUDA kernel of the function with this name.
#[cfg(feature = "candle-cuda")]
fn named_cuda_fwd(
    name: &'static str,
    second: Option<&'static str>,
    args: &[View<'_, CudaStorage>],
) -> Result<(CudaStorage, Shape)> {
    let missing = || Error::Cuda(format!("{name} has no CUDA kernel").into());
    cuda_fwd(name, Function::named(name).ok_or_else(missing)?, second, args)
}

/// Op that computes the gradient of an elementwise op, given the op's argument and the gradient of the op's result.
pub(super) struct Gradient<'a, O>(pub &'a O);

/// Computes the gradient of `op` with a kernel. The tensors may have any layout.
pub(super) fn gradient<'a, O>(op: &'a O, x: &Tensor, dy: &Tensor) -> Result<Vec<Option<Tensor>>>
where
    Gradient<'a, O>: Op,
{
    Ok(vec![Some(x.contiguous()?.apply_op2_no_bwd(&dy.contiguous()?, &Custom(Gradient(op)))?)])
}

/// Calls one function with the elements of two views of the same type, and wraps the function's result in storage.
macro_rules! map_both {
    ($op:expr, $a:expr, $b:expr, $function:expr) => {
        map_storage!($op, $a, data => {
            $function($a.elements($op, data)?, $b.elements($op, $b.like($op, data)?)?)?
        })
    };
}

pub(super) use map_both;

macro_rules! elementwise {
    (
        $($name:ident $Op:ident $formula:literal [$into:ident $in_place:ident] $derivative:ident
            [$backward:ident $($form:ident)*];)*
    ) => {$(
        pub struct $Op;

        #[doc = concat!("Computes ", $formula, ".")]
        pub fn $name(xs: &Tensor) -> Result<Tensor> {
            apply(xs, $Op, composition::$name)
        }

        impl Op for $Op {
            fn name(&self) -> &'static str {
                stringify!($name)
            }

            fn cpu_fwd(&self, args: &[View<'_>]) -> Result<(CpuStorage, Shape)> {
                let x = args[0];
                let y = map_storage!(self.name(), x, data => map(x, data, crate::$name, crate::$in_place)?);
                Ok((y, x.shape().clone()))
            }

            #[cfg(feature = "candle-cuda")]
            fn has_cuda_kernel(&self, xs: &Tensor, _: &[Tensor]) -> bool {
                supports(xs) && Function::named(self.name()).is_some()
            }

            #[cfg(feature = "candle-cuda")]
            fn cuda_fwd(&self, args: &[View<'_, CudaStorage>]) -> Result<(CudaStorage, Shape)> {
                named_cuda_fwd(self.name(), None, args)
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
                let (x, dy) = (args[0], args[1]);
                let dx = map_both!(self.name(), x, dy, crate::$backward);
                Ok((dx, x.shape().clone()))
            }

            #[cfg(feature = "candle-cuda")]
            fn cuda_fwd(&self, args: &[View<'_, CudaStorage>]) -> Result<(CudaStorage, Shape)> {
                named_cuda_fwd(self.name(), Some("dy"), args)
            }
        }

        impl InPlace for $Op {
            fn overwrite(&self, xs: Memory<'_>, _: &[usize], _: &[View<'_>]) -> Result<()> {
                Ok(each_memory!(xs, data => crate::$in_place(data))?)
            }
        }
    )*};
}

for_each_elementwise!(elementwise);
