//! The ops that the model takes from Evenkeel, on candle tensors.

use anyhow::{Result, bail};
use candle_core::{DType, Tensor};
use evenkeel::{Mask, RmsNorm, RopeTable, RowsMut, Softmax};
use half::{bf16, f16};

/// What the model leaves to whoever computes it, so that scenes can show it computed badly.
pub trait Ops {
    /// Attention weights from scores of `[batch, heads, queries, keys]`: the softmax of scale times scores, in which a
    /// query sees the keys up to its own position, and of these only those that `keep`, `[batch, keys]`, has not 0 for.
    fn attention_weights(scores: &Tensor, scale: f64, keep: Option<&[u8]>) -> Result<Tensor>;

    /// Root-mean-square normalisation of rows.
    fn rms_norm(x: &Tensor, weight: &Tensor, eps: f64) -> Result<Tensor>;
}

/// Evenkeel's.
pub struct Evenkeel;

impl Ops for Evenkeel {
    fn attention_weights(scores: &Tensor, scale: f64, keep: Option<&[u8]>) -> Result<Tensor> {
        let (batch, _, _, keys) = scores.dims4()?;
        let mut mask = Mask::causal();
        if let Some(keep) = keep {
            mask = mask.and_keep(keep, &[batch, 1, 1, keys]);
        }
        softmax(scores, &Softmax::default().scale(scale).mask(&mask))
    }

    fn rms_norm(x: &Tensor, weight: &Tensor, eps: f64) -> Result<Tensor> {
        rms_norm(x, weight, eps)
    }
}

/// Calls an op on a copy of a tensor's elements, of whatever float type, and gives the tensor that they become.
macro_rules! mapped {
    ($x:expr, $values:ident => $op:expr) => {{
        let x: &Tensor = $x;
        let flat = x.flatten_all()?;
        macro_rules! in_type {
            ($type:ty) => {{
                let mut $values = flat.to_vec1::<$type>()?;
                $op?;
                Ok(Tensor::from_vec($values, x.dims(), x.device())?)
            }};
        }
        match x.dtype() {
            DType::F64 => in_type!(f64),
            DType::F32 => in_type!(f32),
            DType::F16 => in_type!(f16),
            DType::BF16 => in_type!(bf16),
            other => bail!("{other:?} is not a float type"),
        }
    }};
}

/// Softmax of rows.
pub fn softmax(scores: &Tensor, options: &Softmax<'_>) -> Result<Tensor> {
    mapped!(scores, values => evenkeel::softmax_in_place(RowsMut::shaped(&mut values, scores.dims())?, options))
}

/// Root-mean-square normalisation of rows.
pub fn rms_norm(x: &Tensor, weight: &Tensor, eps: f64) -> Result<Tensor> {
    let weight = weight.to_dtype(DType::F32)?.to_vec1::<f32>()?;
    let options = RmsNorm::default().weight(&weight).eps(eps);
    mapped!(x, values => evenkeel::rms_norm_in_place(RowsMut::shaped(&mut values, x.dims())?, &options))
}

/// Rotary position embedding of `[.., positions, columns]`.
pub fn rope(x: &Tensor, table: &RopeTable) -> Result<Tensor> {
    mapped!(x, values => evenkeel::rope_in_place(RowsMut::shaped(&mut values, x.dims())?, table))
}

/// x times its sigmoid.
pub fn silu(x: &Tensor) -> Result<Tensor> {
    mapped!(x, values => evenkeel::silu_in_place(&mut values))
}
