//! Attention, composed of candle's own ops.

#![forbid(unsafe_code)]

use super::softmax::{Terms, logits};
use super::wide;
use crate::error::Error;
use crate::mask::{FullyMasked, Resolved};
use crate::ops::attention::Attention as Options;
use crate::ops::softmax::Softmax;
use crate::rows::Geometry;
use crate::simd::{filled, reserve};
use candle_core::{D, Device, Result, Tensor};

const NAME: &str = "attention";

/// Computes attention of tensors `[batch, heads, positions, features]`, as [`crate::attention`] does.
///
/// All scores are in memory at once. The mask is expanded on the host, and then copied to the device of `q`.
///
/// # Errors
/// The errors of [`crate::attention`], wrapped in candle's error.
pub fn attention(q: &Tensor, k: &Tensor, v: &Tensor, options: &Options<'_>) -> Result<Tensor> {
    let (batch, heads, queries, features) = q.dims4()?;
    let (_, of_keys, keys, _) = k.dims4()?;
    options.check_shapes(NAME, [shape(q)?, shape(k)?, shape(v)?])?;
    let geometry = Geometry::shaped(&[batch, heads, queries, keys], -1)?;
    let mask = options.mask.filter(|mask| !mask.is_none()).map(|mask| mask.resolve(NAME, &geometry)).transpose()?;
    let of_values = v.dim(D::Minus1)?;
    let mask = mask.map(|mask| Host::new(&mask, geometry.lanes(), keys)).transpose()?;
    let alone = match options.fully_masked {
        FullyMasked::Zeros => None,
        _ => Some(alone(mask.as_ref(), options, [batch, heads, queries, keys])?).filter(|alone| alone.contains(&1)),
    };
    if let (Some(alone), FullyMasked::Error) = (&alone, options.fully_masked) {
        let row = alone.iter().take_while(|alone| **alone == 0).count();
        return Err(Error::FullyMasked { op: NAME, row }.into());
    }
    if batch * heads * queries * of_values == 0 || keys == 0 {
        return Tensor::zeros((batch, heads, queries, of_values), q.dtype(), q.device());
    }
    let [mut k, mut v] = [wide(k)?, wide(v)?];
    let all_values = v.clone();
    if let Some(mask) = &mask {
        // If a key is masked for every query, the key and its value are set to zero. A NaN in the key or its value
        // therefore does not reach the result.
        let seen = mask.seen(batch * of_keys);
        let seen = Tensor::from_vec(seen, (batch, of_keys, keys, 1), q.device())?;
        let clear = |xs: &Tensor| seen.broadcast_as(xs.shape())?.where_cond(xs, &xs.zeros_like()?);
        (k, v) = (clear(&k)?, clear(&v)?);
    }
    // The queries of all heads that share a key head are combined into the queries of one head.
    let shared = (batch, of_keys, heads / of_keys * queries, features);
    let scores = wide(q)?.reshape(shared)?.contiguous()?.matmul(&k.t()?.contiguous()?)?;
    let scores = scores.reshape((batch, heads, queries, keys))?;
    let scale = options.scale.unwrap_or(1.0 / (features.max(1) as f64).sqrt());
    let mut z = logits(NAME, &scores, &Softmax { scale, softcap: options.softcap, ..Softmax::default() })?;
    if let Some(Host { keep, bias, .. }) = mask {
        let of = |values: Tensor| values.reshape(z.shape())?.to_dtype(z.dtype())?.to_device(q.device());
        let masked = super::all(&z, f64::NEG_INFINITY)?;
        let live = Tensor::from_vec(keep, z.shape(), q.device())?;
        let biased = match bias {
            Some(bias) => (&z + of(Tensor::from_vec(bias, z.elem_count(), &Device::Cpu)?)?)?,
            None => z.clone(),
        };
        z = live.where_cond(&biased, &masked)?;
    }
    if let Some(sinks) = options.sinks {
        let sinks: Vec<f64> = (0..heads).filter_map(|head| sinks.get(head)).collect();
        let sinks = Tensor::from_vec(sinks, (1, heads, 1, 1), &Device::Cpu)?.to_dtype(z.dtype())?;
        let sinks = sinks.to_device(q.device())?.broadcast_as((batch, heads, queries, 1))?;
        z = Tensor::cat(&[&z, &sinks.contiguous()?], D::Minus1)?;
    }
    let Terms { exps, sum, .. } = Terms::new(&z, 3)?;
    let weights = exps.broadcast_div(&sum)?.narrow(D::Minus1, 0, keys)?;
    let weights = weights.contiguous()?.reshape((batch, of_keys, heads / of_keys * queries, keys))?;
    let y = weights.matmul(&v.contiguous()?)?.reshape((batch, heads, queries, of_values))?;
    let Some(alone) = alone else { return y.to_dtype(q.dtype()) };
    let mean = (all_values * (1.0 / keys as f64))?.sum_keepdim(2)?.unsqueeze(2)?;
    let mean = mean.broadcast_as((batch, of_keys, heads / of_keys, queries, of_values))?.reshape(y.shape())?;
    let alone = Tensor::from_vec(alone, (batch, heads, queries, 1), q.device())?.broadcast_as(y.shape())?;
    alone.where_cond(&mean, &y)?.to_dtype(q.dtype())
}

