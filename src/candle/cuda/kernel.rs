//! Adapter between candle and the CUDA kernels: kernels as candle's custom ops, and candle's storage as kernel
//! arguments.

#![forbid(unsafe_code)]

use crate::cuda::{DeviceElement, Operand, OperandMut, Rows, RowsMut};
use crate::rows::MAX_RANK;
use candle_core::backend::BackendStorage;
use candle_core::cuda_backend::CudaDType;
use candle_core::cuda_backend::cudarc::driver::{CudaStream, CudaView, CudaViewMut};
use candle_core::op::BackpropOp;
use candle_core::{
    CpuStorage, CudaStorage, CustomOp1, CustomOp2, CustomOp3, DType, Error, Layout, Result, Shape, Storage, Tensor,
};
use std::sync::Arc;

/// Element type that candle and the kernels support.
pub trait Stored: DeviceElement + CudaDType {}
impl<E: DeviceElement + CudaDType> Stored for E {}

/// Evaluates one expression for the element type `$dtype`, or returns candle's error for a type without kernels.
macro_rules! each_type {
    ($op:expr, $dtype:expr, $E:ident => $result:expr) => {
        match $dtype {
            candle_core::DType::F32 => {
                type $E = f32;
                $result
            }
            candle_core::DType::F16 => {
                type $E = half::f16;
                $result
            }
            candle_core::DType::BF16 => {
                type $E = half::bf16;
                $result
            }
            other => Err(candle_core::Error::UnsupportedDTypeForOp(other, $op).bt()),
        }
    };
}
pub(super) use each_type;

/// Storage and layout of a contiguous tensor on a device.
#[derive(Clone, Copy)]
pub struct View<'a> {
    pub storage: &'a CudaStorage,
    pub layout: &'a Layout,
}

impl<'a> View<'a> {
    pub fn dtype(&self) -> DType {
        self.storage.dtype()
    }

