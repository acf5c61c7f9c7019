//! New module of text-embeddings-inference: Evenkeel's ops, with the arguments that the engine's models have.

use candle::{Result, Tensor};
use evenkeel::candle::guarded;
use evenkeel::{Attention, LayerNorm, Mask, MeanPool, RmsNorm};

/// Computes attention with a bias that all heads share. A bias of -inf masks a key. The result of a query is 0 if all
/// of its keys are masked.
pub fn attention(q: &Tensor, k: &Tensor, v: &Tensor, bias: Option<&Tensor>, scale: f64) -> Result<Tensor> {
    let mask = match bias {
        Some(bias) => guarded::mask::bias(&bias.narrow(1, 0, 1)?)?,
        None => Mask::none(),
    };
    Ok(guarded::attention(q, k, v, &Attention::default().scale(scale).mask(&mask))?)
}

/// Returns the lengths of the sequences with these indices.
pub fn lengths(cumulative: &[u32], sequences: &[u32]) -> Vec<usize> {
    sequences.iter().map(|&i| (cumulative[i as usize + 1] - cumulative[i as usize]) as usize).collect()
}

/// Computes the mean over the tokens of each sequence. The shape of `outputs` is `[batch, tokens, width]`. Padding
/// follows the tokens of each sequence.
pub fn mean(outputs: &Tensor, lengths: &[usize]) -> Result<Tensor> {
    let mask = Mask::lengths(lengths);
    Ok(guarded::mean_pool(outputs, 1, &MeanPool::default().mask(&mask))?)
}

/// Applies layer normalisation along the last dimension.
pub fn layer_norm(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, eps: f32) -> Result<Tensor> {
    Ok(guarded::layer_norm(x, Some(weight), bias, &LayerNorm::default().eps(eps.into()))?)
}

/// Applies root-mean-square normalisation to the sum of `x` and the residual. Returns the result and the sum.
pub fn rms_norm(x: &Tensor, residual: Option<&Tensor>, weight: &Tensor, eps: f32) -> Result<(Tensor, Tensor)> {
    let options = RmsNorm::default().eps(eps.into());
    match residual {
        Some(residual) => Ok(guarded::rms_norm_residual(x, residual, Some(weight), &options)?),
        None => Ok((guarded::rms_norm(x, Some(weight), &options)?, x.clone())),
    }
}
