//! SwiGLU, the gated linear unit with silu, of two tensors of the same shape.

#![forbid(unsafe_code)]

use super::elementwise::{elements, map_both};
use super::pairwise;
use crate::candle::composition;
use crate::candle::custom_op::{Custom, Op};
use crate::candle::view::View;
use crate::element::Element;
use candle_core::{CpuStorage, Result, Shape, Tensor};

/// Computes silu(gate) * up.
pub fn swiglu(gate: &Tensor, up: &Tensor) -> Result<Tensor> {
    pairwise::apply(gate, up, Swiglu, composition::swiglu)
}

struct Swiglu;

impl Op for Swiglu {
    const NAME: &'static str = "swiglu";

    fn forward(&self, args: &[View<'_>]) -> Result<(CpuStorage, Shape)> {
        let (gate, up) = (args[0], args[1]);
        let y = map_both!(Self::NAME, gate, up, crate::swiglu);
        Ok((y, gate.shape().clone()))
    }

    fn backward(&self, args: &[&Tensor], _: &Tensor, grad: &Tensor) -> Result<Vec<Option<Tensor>>> {
        let both = args[0].contiguous()?.apply_op3_no_bwd(
            &args[1].contiguous()?,
            &grad.contiguous()?,
            &Custom(SwigluBackward),
        )?;
        Ok(vec![Some(both.get(0)?), Some(both.get(1)?)])
    }
}

/// Op that computes both gradients into one tensor, that of gate first.
struct SwigluBackward;

impl SwigluBackward {
    fn both<E: Element>(views: [View<'_>; 3], data: [&[E]; 3]) -> Result<Vec<E>> {
        let [gate, up, dy] = [0, 1, 2].map(|i| elements(views[i], data[i], Self::NAME));
        let (gate, up, dy) = (gate?, up?, dy?);
        let mut both = vec![E::ZERO; 2 * gate.len()];
        let (dgate, dup) = both.split_at_mut(gate.len());
        crate::swiglu_backward_into(gate, up, dy, dgate, dup)?;
        Ok(both)
    }
}

impl Op for SwigluBackward {
    const NAME: &'static str = "swiglu_backward";

    fn forward(&self, args: &[View<'_>]) -> Result<(CpuStorage, Shape)> {
        let views = [args[0], args[1], args[2]];
        let storage = match views.map(|view| view.storage) {
            [CpuStorage::F64(a), CpuStorage::F64(b), CpuStorage::F64(c)] => {
                CpuStorage::F64(Self::both(views, [a, b, c])?)
            }
            [CpuStorage::F32(a), CpuStorage::F32(b), CpuStorage::F32(c)] => {
                CpuStorage::F32(Self::both(views, [a, b, c])?)
            }
            [CpuStorage::F16(a), CpuStorage::F16(b), CpuStorage::F16(c)] => {
                CpuStorage::F16(Self::both(views, [a, b, c])?)
            }
            [CpuStorage::BF16(a), CpuStorage::BF16(b), CpuStorage::BF16(c)] => {
                CpuStorage::BF16(Self::both(views, [a, b, c])?)
            }
            _ => return Err(args[2].unsupported(Self::NAME)),
        };
        let dims = [&[2], args[0].shape().dims()].concat();
        Ok((storage, Shape::from(dims)))
    }

    /// Returns no gradients; candle never requests them, because the op is applied without gradient tracking.
    fn backward(&self, _: &[&Tensor], _: &Tensor, _: &Tensor) -> Result<Vec<Option<Tensor>>> {
        Ok(Vec::new())
    }
}