    pub fn shape(&self) -> &'a Shape {
        self.layout.shape()
    }

    pub fn stream(&self) -> Arc<CudaStream> {
        self.storage.device().cuda_stream()
    }

    pub fn elements<E: Stored>(&self, op: &'static str) -> Result<CudaView<'a, E>> {
        let (start, end) = self.layout.contiguous_offsets().ok_or_else(|| Error::RequiresContiguous { op }.bt())?;
        Ok(self.storage.as_cuda_slice::<E>()?.slice(start..end))
    }

    /// Returns the rows along the last axis. A shape with more than [`MAX_RANK`] axes is folded to two.
    pub fn rows<E: Stored>(&self, op: &'static str) -> Result<Rows<'a, E>> {
        let (dims, data) = (self.layout.dims(), self.elements(op)?);
        let (rows, cols) = rows_and_cols(dims);
        Ok(if dims.len() <= MAX_RANK { Rows::shaped(data, dims)? } else { Rows::new(data, rows, cols)? })
    }

    pub fn operand(&self, op: &'static str) -> Result<Operand<'a>> {
        each_type!(op, self.dtype(), E => Ok(self.elements::<E>(op)?.into()))
    }
}

pub fn rows_and_cols(dims: &[usize]) -> (usize, usize) {
    let (cols, outer) = dims.split_last().map_or((1, &[][..]), |(&cols, outer)| (cols, outer));
    (outer.iter().product(), cols)
}

/// Allocates storage of `count` elements on the device of `beside`, and calls `write` to fill it.
pub fn written<E: Stored>(
    beside: &View<'_>,
    count: usize,
    write: impl FnOnce(&Arc<CudaStream>, CudaViewMut<'_, E>) -> crate::Result<()>,
) -> Result<CudaStorage> {
    let stream = beside.stream();
    let mut memory = crate::cuda::memory::<E>(&stream, count)?;
    write(&stream, memory.as_view_mut())?;
    Ok(CudaStorage::wrap_cuda_slice(memory, beside.storage.device().clone()))
}

/// Allocates and fills storage as [`written`] does, with the rows and columns of `beside`.
pub fn written_rows<E: Stored>(
    beside: &View<'_>,
    write: impl FnOnce(&Arc<CudaStream>, RowsMut<'_, E>) -> crate::Result<()>,
) -> Result<CudaStorage> {
    let (rows, cols) = rows_and_cols(beside.shape().dims());
    written(beside, rows * cols, |stream, memory| write(stream, RowsMut::new(memory, rows, cols)?))
}

/// Returns storage of zeros with the type and length of an operand.
pub fn zeros(op: &'static str, like: &View<'_>) -> Result<CudaStorage> {
    let (device, count) = (like.storage.device(), like.shape().elem_count());
    each_type!(op, like.dtype(), E => Ok(CudaStorage::wrap_cuda_slice(device.alloc_zeros::<E>(count)?, device.clone())))
}

/// Returns a view of an operand's gradient that kernels can write.
pub fn operand_mut<'a>(op: &'static str, storage: &'a mut CudaStorage) -> Result<OperandMut<'a>> {
    each_type!(op, storage.dtype(), E => Ok(storage.as_cuda_slice_mut::<E>()?.as_view_mut().into()))
}

/// Wraps storage in a tensor that candle does not track.
pub fn tensor(storage: CudaStorage, shape: &Shape) -> Tensor {
    Tensor::from_storage(Storage::Cuda(storage), shape.clone(), BackpropOp::none(), false)
}

/// Calls `f` with views of these tensors. Tensors that are not contiguous are copied first.
pub fn views<R>(op: &'static str, tensors: &[&Tensor], f: impl FnOnce(&[View<'_>]) -> Result<R>) -> Result<R> {
    let tensors = tensors.iter().map(|tensor| tensor.contiguous()).collect::<Result<Vec<_>>>()?;
    let locked: Vec<_> = tensors.iter().map(|tensor| tensor.storage_and_layout()).collect();
    let views = locked.iter().map(|(storage, layout)| match &**storage {
        Storage::Cuda(storage) => Ok(View { storage, layout }),
        _ => Err(Error::Msg(format!("{op}: an operand is not on a CUDA device")).bt()),
    });
    let views = views.collect::<Result<Vec<_>>>()?;
    f(&views)
}

/// Applies an op without gradients.
pub fn untracked(
    op: &'static str,
    tensors: &[&Tensor],
    forward: impl FnOnce(&[View<'_>]) -> Result<(CudaStorage, Shape)>,
) -> Result<Tensor> {
    views(op, tensors, forward).map(|(storage, shape)| tensor(storage, &shape))
}

/// Custom op for CUDA devices only. `forward` computes the result, and `backward` the gradients of the arguments.
pub struct Kernel<F, B> {
    pub name: &'static str,
    pub forward: F,
    pub backward: B,
}

impl<F, B> Kernel<F, B>
where
    F: Fn(&[View<'_>]) -> Result<(CudaStorage, Shape)>,
    B: Fn(&[&Tensor], &Tensor) -> Result<Vec<Option<Tensor>>>,
{
    fn gradients<const N: usize>(&self, args: [&Tensor; N], grad: &Tensor) -> Result<[Option<Tensor>; N]> {
        let mut grads = (self.backward)(&args, grad)?.into_iter();
        Ok(args.map(|arg| grads.next().flatten().filter(|_| arg.track_op())))
    }

    fn not_here<T>(&self) -> Result<T> {
        Err(Error::Msg(format!("{}: a CUDA kernel was called for a tensor on the CPU", self.name)).bt())
    }
}

impl<F, B> CustomOp1 for Kernel<F, B>
where
    F: Fn(&[View<'_>]) -> Result<(CudaStorage, Shape)> + Send + Sync,
    B: Fn(&[&Tensor], &Tensor) -> Result<Vec<Option<Tensor>>> + Send + Sync,
{
    fn name(&self) -> &'static str {
        self.name
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        self.not_here()
    }

    fn cuda_fwd(&self, storage: &CudaStorage, layout: &Layout) -> Result<(CudaStorage, Shape)> {
        (self.forward)(&[View { storage, layout }])
    }

    fn bwd(&self, arg: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        self.gradients([arg], grad).map(|[grad]| grad)
    }
}

impl<F, B> CustomOp2 for Kernel<F, B>
where
    F: Fn(&[View<'_>]) -> Result<(CudaStorage, Shape)> + Send + Sync,
    B: Fn(&[&Tensor], &Tensor) -> Result<Vec<Option<Tensor>>> + Send + Sync,
{
    fn name(&self) -> &'static str {
        self.name
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        self.not_here()
    }

    fn cuda_fwd(&self, s1: &CudaStorage, l1: &Layout, s2: &CudaStorage, l2: &Layout) -> Result<(CudaStorage, Shape)> {
        (self.forward)(&[View { storage: s1, layout: l1 }, View { storage: s2, layout: l2 }])
    }

    fn bwd(&self, arg1: &Tensor, arg2: &Tensor, _: &Tensor, grad: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        self.gradients([arg1, arg2], grad).map(Into::into)
    }
}

impl<F, B> CustomOp3 for Kernel<F, B>
where
    F: Fn(&[View<'_>]) -> Result<(CudaStorage, Shape)> + Send + Sync,
    B: Fn(&[&Tensor], &Tensor) -> Result<Vec<Option<Tensor>>> + Send + Sync,
{
    fn name(&self) -> &'static str {
        self.name
    }

    fn cpu_fwd(
        &self,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        self.not_here()
    }

    fn cuda_fwd(
        &self,
        s1: &CudaStorage,
        l1: &Layout,
        s2: &CudaStorage,
        l2: &Layout,
        s3: &CudaStorage,
        l3: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        let third = View { storage: s3, layout: l3 };
        (self.forward)(&[View { storage: s1, layout: l1 }, View { storage: s2, layout: l2 }, third])
    }

    fn bwd(
        &self,
        arg1: &Tensor,
        arg2: &Tensor,
        arg3: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        self.gradients([arg1, arg2, arg3], grad).map(Into::into)
    }
}