/// Returns a flag for each batch entry, head and query: 1 if the query has neither an unmasked key nor a sink.
fn alone(
    mask: Option<&Host>,
    options: &Options<'_>,
    [batch, heads, queries, keys]: [usize; 4],
) -> crate::Result<Vec<u8>> {
    let has_sink = |head| options.sinks.and_then(|sinks| sinks.get(head)).is_some_and(|sink| sink != f64::NEG_INFINITY);
    let sees = |row| mask.map_or(keys > 0, |mask| mask.sees(row));
    let rows = batch * heads * queries;
    let mut alone = reserve(NAME, "the row flags", rows)?;
    alone.extend((0..rows).map(|row| u8::from(!sees(row) && !has_sink(row / queries % heads))));
    Ok(alone)
}

fn shape(xs: &Tensor) -> Result<[usize; 4]> {
    let (a, b, c, d) = xs.dims4()?;
    Ok([a, b, c, d])
}

/// Mask in host memory, with one flag and an optional bias for each pair of query and key.
struct Host {
    keys: usize,
    keep: Vec<u8>,
    bias: Option<Vec<f64>>,
}

impl Host {
    fn new(mask: &Resolved<'_>, lanes: usize, keys: usize) -> crate::Result<Self> {
        let mut keep = filled(NAME, "the mask", lanes * keys, 0)?;
        let mut bias = match mask.has_bias() {
            true => Some(filled(NAME, "the biases", lanes * keys, 0.0)?),
            false => None,
        };
        let mut buffer = Vec::new();
        for lane in 0..lanes {
            let (low, high) = mask.bounds(lane);
            let flags = mask.keep(lane, low, high, &mut buffer);
            for key in low..high {
                let at = lane * keys + key;
                let added = if bias.is_some() { mask.bias_at(lane, key) } else { 0.0 };
                let kept = flags.is_none_or(|flags| flags[key - low] != 0) && added != f64::NEG_INFINITY;
                keep[at] = u8::from(kept);
                if let Some(bias) = bias.as_mut().filter(|_| kept) {
                    bias[at] = added;
                }
            }
        }
        Ok(Host { keys, keep, bias })
    }

    /// Returns whether a query has an unmasked key.
    fn sees(&self, row: usize) -> bool {
        self.keep[row * self.keys..][..self.keys].iter().any(|keep| *keep != 0)
    }

    /// Returns a flag for each key head and key: 1 if the key is unmasked for at least one query. `heads` is the number
    /// of key heads in the whole batch.
    fn seen(&self, heads: usize) -> Vec<u8> {
        let (keys, of_head) = (self.keys, self.keep.len() / heads);
        self.keep
            .chunks(of_head)
            .flat_map(|rows| (0..keys).map(|key| u8::from(rows.iter().skip(key).step_by(keys).any(|&keep| keep != 0))))
            .collect()
    }
}
