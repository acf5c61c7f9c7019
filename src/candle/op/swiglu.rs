//! SwiGLU, the gated linear unit with silu, of two tensors of the same shape.

#![forbid(unsafe_code)]

use super::elementwise::map_both;
use super::pairwise;
use crate::candle::composition;
use crate::candle::custom_op::Op;
use crate::candle::view::{View, map_storage, tensor, with_views};
use candle_core::{CpuStorage, Device, Result, Shape, Storage, Tensor};
#[cfg(feature = "candle-cuda")]
use {
    super::elementwise::cuda_fwd, crate::candle::cuda::supports, crate::cuda::elementwise::Function,
    candle_core::CudaStorage,
};

/// Computes silu(gate) * up.
pub fn swiglu(gate: &Tensor, up: &Tensor) -> Result<Tensor> {
    pairwise::apply(gate, up, Swiglu, composition::swiglu)
}

const BACKWARD: &str = "swiglu_backward";

struct Swiglu;

impl Op for Swiglu {
    fn name(&self) -> &'static str {
        "swiglu"
    }

    fn cpu_fwd(&self, args: &[View<'_>]) -> Result<(CpuStorage, Shape)> {
        let (gate, up) = (args[0], args[1]);
        let y = map_both!(self.name(), gate, up, crate::swiglu);
        Ok((y, gate.shape().clone()))
    }

    #[cfg(feature = "candle-cuda")]
    fn has_cuda_kernel(&self, gate: &Tensor, _: &[Tensor]) -> bool {
        supports(gate)
    }

    #[cfg(feature = "candle-cuda")]
    fn cuda_fwd(&self, args: &[View<'_, CudaStorage>]) -> Result<(CudaStorage, Shape)> {
        cuda_fwd(self.name(), Function::Swiglu, Some("up"), args)
    }

    fn bwd(&self, args: &[&Tensor], grad: &Tensor) -> Result<Vec<Option<Tensor>>> {
        let [gate, up, dy] = [args[0].contiguous()?, args[1].contiguous()?, grad.contiguous()?];
        #[cfg(feature = "candle-cuda")]
        if gate.device().is_cuda() {
            return gradients_on_cuda([&gate, &up, &dy]);
        }
        with_views(BACKWARD, &[&gate, &up, &dy], |views| {
            let [gate, up, dy] = [views[0], views[1], views[2]];
            let of_up;
            let dgate = map_storage!(BACKWARD, gate, data => {
                let up = up.elements(BACKWARD, up.like(BACKWARD, data)?)?;
                let dy = dy.elements(BACKWARD, dy.like(BACKWARD, data)?)?;
                let gate = gate.elements(BACKWARD, data)?;
                let [mut dgate, mut dup] = [(); 2].map(|()| vec![Default::default(); gate.len()]);
                crate::swiglu_backward_into(gate, up, dy, &mut dgate, &mut dup)?;
                of_up = Tensor::from_vec(dup, args[1].shape(), &Device::Cpu)?;
                dgate
            });
            Ok(vec![Some(tensor(Storage::Cpu(dgate), gate.shape())), Some(of_up)])
        })
    }
}

/// Computes both gradients from gate, up and the gradient of the result.
#[cfg(feature = "candle-cuda")]
fn gradients_on_cuda(tensors: [&Tensor; 3]) -> Result<Vec<Option<Tensor>>> {
    use crate::candle::cuda::{each_type, with_views, written};
    use candle_core::backend::BackendStorage;

    with_views(BACKWARD, &tensors, |views| {
        let (first, count) = (views[0], views[0].shape().elem_count());
        let made = each_type!(BACKWARD, first.dtype(), E => {
            let [gate, up, dy] = [0, 1, 2].map(|i| views[i].values::<E>(BACKWARD));
            let (gate, up, dy) = (gate?, up?, dy?);
            let mut dup = crate::cuda::memory::<E>(&first.stream(), count)?;
            let dgate = written(&first, count, |stream, dgate| {
                crate::cuda::swiglu_backward_into(stream, gate, up, dy, dgate, dup.as_view_mut())
            })?;
            Ok([dgate, CudaStorage::wrap_cuda_slice(dup, first.storage.device().clone())])
        })?;
        Ok(made.into_iter().map(|made| Some(tensor(Storage::Cuda(made), first.shape()))).collect())
    })
}
