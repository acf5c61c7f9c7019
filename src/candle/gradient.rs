//! Gradients that cannot be differentiated again.
//!
//! The kernels that compute gradients have no gradients of their own. If a gradient were an untracked tensor, a second
//! backward pass would treat it as a constant, and second derivatives would silently lack terms. Each gradient is
//! therefore the result of an op, whose argument is the tensor that the gradient belongs to. The backward pass of this
//! op returns an error.

#![forbid(unsafe_code)]

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CudaStorage, CustomOp1, Error, InplaceOp1, Layout, Result, Shape, Storage, Tensor};
use std::sync::{Mutex, PoisonError};

/// Returns a tensor with the values of `gradient`, which is the gradient of `arg`. The tensor depends on `arg` in
/// candle's graph, so that differentiating it returns an error instead of silently missing terms. On the CPU, it takes
/// over the memory of `gradient`, so no other tensor may share this memory.
pub fn once(op: &'static str, gradient: &Tensor, arg: &Tensor) -> Result<Tensor> {
    let is_whole = *gradient.layout() == Layout::contiguous(gradient.shape());
    let gradient = if is_whole { gradient.clone() } else { gradient.force_contiguous()? };
    let taken = Mutex::new(None);
    // Empty tensors have strides of 0, and candle does not overwrite tensors with such strides.
    if gradient.device().is_cpu() && gradient.elem_count() > 0 {
        gradient.inplace_op1(&Take(&taken))?;
    }
    arg.apply_op1(Gradient { op, gradient, taken })
}

type Slot = Mutex<Option<CpuStorage>>;

/// Op that moves a tensor's elements to a slot.
struct Take<'a>(&'a Slot);

impl InplaceOp1 for Take<'_> {
    fn name(&self) -> &'static str {
        "gradient"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, _: &Layout) -> Result<()> {
        let taken = std::mem::replace(storage, CpuStorage::U8(Vec::new()));
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(taken);
        Ok(())
    }
}

/// Op whose result is the gradient of its argument. The gradient was computed before.
struct Gradient {
    /// Name of the op whose gradient this is.
    op: &'static str,
    /// The gradient. On the CPU, its elements have been moved to `taken`.
    gradient: Tensor,
    taken: Slot,
}

impl CustomOp1 for Gradient {
    fn name(&self) -> &'static str {
        self.op
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        let shape = self.gradient.shape().clone();
        if let Some(taken) = self.taken.lock().unwrap_or_else(PoisonError::into_inner).take() {
            return Ok((taken, shape));
        }
        // The slot is empty only for an empty tensor, because candle runs this op once.
        match &*self.gradient.storage_and_layout().0 {
            Storage::Cpu(storage) if shape.elem_count() == 0 => Ok((storage.clone(), shape)),
            _ => {
                Err(Error::Msg(format!("{}: candle must compute the gradient once, but computed it twice", self.op))
                    .bt())
            }
        }
    }

    fn cuda_fwd(&self, _: &CudaStorage, _: &Layout) -> Result<(CudaStorage, Shape)> {
        match &*self.gradient.storage_and_layout().0 {
            Storage::Cuda(storage) => Ok((storage.try_clone(self.gradient.layout())?, self.gradient.shape().clone())),
            _ => Err(Error::Msg(format!("{}: the gradient is not on a CUDA device", self.op)).bt()),
        }
    }

    fn bwd(&self, _: &Tensor, _: &Tensor, _: &Tensor) -> Result<Option<Tensor>> {
        let reason = format!(
            "{}: second derivatives are not supported, because a kernel computed the gradient; express the op with \
             candle's own ops to differentiate it twice",
            self.op
        );
        Err(Error::BackwardNotSupported { op: self.op }.context(reason))
    }
}
