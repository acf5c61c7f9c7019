//! Conversion of candle's storage on a CUDA device to the arguments of the CUDA kernels.

#![forbid(unsafe_code)]

use super::view::{View, with_storages};
use crate::copies::Copies;
use crate::cuda::{self, DeviceElement, Lasting, Operand, OperandMut, Rows, RowsMut};
use crate::rows::MAX_RANK;
use candle_core::backend::BackendStorage;
use candle_core::cuda_backend::CudaDType;
use candle_core::cuda_backend::cudarc::driver::{CudaStream, CudaView, CudaViewMut};
use candle_core::{CudaStorage, DType, Device, Error, Result, Storage, Tensor};
use std::any::Any;
use std::sync::Arc;

/// Returns whether the CUDA kernels support the tensor. It must not be empty, its type must be f32, f16 or bf16, and
/// its device must have compute capability 8.0 or above.
pub fn supports(xs: &Tensor) -> bool {
    let Device::Cuda(device) = xs.device() else { return false };
    let stream = device.cuda_stream();
    let is_new = stream.context().compute_capability().is_ok_and(|(major, _)| major >= 8);
    is_new && xs.elem_count() > 0 && matches!(xs.dtype(), DType::F32 | DType::F16 | DType::BF16)
}

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

/// Calls a kernel that reads the rows of `$x` and writes the rows of a new tensor of the same shape and type. The
/// kernel also gets the stream. Returns the storage of the new tensor.
macro_rules! map_rows {
    ($op:expr, $x:expr, |$stream:ident, $rows:ident, $y:ident| $kernel:expr) => {
        crate::candle::cuda::each_type!($op, $x.dtype(), E => {
            let $rows = $x.rows::<E>($op)?;
            crate::candle::cuda::written_rows(&$x, |$stream, $y| $kernel)
        })?
    };
}
pub(super) use map_rows;

impl<'a> View<'a, CudaStorage> {
    pub fn stream(&self) -> Arc<CudaStream> {
        self.storage.device().cuda_stream()
    }

    pub fn values<E: Stored>(&self, op: &'static str) -> Result<CudaView<'a, E>> {
        let (start, end) = self.layout.contiguous_offsets().ok_or_else(|| Error::RequiresContiguous { op }.bt())?;
        Ok(self.storage.as_cuda_slice::<E>()?.slice(start..end))
    }

    /// Returns the rows along the last axis. A shape with more than [`MAX_RANK`] axes is folded to two.
    pub fn rows<E: Stored>(&self, op: &'static str) -> Result<Rows<'a, E>> {
        let (dims, data) = (self.layout.dims(), self.values(op)?);
        let (rows, cols) = rows_and_cols(dims);
        Ok(if dims.len() <= MAX_RANK { Rows::shaped(data, dims)? } else { Rows::new(data, rows, cols)? })
    }

    pub fn operand(&self, op: &'static str) -> Result<Operand<'a>> {
        each_type!(op, self.dtype(), E => Ok(self.values::<E>(op)?.into()))
    }
}

pub fn rows_and_cols(dims: &[usize]) -> (usize, usize) {
    let (cols, outer) = dims.split_last().map_or((1, &[][..]), |(&cols, outer)| (cols, outer));
    (outer.iter().product(), cols)
}

/// Allocates storage for `count` elements, calls `write` to fill the storage, and returns it. The storage is on the
/// same device as the tensor `beside`.
pub fn written<E: Stored>(
    beside: &View<'_, CudaStorage>,
    count: usize,
    write: impl FnOnce(&Arc<CudaStream>, CudaViewMut<'_, E>) -> crate::Result<()>,
) -> Result<CudaStorage> {
    let stream = beside.stream();
    let mut memory = cuda::memory::<E>(&stream, count)?;
    write(&stream, memory.as_view_mut())?;
    Ok(CudaStorage::wrap_cuda_slice(memory, beside.storage.device().clone()))
}

/// Allocates storage, calls `write` to fill it, and returns it. The storage has as many rows and columns as the tensor
/// `beside`, and is on the same device.
pub fn written_rows<E: Stored>(
    beside: &View<'_, CudaStorage>,
    write: impl FnOnce(&Arc<CudaStream>, RowsMut<'_, E>) -> crate::Result<()>,
) -> Result<CudaStorage> {
    let (rows, cols) = rows_and_cols(beside.shape().dims());
    written(beside, rows * cols, |stream, memory| write(stream, RowsMut::new(memory, rows, cols)?))
}

/// Argument of a kernel, on the device.
pub enum OnDevice<T> {
    /// Belongs to this call.
    Own(T),
    /// Belongs to an argument in host memory, which keeps it for later calls.
    Kept(Arc<Lasting<T>>),
}

impl<T> OnDevice<T> {
    pub fn get(&self) -> crate::Result<&T> {
        match self {
            OnDevice::Own(value) => Ok(value),
            OnDevice::Kept(value) => value.get(),
        }
    }
}

/// Returns the copy of an argument on the device of `beside`. The first call for a device makes the copy, which is freed
/// with the argument.
pub fn copied<T: Any + Send + Sync>(
    argument: (&'static str, &str),
    beside: &View<'_, CudaStorage>,
    copies: &Copies,
    copy: impl FnOnce(&Arc<CudaStream>) -> crate::Result<T>,
) -> Result<OnDevice<T>> {
    let stream = beside.stream();
    let make = || Lasting::new(argument, &stream, copy);
    Ok(OnDevice::Kept(copies.find_or_make(|kept: &Lasting<T>| kept.is_of(&stream), make)?))
}

/// Returns storage of zeros with the type and length of an operand.
pub fn zeros(op: &'static str, like: &View<'_, CudaStorage>) -> Result<CudaStorage> {
    let (device, count) = (like.storage.device(), like.shape().elem_count());
    each_type!(op, like.dtype(), E => Ok(CudaStorage::wrap_cuda_slice(device.alloc_zeros::<E>(count)?, device.clone())))
}

/// Returns a view of an operand's gradient that kernels can write.
pub fn operand_mut<'a>(op: &'static str, storage: &'a mut CudaStorage) -> Result<OperandMut<'a>> {
    each_type!(op, storage.dtype(), E => Ok(storage.as_cuda_slice_mut::<E>()?.as_view_mut().into()))
}

/// Calls `f` with views of tensors on a CUDA device. Tensors that are not contiguous are copied first.
pub fn with_views<R>(
    op: &'static str,
    tensors: &[&Tensor],
    f: impl FnOnce(&[View<'_, CudaStorage>]) -> Result<R>,
) -> Result<R> {
    let tensors = tensors.iter().map(|tensor| tensor.contiguous()).collect::<Result<Vec<_>>>()?;
    with_storages(&tensors.iter().collect::<Vec<_>>(), |storages| {
        let views = storages.iter().map(|(storage, layout)| match storage {
            Storage::Cuda(storage) => Ok(View { storage, layout }),
            _ => Err(Error::Msg(format!("{op}: an operand is not on a CUDA device")).bt()),
        });
        f(&views.collect::<Result<Vec<_>>>()?)
    })
}
