//! Compositions of losses.

#![forbid(unsafe_code)]

use super::{log_softmax, logsumexp, product, wide};
use crate::candle::op::cross_entropy::numbers;
use crate::ops::cross_entropy::CrossEntropy;
use crate::ops::loss::Reduction;
use candle_core::{D, Device, Result, Tensor};

/// The cross-entropy of logits along the last axis, as [`crate::cross_entropy`]; targets are read on the host.
///
/// # Errors
/// As [`crate::cross_entropy`], inside candle's.
pub fn cross_entropy(logits: &Tensor, targets: &Tensor, options: &CrossEntropy<'_>) -> Result<Tensor> {
    let numbers = numbers(logits, targets)?;
    let (device, cols) = (logits.device(), logits.dim(D::Minus1)?);
    let resolved = options.resolve("cross_entropy", numbers.len(), cols, &numbers)?;
    let counts: Vec<bool> = numbers.iter().map(|&target| target != options.ignore_index).collect();
    let x = wide(logits)?.reshape((numbers.len(), cols))?;
    let zero = x.zeros_like()?;
    let reshaped = |rows: Tensor| {
        if options.reduction == Reduction::None { rows.reshape(targets.shape()) } else { rows.sum_all() }
    };
    if x.elem_count() == 0 {
        return reshaped(Tensor::zeros(numbers.len(), x.dtype(), device)?);
    }
    // Rows that do not count have no NaN to give.
    let counted = Tensor::from_iter(counts.iter().map(|&c| u8::from(c)), device)?.unsqueeze(1)?;
    let x = counted.broadcast_as(x.shape())?.where_cond(&x, &zero)?;
    let scores = options.scores();
    let log_p = log_softmax(&x, 1, &scores)?;

    let [of_entropy, of_z] = options.divisors(&resolved).map(|d| if d == 0.0 { 0.0 } else { 1.0 / d });
    let classes = numbers.iter().zip(&counts).map(|(&target, &counts)| if counts { target as u32 } else { 0 });
    let classes: Vec<u32> = classes.collect();
    let weight = |class: usize| options.weight.and_then(|weight| weight.get(class)).unwrap_or(1.0);
    let column = |values: Vec<f64>| Tensor::new(values, &Device::Cpu)?.to_dtype(x.dtype())?.to_device(device);
    let of_targets = classes.iter().zip(&counts).map(|(&class, &counts)| {
        if counts { of_entropy * (1.0 - options.label_smoothing) * weight(class as usize) } else { 0.0 }
    });
    let of_targets = column(of_targets.collect())?.unsqueeze(1)?;
    let targets = Tensor::new(classes, device)?.unsqueeze(1)?;
    let mut loss = product(&of_targets, &log_p.gather(&targets, 1)?)?.neg()?;
    if options.label_smoothing != 0.0 {
        let share = of_entropy * options.label_smoothing / cols as f64;
        let of_classes = column((0..cols).map(|class| share * weight(class)).collect())?;
        let smoothed = product(&of_classes.broadcast_as(log_p.shape())?.contiguous()?, &log_p)?.sum_keepdim(1)?;
        loss = (loss - counted.where_cond(&smoothed, &smoothed.zeros_like()?)?)?;
    }
    if options.z_loss != 0.0 {
        let squares = (logsumexp(&x, 1, &scores)?.sqr()? * (of_z * options.z_loss))?;
        loss = (loss + counted.where_cond(&squares, &squares.zeros_like()?)?)?;
    }
    reshaped(loss.squeeze(1)?)
}
