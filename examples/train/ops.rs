//! Ops of a model in two versions: guarded and careless.

use anyhow::Result;
use candle_core::{D, DType, Device, Tensor};
use evenkeel::candle::{guarded, loss};
use evenkeel::{Mask, RmsNorm, Softmax};

/// Functions of a model that have a guarded and a careless version.
pub struct Ops {
    /// RMS normalization of rows, given the weight and eps.
    pub norm: fn(&Tensor, &Tensor, f64) -> Result<Tensor>,
    /// Causal attention weights, given scores and their scale.
    pub weigh: fn(&Tensor, f64) -> Result<Tensor>,
    /// Mean loss, given logits and target tokens.
    pub loss: fn(&Tensor, &Tensor) -> candle_core::Result<Tensor>,
}

/// Evenkeel's guarded ops.
pub const GUARDED: Ops = Ops {
    norm: |x, weight, eps| Ok(guarded::rms_norm(x, Some(weight), &RmsNorm::default().eps(eps))?),
    weigh: |scores, scale| {
        let causal = Mask::causal();
        Ok(guarded::softmax(scores, D::Minus1, &Softmax::default().scale(scale).mask(&causal))?)
    },
    loss: |logits, next| loss::cross_entropy(&logits.to_dtype(DType::F32)?, next),
};

/// Textbook formulas, evaluated in the model's own type.
pub const CARELESS: Ops = Ops {
    norm: |x, weight, eps| {
        let mean = x.sqr()?.mean_keepdim(D::Minus1)?;
        Ok(x.broadcast_div(&(mean + eps)?.sqrt()?)?.broadcast_mul(weight)?)
    },
    weigh: |scores, scale| {
        let count = scores.dim(D::Minus1)?;
        let masked = (0..count * count).map(|i| if i % count > i / count { f32::NEG_INFINITY } else { 0.0 });
        let mask = Tensor::from_vec(masked.collect::<Vec<f32>>(), (count, count), &Device::Cpu)?;
        let exps = (scores * scale)?.broadcast_add(&mask.to_dtype(scores.dtype())?)?.exp()?;
        Ok(exps.broadcast_div(&exps.sum_keepdim(D::Minus1)?)?)
    },
    loss: |logits, next| {
        let exps = logits.exp()?;
        let likely = exps.broadcast_div(&exps.sum_keepdim(D::Minus1)?)?.gather(&next.unsqueeze(1)?, 1)?;
        likely.log()?.neg()?.mean_all()
    },
};
