//! What the softmax family shares: options that may have to outlive the call, and how gradients pass them.

#![forbid(unsafe_code)]

use super::logsumexp::logsumexp;
use crate::candle::composition;
use crate::mask::{FullyMasked, Mask};
use crate::ops::softmax::Softmax as Options;
use candle_core::{Result, Tensor};
use std::borrow::Cow;

/// The options of a call along an axis.
pub struct Scores<'a> {
    pub axis: usize,
    mask: Option<Cow<'a, Mask<'a>>>,
    scale: f64,
    softcap: Option<f64>,
    fully_masked: FullyMasked,
}

impl<'a> Scores<'a> {
    pub fn new(axis: usize, options: &Options<'a>) -> Self {
        let Options { mask, scale, softcap, fully_masked } = *options;
        Scores { axis, mask: mask.map(Cow::Borrowed), scale, softcap, fully_masked }
    }

    pub fn into_owned(self) -> Scores<'static> {
        Scores { mask: self.mask.map(|mask| Cow::Owned(mask.into_owned().into_owned())), ..self }
    }

    pub fn options(&self) -> Options<'_> {
        Options {
            mask: self.mask.as_deref(),
            scale: self.scale,
            softcap: self.softcap,
            fully_masked: self.fully_masked,
        }
    }

    /// The gradient of the scores from that of the logits, both in the type that gradients are computed in.
    pub fn through(&self, xs: &Tensor, grad: &Tensor) -> Result<Tensor> {
        let grad = match self.softcap {
            None => grad.clone(),
            Some(cap) => {
                let tanh = (composition::wide(xs)? * (self.scale / cap))?.tanh()?;
                let capped = (grad * tanh.sqr()?.affine(-1.0, 1.0)?)?;
                // Behind a mask there may be NaN, which a product with zero would keep.
                grad.eq(0.0)?.where_cond(grad, &capped)?
            }
        };
        let grad = (grad * self.scale)?;
        let grad = match self.fully_masked {
            // What stands in for a row with nothing to attend to does not depend on the scores.
            FullyMasked::Uniform => {
                let zeros = Options { fully_masked: FullyMasked::Zeros, ..self.options() };
                let masked = logsumexp(&xs.detach(), self.axis, true, &zeros)?.eq(f64::NEG_INFINITY)?;
                masked.broadcast_as(grad.shape())?.where_cond(&grad.zeros_like()?, &grad)?
            }
            FullyMasked::Zeros | FullyMasked::Error => grad,
        };
        grad.to_dtype(xs.dtype())
    }
}
