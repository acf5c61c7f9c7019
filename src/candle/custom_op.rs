//! Adapter to candle's traits for custom ops. An op implements [`Op`] once for any number of tensors; the adapter
//! implements candle's traits for one, two and three tensors.

#![forbid(unsafe_code)]

use super::view::View;
use crate::simd::in_default;
use candle_core::{
    CpuStorage, CustomOp1, CustomOp2, CustomOp3, Error, InplaceOp1, InplaceOp2, InplaceOp3, Layout, Result, Shape,
    Tensor,
};

/// An op on the CPU with its gradients.
pub trait Op {
    /// Name of the op in errors and reports.
    const NAME: &'static str;

    /// Computes the result and its shape.
    fn forward(&self, args: &[View<'_>]) -> Result<(CpuStorage, Shape)>;

    /// Computes the gradient of each argument, in order. Candle panics if an argument that it tracks has no gradient.
    /// An untracked argument may have `None`, or be missing at the end.
    fn backward(&self, args: &[&Tensor], result: &Tensor, grad: &Tensor) -> Result<Vec<Option<Tensor>>>;
}

/// An op that can overwrite a contiguous tensor with its result.
pub trait InPlace: Op {
    /// Overwrites `xs`, which has the shape `dims`. `args` are the op's other arguments.
    fn overwrite(&self, xs: Memory<'_>, dims: &[usize], args: &[View<'_>]) -> Result<()>;
}

/// Elements of a contiguous tensor, by type.
pub enum Memory<'a> {
    F64(&'a mut [f64]),
    F32(&'a mut [f32]),
    F16(&'a mut [half::f16]),
    BF16(&'a mut [half::bf16]),
}

impl<'a> Memory<'a> {
    /// Returns the elements of a storage that candle passes for overwriting.
    pub fn of(storage: &'a mut CpuStorage, layout: &Layout, op: &'static str) -> Result<Self> {
        let (start, end) = layout.contiguous_offsets().ok_or(Error::RequiresContiguous { op })?;
        let range = if start < end { start..end } else { 0..0 };
        match storage {
            CpuStorage::F64(data) => Ok(Memory::F64(&mut data[range])),
            CpuStorage::F32(data) => Ok(Memory::F32(&mut data[range])),
            CpuStorage::F16(data) => Ok(Memory::F16(&mut data[range])),
            CpuStorage::BF16(data) => Ok(Memory::BF16(&mut data[range])),
            _ => Err(View { storage, layout }.unsupported(op)),
        }
    }
}

/// Evaluates one expression for the element type of the memory.
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

/// Implementation of candle's custom-op traits for an [`Op`].
pub struct Custom<O>(pub O);

impl<O: Op> Custom<O> {
    /// Computes the result, in the default floating-point environment. Kernels set it themselves; this covers the work
    /// around them.
    fn result(&self, args: &[View<'_>]) -> Result<(CpuStorage, Shape)> {
        in_default(|| self.0.forward(args))
    }

    /// Returns one gradient for each argument that candle tracks, and `None` for the others.
    fn gradients<const N: usize>(
        &self,
        args: [&Tensor; N],
        result: &Tensor,
        grad: &Tensor,
    ) -> Result<[Option<Tensor>; N]> {
        let mut grads = self.0.backward(&args, result, grad)?.into_iter();
        Ok(args.map(|arg| grads.next().flatten().filter(|_| arg.track_op())))
    }
}

impl<O: Op> CustomOp1 for Custom<O> {
    fn name(&self) -> &'static str {
        O::NAME
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        self.result(&[View { storage, layout }])
    }

    fn bwd(&self, arg: &Tensor, result: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        self.gradients([arg], result, grad).map(|[grad]| grad)
    }
}

impl<O: Op> CustomOp2 for Custom<O> {
    fn name(&self) -> &'static str {
        O::NAME
    }

    fn cpu_fwd(&self, s1: &CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> Result<(CpuStorage, Shape)> {
        self.result(&[View { storage: s1, layout: l1 }, View { storage: s2, layout: l2 }])
    }

    fn bwd(
        &self,
        arg1: &Tensor,
        arg2: &Tensor,
        result: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        self.gradients([arg1, arg2], result, grad).map(Into::into)
    }
}

impl<O: Op> CustomOp3 for Custom<O> {
    fn name(&self) -> &'static str {
        O::NAME
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
        s3: &CpuStorage,
        l3: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let third = View { storage: s3, layout: l3 };
        self.result(&[View { storage: s1, layout: l1 }, View { storage: s2, layout: l2 }, third])
    }

    fn bwd(
        &self,
        arg1: &Tensor,
        arg2: &Tensor,
        arg3: &Tensor,
        result: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        self.gradients([arg1, arg2, arg3], result, grad).map(Into::into)
    }
}

/// Implementation of candle's in-place traits for an [`InPlace`] op.
struct CustomInPlace<'o, O>(&'o O);

impl<O: InPlace> CustomInPlace<'_, O> {
    fn overwrite(&self, storage: &mut CpuStorage, layout: &Layout, args: &[View<'_>]) -> Result<()> {
        self.0.overwrite(Memory::of(storage, layout, O::NAME)?, layout.dims(), args)
    }
}

impl<O: InPlace> InplaceOp1 for CustomInPlace<'_, O> {
    fn name(&self) -> &'static str {
        O::NAME
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> Result<()> {
        self.overwrite(storage, layout, &[])
    }
}

impl<O: InPlace> InplaceOp2 for CustomInPlace<'_, O> {
    fn name(&self) -> &'static str {
        O::NAME
    }

    fn cpu_fwd(&self, s1: &mut CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> Result<()> {
        self.overwrite(s1, l1, &[View { storage: s2, layout: l2 }])
    }
}

impl<O: InPlace> InplaceOp3 for CustomInPlace<'_, O> {
    fn name(&self) -> &'static str {
        O::NAME
    }

    fn cpu_fwd(
        &self,
        s1: &mut CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
        s3: &CpuStorage,
        l3: &Layout,
    ) -> Result<()> {
        self.overwrite(s1, l1, &[View { storage: s2, layout: l2 }, View { storage: s3, layout: l3 }])
    }
}

/// Applies an op that may borrow from the caller. If candle tracks gradients of `xs`, `own` first converts it to an
/// owned op, because candle keeps it for the backward pass.
pub fn apply_borrowing<A: Op, O: Op + Send + Sync + 'static>(
    xs: &Tensor,
    op: A,
    own: impl FnOnce(A) -> O,
) -> Result<Tensor> {
    if xs.track_op() { xs.apply_op1(Custom(own(op))) } else { xs.apply_op1_no_bwd(&Custom(op)) }
}

/// Overwrites `xs` with the result of an op that takes these operands.
pub fn overwrite(xs: &Tensor, operands: &[Tensor], op: &impl InPlace) -> Result<()> {
    let op = CustomInPlace(op);
    match operands {
        [] => xs.inplace_op1(&op),
        [a] => xs.inplace_op2(a, &op),
        [a, b, ..] => xs.inplace_op3(a, b, &op),
    }
}

/// Returns whether two tensors have the same storage.
pub fn share_memory(a: &Tensor, b: &Tensor) -> bool {
    let memory = |tensor: &Tensor| std::ptr::from_ref(&*tensor.storage_and_layout().0);
    memory(a) == memory(b)
}
