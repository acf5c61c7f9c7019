//! SwiGLU, the gated linear unit with silu, of two tensors of the same shape.

#![forbid(unsafe_code)]

use super::elementwise::map_both;
use super::pairwise;
use crate::candle::composition;
use crate::candle::custom_op::{Custom, Op};
use crate::candle::view::{View, map_storage};
use candle_core::{CpuStorage, Result, Shape, Tensor};

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

    fn bwd(&self, args: &[&Tensor], grad: &Tensor) -> Result<Vec<Option<Tensor>>> {
        let both = args[0].contiguous()?.apply_op3_no_bwd(
            &args[1].contiguous()?,
            &grad.contiguous()?,
            &Custom(SwigluBackward),
        )?;
        Ok(vec![Some(both.get(0)?), Some(both.get(1)?)])
    }
}

/// Op that computes both gradients into one tensor: the gradient of gate, followed by that of up.
struct SwigluBackward;

impl Op for SwigluBackward {
    fn name(&self) -> &'static str {
        "swiglu_backward"
    }

    fn cpu_fwd(&self, args: &[View<'_>]) -> Result<(CpuStorage, Shape)> {
        let (name, gate, up, dy) = (self.name(), args[0], args[1], args[2]);
        let both = map_storage!(name, gate, data => {
            let up = up.elements(name, up.like(name, data)?)?;
            let dy = dy.elements(name, dy.like(name, data)?)?;
            let gate = gate.elements(name, data)?;
            let mut both = vec![Default::default(); 2 * gate.len()];
            let (dgate, dup) = both.split_at_mut(gate.len());
            crate::swiglu_backward_into(gate, up, dy, dgate, dup)?;
            both
        });
        Ok((both, [&[2], gate.shape().dims()].concat().into()))
    }
}
