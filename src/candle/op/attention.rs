//! Attention of tensors.

#![forbid(unsafe_code)]

use crate::candle::composition;
use crate::candle::custom_op::{Custom, Op};
use crate::candle::support::on_cpu;
use crate::candle::view::{View, map_storage, readable_heads, tensor, with_views};
use crate::error::Error;
use crate::floats::Floats;
use crate::mask::{FullyMasked, Mask};
use crate::ops::attention::Attention as Options;
use candle_core::{CpuStorage, Device, Error as CandleError, Result, Shape, Storage, Tensor};
use std::borrow::Cow;

const NAME: &str = "attention";

/// Options, borrowed from the caller or owned. Candle keeps owned options for the backward pass.
struct Attention<'a> {
    scale: Option<f64>,
    softcap: Option<f64>,
    mask: Option<Cow<'a, Mask<'a>>>,
    sinks: Option<Vec<f64>>,
    fully_masked: FullyMasked,
}

/// Computes attention of tensors `[batch, heads, positions, features]`.
pub fn attention(q: &Tensor, k: &Tensor, v: &Tensor, options: &Options<'_>) -> Result<Tensor> {
    for (argument, xs) in [("q", q), ("k", k), ("v", v)] {
        if xs.rank() != 4 {
            return Err(Error::shape(NAME, argument, format!("shape {:?}", xs.dims()), "4 axes").into());
        }
        if xs.dtype() != q.dtype() {
            return Err(CandleError::DTypeMismatchBinaryOp { lhs: q.dtype(), rhs: xs.dtype(), op: NAME }.bt());
        }
    }
    if !on_cpu(q, NAME)? {
        return composition::attention(q, k, v, options);
    }
    let [q, k, v] = [readable_heads(q)?, readable_heads(k)?, readable_heads(v)?];
    let op = Attention::new(options);
    // The op needs to own its options only if candle tracks gradients.
    match [&q, &k, &v].iter().any(|xs| xs.track_op()) {
        true => q.apply_op3(&k, &v, Custom(op.into_owned())),
        false => q.apply_op3_no_bwd(&k, &v, &Custom(op)),
    }
}

impl<'a> Attention<'a> {
    fn new(options: &Options<'a>) -> Self {
        let Options { scale, softcap, mask, sinks, fully_masked } = *options;
        let exact = |sinks: Floats<'_>| (0..sinks.len()).filter_map(|i| sinks.get(i)).collect();
        Attention { scale, softcap, mask: mask.map(Cow::Borrowed), sinks: sinks.map(exact), fully_masked }
    }

    fn into_owned(self) -> Attention<'static> {
        Attention { mask: self.mask.map(|mask| Cow::Owned(mask.into_owned().into_owned())), ..self }
    }

    fn options(&self) -> Options<'_> {
        Options {
            scale: self.scale,
            softcap: self.softcap,
            mask: self.mask.as_deref(),
            sinks: self.sinks.as_ref().map(Floats::from),
            fully_masked: self.fully_masked,
        }
    }
}

impl Op for Attention<'_> {
    fn name(&self) -> &'static str {
        NAME
    }

    fn cpu_fwd(&self, args: &[View<'_>]) -> Result<(CpuStorage, Shape)> {
        let ([q, k, v], options) = ([args[0], args[1], args[2]], self.options());
        let y = map_storage!(NAME, q, data => {
            let (k, v) = (k.heads(k.like(NAME, data)?)?, v.heads(v.like(NAME, data)?)?);
            crate::attention(q.heads(data)?, k, v, &options)?
        });
        let mut dims = q.shape().dims().to_vec();
        dims[3] = v.shape().dims()[3];
        Ok((y, dims.into()))
    }

    fn bwd(&self, args: &[&Tensor], grad: &Tensor) -> Result<Vec<Option<Tensor>>> {
        const NAME: &str = "attention_backward";
        let grad = readable_heads(&grad.to_dtype(args[0].dtype())?)?;
        let options = self.options();
        with_views(NAME, &[args[0], args[1], args[2], &grad], |views| {
            let [q, k, v, dy] = [views[0], views[1], views[2], views[3]];
            let (dk, dv);
            let dq = map_storage!(NAME, q, data => {
                let (k, v) = (k.heads(k.like(NAME, data)?)?, v.heads(v.like(NAME, data)?)?);
                let dy = dy.heads(dy.like(NAME, data)?)?;
                let of = crate::attention_backward(q.heads(data)?, k, v, dy, &options)?;
                dk = Tensor::from_vec(of.dk, args[1].shape(), &Device::Cpu)?;
                dv = Tensor::from_vec(of.dv, args[2].shape(), &Device::Cpu)?;
                of.dq
            });
            Ok(vec![Some(tensor(Storage::Cpu(dq), q.shape())), Some(dk), Some(dv)])
        })
    }
}
