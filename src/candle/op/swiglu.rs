//! SwiGLU, the gated linear unit with silu, of two tensors of the same shape.

#![forbid(unsafe_code)]

use super::elementwise::map_both;
use super::pairwise;
use crate::candle::composition;
use crate::candle::custom_op::Op;
use crate::candle::view::{View, map_storage, tensor, with_views};
use candle_core::{CpuStorage, Device, Result, Shape, Storage, Tensor};
#[cfg(feature = "candle-cuda")]
use {super::elementwise::cuda_fwd, crate::cuda::elementwise::Function, candle_core::CudaStorage};

/// Computes silu(gate) * up.
pub fn swiglu(gate: &Tensor, up: &Tensor) -> Result<Tensor> {
    pairwise::apply(gate, up, Swiglu, composition::swiglu)
}

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
    fn has_cuda_kernel(&self, gate: &Tensor, operands: &[Tensor]) -> bool {
        pairwise::has_cuda_kernel(gate, operands)
    }

    #[cfg(feature = "candle-cuda")]
    fn cuda_fwd(&self, args: &[View<'_, CudaStorage>]) -> Result<(CudaStorage, Shape)> {
        cuda_fwd(self.name(), Function::Swiglu, Some("up"), args)
    }

    fn bwd(&self, args: &[&Tensor], grad: &Tensor) -> Result<Vec<Option<Tensor>>> {
        const NAME: &str = "swiglu_backward";
        let [gate, up, dy] = [args[0].contiguous()?, args[1].contiguous()?, grad.contiguous()?];
        with_views(NAME, &[&gate, &up, &dy], |views| {
            let [gate, up, dy] = [views[0], views[1], views[2]];
            let of_up;
            let dgate = map_storage!(NAME, gate, data => {
                let (up, dy) = (up.elements(NAME, up.like(NAME, data)?)?, dy.elements(NAME, dy.like(NAME, data)?)?);
                let gate = gate.elements(NAME, data)?;
                let [mut dgate, mut dup] = [(); 2].map(|()| vec![Default::default(); gate.len()]);
                crate::swiglu_backward_into(gate, up, dy, &mut dgate, &mut dup)?;
                of_up = Tensor::from_vec(dup, args[1].shape(), &Device::Cpu)?;
                dgate
            });
            Ok(vec![Some(tensor(Storage::Cpu(dgate), gate.shape())), Some(of_up)])
        })
    }
}
