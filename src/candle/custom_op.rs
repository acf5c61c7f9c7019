//! Adapter to candle's traits for custom ops. An op implements [`Op`] once for any number of tensors and for all
//! devices with kernels; the adapter implements candle's traits for one, two and three tensors.

#![forbid(unsafe_code)]

use super::gradient::once;
use super::support::on_cpu;
use super::view::{View, address};
use crate::simd::in_default;
use candle_core::{
    CpuStorage, CudaStorage, CustomOp1, CustomOp2, CustomOp3, Error, InplaceOp1, InplaceOp2, InplaceOp3, Layout,
    Result, Shape, Tensor,
};

/// An op with its kernels and its gradients.
pub trait Op {
    /// Returns the op's name for errors and reports.
    fn name(&self) -> &'static str;

    /// Computes the result and its shape on the CPU.
    fn cpu_fwd(&self, args: &[View<'_>]) -> Result<(CpuStorage, Shape)>;

    /// Returns whether `cuda_fwd` computes the op for this tensor and these operands.
    fn has_cuda_kernel(&self, _: &Tensor, _: &[Tensor]) -> bool {
        false
    }

    /// Returns whether a kernel computes the op for this tensor and these operands. If no kernel does, candle's own ops
    /// compute it.
    ///
    /// # Errors
    /// Candle's error for a type that Evenkeel does not support.
    fn has_kernel(&self, xs: &Tensor, operands: &[Tensor]) -> Result<bool> {
        Ok(on_cpu(xs, self.name())? || self.has_cuda_kernel(xs, operands))
    }

    /// Computes the result and its shape on a CUDA device, from contiguous tensors.
    fn cuda_fwd(&self, _: &[View<'_, CudaStorage>]) -> Result<(CudaStorage, Shape)> {
        Err(Error::Cuda(format!("no cuda implementation for {}", self.name()).into()))
    }

    /// Computes the gradient of each argument, in order. Candle panics if an argument that it tracks has no gradient.
    /// For an untracked argument, the list may have `None`. The list may be shorter if the last arguments are
    /// untracked. Gradients must not share memory with other tensors, because the adapter takes the memory of the
    /// gradients. The default implementation is for ops that are only applied to untracked tensors, such as an op that
    /// computes a gradient.
    fn bwd(&self, _: &[&Tensor], _: &Tensor) -> Result<Vec<Option<Tensor>>> {
        Err(Error::BackwardNotSupported { op: self.name() }.bt())
    }
}

/// An op that can overwrite a contiguous tensor on the CPU with its result.
pub trait InPlace: Op {
    /// Overwrites `xs` with the result. `xs` has the shape `dims`. `args` are the op's other arguments.
    fn overwrite(&self, xs: Memory<'_>, dims: &[usize], args: &[View<'_>]) -> Result<()>;
}

/// Mutable elements of a contiguous tensor, with one variant for each element type.
pub enum Memory<'a> {
    F64(&'a mut [f64]),
    F32(&'a mut [f32]),
    F16(&'a mut [half::f16]),
    BF16(&'a mut [half::bf16]),
}

impl<'a> Memory<'a> {
    /// Returns the elements of a storage that candle passes to an in-place op.
    pub fn of(storage: &'a mut CpuStorage, layout: &Layout, op: &'static str) -> Result<Self> {
        let (start, end) = layout.contiguous_offsets().ok_or(Error::RequiresContiguous { op })?;
        let range = if start < end { start..end } else { 0..0 };
        match storage {
            CpuStorage::F64(data) => Ok(Memory::F64(&mut data[range])),
            CpuStorage::F32(data) => Ok(Memory::F32(&mut data[range])),
            CpuStorage::F16(data) => Ok(Memory::F16(&mut data[range])),
            CpuStorage::BF16(data) => Ok(Memory::BF16(&mut data[range])),
            _ => Err(View { storage: &*storage, layout }.unsupported(op)),
        }
    }
}

/// Evaluates one expression for the element type of a [`Memory`].
macro_rules! each_memory {
    ($memory:expr, $data:ident => $result:expr) => {
        match $memory {
            crate::candle::custom_op::Memory::F64($data) => $result,
            crate::candle::custom_op::Memory::F32($data) => $result,
            crate::candle::custom_op::Memory::F16($data) => $result,
            crate::candle::custom_op::Memory::BF16($data) => $result,
        }
    };
}
pub(crate) use each_memory;

/// Implementation of candle's traits for an [`Op`].
pub struct Custom<O>(pub O);

impl<O: Op> Custom<O> {
    /// Returns one gradient for each argument that candle tracks, and `None` for the others. The gradients cannot be
    /// differentiated again.
    fn gradients<const N: usize>(&self, args: [&Tensor; N], grad: &Tensor) -> Result<[Option<Tensor>; N]> {
        let mut gradients = [const { None }; N];
        for ((arg, to), gradient) in args.iter().zip(&mut gradients).zip(self.0.bwd(&args, grad)?) {
            if let (true, Some(gradient)) = (arg.track_op(), gradient) {
                *to = Some(once(self.0.name(), &gradient, arg)?);
            }
        }
        Ok(gradients)
    }
}

/// Implements one of candle's traits for custom ops. Kernels set the default floating-point environment themselves;
/// `in_default` sets it for the code around the kernels.
macro_rules! custom {
    ($CustomOp:ident, $Gradients:ty, $($storage:ident $layout:ident $arg:ident),+) => {
        impl<O: Op> $CustomOp for Custom<O> {
            fn name(&self) -> &'static str {
                self.0.name()
            }

            fn cpu_fwd(&self, $($storage: &CpuStorage, $layout: &Layout),+) -> Result<(CpuStorage, Shape)> {
                in_default(|| self.0.cpu_fwd(&[$(View { storage: $storage, layout: $layout }),+]))
            }

            fn cuda_fwd(&self, $($storage: &CudaStorage, $layout: &Layout),+) -> Result<(CudaStorage, Shape)> {
                self.0.cuda_fwd(&[$(View { storage: $storage, layout: $layout }),+])
            }

            fn bwd(&self, $($arg: &Tensor,)+ _: &Tensor, grad: &Tensor) -> Result<$Gradients> {
                self.gradients([$($arg),+], grad).map(|[$($arg),+]| ($($arg),+))
            }
        }
    };
}
custom!(CustomOp1, Option<Tensor>, s1 l1 arg1);
custom!(CustomOp2, (Option<Tensor>, Option<Tensor>), s1 l1 arg1, s2 l2 arg2);
custom!(CustomOp3, (Option<Tensor>, Option<Tensor>, Option<Tensor>), s1 l1 arg1, s2 l2 arg2, s3 l3 arg3);

/// Implements one of candle's traits for ops that overwrite their first tensor.
macro_rules! in_place {
    ($InplaceOp:ident, $($storage:ident $layout:ident),*) => {
        impl<O: InPlace> $InplaceOp for Custom<O> {
            fn name(&self) -> &'static str {
                self.0.name()
            }

            fn cpu_fwd(
                &self,
                xs: &mut CpuStorage,
                layout: &Layout,
                $($storage: &CpuStorage, $layout: &Layout),*
            ) -> Result<()> {
                let memory = Memory::of(xs, layout, self.0.name())?;
                self.0.overwrite(memory, layout.dims(), &[$(View { storage: $storage, layout: $layout }),*])
            }
        }
    };
}
in_place!(InplaceOp1,);
in_place!(InplaceOp2, s2 l2);
in_place!(InplaceOp3, s2 l2, s3 l3);

/// Applies an op to a tensor and up to two operands.
pub fn apply(xs: &Tensor, operands: &[Tensor], op: impl Op + Send + Sync + 'static) -> Result<Tensor> {
    match operands {
        [] => xs.apply_op1(Custom(op)),
        [a] => xs.apply_op2(a, Custom(op)),
        [a, b, ..] => xs.apply_op3(a, b, Custom(op)),
    }
}

/// Applies an op that may borrow from the caller. If candle tracks gradients of `xs`, candle keeps the op for the
/// backward pass. In this case, `own` converts the op to an op without borrows.
pub fn apply_borrowing<A: Op, O: Op + Send + Sync + 'static>(
    xs: &Tensor,
    op: A,
    own: impl FnOnce(A) -> O,
) -> Result<Tensor> {
    if xs.track_op() { xs.apply_op1(Custom(own(op))) } else { xs.apply_op1_no_bwd(&Custom(op)) }
}

/// Overwrites `xs` with the result of an op that also takes these operands.
pub fn overwrite(xs: &Tensor, operands: &[Tensor], op: impl InPlace) -> Result<()> {
    let op = Custom(op);
    match operands {
        [] => xs.inplace_op1(&op),
        [a] => xs.inplace_op2(a, &op),
        [a, b, ..] => xs.inplace_op3(a, b, &op),
    }
}

/// Returns whether two tensors have the same storage.
pub fn share_memory(a: &Tensor, b: &Tensor) -> bool {
    address(a) == address(b)
}
