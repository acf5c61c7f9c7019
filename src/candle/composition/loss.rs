//! Losses, composed of candle's own ops.

#![forbid(unsafe_code)]

use super::{all, log_softmax, logsumexp, product, sigmoid, wide};
use crate::candle::op::cross_entropy::numbers;
use crate::candle::op::row_loss::same_shape;
use crate::floats::Floats;
use crate::ops::bce_with_logits::BceWithLogits;
use crate::ops::cross_entropy::CrossEntropy;
use crate::ops::kl_div::KlDiv;
use crate::ops::loss::Reduction;
use crate::ops::softmax::Softmax;
use candle_core::{D, Device, Result, Tensor};

/// Computes the cross-entropy of logits along the last axis, as [`crate::cross_entropy`] does. Targets are copied to
/// the host, where they are checked.
///
/// # Errors
/// The errors of [`crate::cross_entropy`], wrapped in candle's error.
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
    // Ignored rows are set to zero, so a NaN in them does not reach the loss.
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
    // A row with NaN, or with +inf and no softcap, has a loss of NaN, even if all factors above are 0. The square root of
    // the negated number of such logits is NaN, or -0 if there are none.
    let x = x.detach();
    let mut refused = x.ne(&x)?;
    if options.softcap.is_none() {
        refused = (refused + x.eq(f64::INFINITY)?)?;
    }
    let refused = refused.to_dtype(x.dtype())?.sum_keepdim(1)?;
    reshaped((loss + refused.neg()?.sqrt()?)?.squeeze(1)?)
}

/// Computes the binary cross-entropy of finite logits against targets of the same shape, as [`crate::bce_with_logits`]
/// does.
///
/// Logits and targets have gradients. The values of targets and weights are not checked.
///
/// # Errors
/// [`crate::Error::ShapeMismatch`], wrapped in candle's error, if shapes do not match; candle's own errors.
pub fn bce_with_logits(logits: &Tensor, targets: &Tensor, options: &BceWithLogits<'_>) -> Result<Tensor> {
    same_shape("bce_with_logits", logits, targets)?;
    let x = wide(logits)?;
    let y = targets.to_dtype(x.dtype())?;
    let operand = |weight: Option<Floats<'_>>, dims: &[usize]| -> Result<Tensor> {
        let Some(weight) = weight else { return all(&x, 1.0) };
        let values: Vec<f64> = (0..weight.len()).filter_map(|i| weight.get(i)).collect();
        let weight = Tensor::from_vec(values, dims, &Device::Cpu)?.to_dtype(x.dtype())?.to_device(x.device())?;
        weight.broadcast_as(x.shape())?.contiguous()
    };
    let weight = operand(options.weight, x.dims())?;
    let (miss, hit) = (y.affine(-1.0, 1.0)?, (&y * operand(options.pos_weight, &[x.dim(D::Minus1)?])?)?);
    // The loss uses relu and abs instead of a maximum, because candle's gradients of relu and abs add up to the correct
    // gradient at a logit of 0.
    let (above, rest) = (x.relu()?, (x.abs()?.neg()?.exp()? + 1.0)?.log()?);
    let far = ((&miss * &above)? + (&hit * (&above - &x)?)?)?;
    let mut loss = (weight * (far + ((miss + hit)? * rest)?)?)?;
    if options.focal_gamma > 0.0 {
        let q = ((&y * sigmoid(&x.neg()?)?)? + (y.affine(-1.0, 1.0)? * sigmoid(&x)?)?)?;
        loss = (loss * q.maximum(f64::from(f32::MIN_POSITIVE))?.powf(options.focal_gamma)?)?;
    }
    if let Some(alpha) = options.alpha {
        loss = (loss * y.affine(2.0 * alpha - 1.0, 1.0 - alpha)?)?;
    }
    match options.reduction {
        Reduction::None => Ok(loss),
        Reduction::Mean if loss.elem_count() > 0 => loss.mean_all(),
        _ => loss.sum_all(),
    }
}

/// Computes the Kullback-Leibler divergence KL(targets || softmax(logits)), as [`crate::kl_div`] does.
///
/// Targets must have the shape of the logits. The values of the targets are not checked.
///
/// # Errors
/// [`crate::Error::ShapeMismatch`], wrapped in candle's error, if shapes do not match; candle's own errors.
pub fn kl_div(logits: &Tensor, targets: &Tensor, options: &KlDiv) -> Result<Tensor> {
    same_shape("kl_div", logits, targets)?;
    let x = wide(logits)?;
    let targets = targets.detach().to_dtype(x.dtype())?;
    let (p, ln_p) = if options.log_target { (targets.exp()?, targets) } else { (targets.clone(), targets.log()?) };
    let axis = x.rank() - 1;
    let ln_q = if options.log_probs { x } else { log_softmax(&x, axis, &Softmax::default().scale(options.scale))? };
    let elements = product(&p, &(ln_p - ln_q)?)?;
    let losses = if options.log_probs { elements } else { elements.sum(axis)? };
    match options.reduction {
        Reduction::None => Ok(losses),
        Reduction::Mean if losses.elem_count() > 0 => losses.mean_all(),
        _ => losses.sum_all(),
    }
}
