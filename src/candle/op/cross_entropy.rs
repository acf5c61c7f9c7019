//! Cross-entropy of a tensor of logits.

#![forbid(unsafe_code)]

use crate::candle::composition;
use crate::candle::custom_op::{Custom, Op};
use crate::candle::support::on_cpu;
use crate::candle::view::{View, map_storage, readable};
use crate::error::Error;
use crate::floats::Floats;
use crate::ops::cross_entropy::CrossEntropy as Options;
use crate::ops::loss::{Loss, Reduction};
use candle_core::{CpuStorage, DType, Result, Shape, Tensor};
use std::sync::Arc;

const NAME: &str = "cross_entropy";

/// Computes the cross-entropy of logits along the last axis. `targets` has the shape of the logits without the last
/// axis.
///
/// The loss is f64 for f64 logits and f32 otherwise.
pub fn cross_entropy(logits: &Tensor, targets: &Tensor, options: &Options<'_>) -> Result<Tensor> {
    let has_kernel = on_cpu(logits, NAME)?;
    let numbers = numbers(logits, targets)?;
    if !has_kernel {
        return composition::cross_entropy(logits, targets, options);
    }
    let call = Arc::new(Call::new(numbers, options));
    readable(logits, logits.rank() - 1)?.apply_op1(Custom(CrossEntropy(call)))
}

/// Checks the shape and type of the targets, and returns them as one integer for each row of logits.
pub fn numbers(logits: &Tensor, targets: &Tensor) -> Result<Vec<i64>> {
    match logits.dims().split_last() {
        Some((_, rows)) if targets.dims() == rows => {}
        Some((_, rows)) => {
            let got = format!("shape {:?}", targets.dims());
            return Err(Error::shape(NAME, "target", got, format!("{rows:?}, one target for each row")).into());
        }
        None => return Err(Error::shape(NAME, "logits", "no axes", "at least one").into()),
    }
    if !matches!(targets.dtype(), DType::U8 | DType::U32 | DType::I64) {
        return Err(candle_core::Error::UnsupportedDTypeForOp(targets.dtype(), NAME).bt());
    }
    targets.flatten_all()?.to_dtype(DType::I64)?.to_vec1()
}

/// Owned targets and options, which candle keeps for the backward pass.
pub(super) struct Call {
    pub targets: Vec<i64>,
    /// Class weights, converted exactly to f64.
    weight: Option<Vec<f64>>,
    options: Options<'static>,
}

impl Call {
    pub fn new(targets: Vec<i64>, options: &Options<'_>) -> Self {
        let widened = |weight: Floats<'_>| (0..weight.len()).filter_map(|i| weight.get(i)).collect();
        let Options { ignore_index, label_smoothing, z_loss, softcap, reduction, .. } = *options;
        let weight = options.weight.map(widened);
        Call {
            targets,
            weight,
            options: Options { weight: None, ignore_index, label_smoothing, z_loss, softcap, reduction },
        }
    }

    pub fn options(&self) -> Options<'_> {
        Options { weight: self.weight.as_ref().map(Floats::from), ..self.options }
    }
}

struct CrossEntropy(Arc<Call>);

impl Op for CrossEntropy {
    fn name(&self) -> &'static str {
        NAME
    }

    fn cpu_fwd(&self, args: &[View<'_>]) -> Result<(CpuStorage, Shape)> {
        let (x, Call { targets, .. }) = (args[0], &*self.0);
        let loss = |loss: Loss| match loss {
            Loss::Value(value) => vec![value],
            Loss::Rows(rows) => rows,
        };
        let narrow = |loss: Vec<f64>| CpuStorage::F32(loss.into_iter().map(|v| v as f32).collect());
        let options = &self.0.options();
        let y = match x.storage {
            CpuStorage::F64(data) => CpuStorage::F64(loss(crate::cross_entropy(x.rows(data)?, targets, options)?)),
            CpuStorage::F32(data) => narrow(loss(crate::cross_entropy(x.rows(data)?, targets, options)?)),
            CpuStorage::F16(data) => narrow(loss(crate::cross_entropy(x.rows(data)?, targets, options)?)),
            CpuStorage::BF16(data) => narrow(loss(crate::cross_entropy(x.rows(data)?, targets, options)?)),
            _ => return Err(x.unsupported(NAME)),
        };
        let dims = x.shape().dims();
        let rows = if options.reduction == Reduction::None { &dims[..dims.len() - 1] } else { &[] };
        Ok((y, rows.into()))
    }

    fn bwd(&self, args: &[&Tensor], grad: &Tensor) -> Result<Vec<Option<Tensor>>> {
        let dloss = grad.to_dtype(DType::F64)?.flatten_all()?.to_vec1()?;
        let gradient = Gradient { call: self.0.clone(), dloss };
        Ok(vec![Some(args[0].apply_op1_no_bwd(&Custom(gradient))?)])
    }
}

struct Gradient {
    call: Arc<Call>,
    dloss: Vec<f64>,
}

impl Op for Gradient {
    fn name(&self) -> &'static str {
        "cross_entropy_backward"
    }

    fn cpu_fwd(&self, args: &[View<'_>]) -> Result<(CpuStorage, Shape)> {
        let (x, targets, options) = (args[0], &self.call.targets, self.call.options());
        let dx = map_storage!(self.name(), x, data => {
            crate::cross_entropy_backward(x.rows(data)?, targets, &self.dloss, &options)?.1
        });
        Ok((dx, x.shape().clone()))
    }
}
