//! Losses against targets of the same shape, and their gradients.

use crate::call::{Call, Result, Results};
use crate::tensors::{Input, Output, Values, each_type};
use evenkeel::{BceWithLogits, KlDiv, Loss, Reduction, Rows};

const REDUCTIONS: &[(&str, Reduction)] =
    &[("none", Reduction::None), ("mean", Reduction::Mean), ("sum", Reduction::Sum)];

/// Returns `x`, the targets, and the number of rows and columns of `x`. The last axis of `x` holds the columns.
fn operands(call: &Call<'_>) -> Result<(Input, Input, usize, usize)> {
    let (x, target) = (call.float("x")?, call.float("target")?);
    call.at_least_rank(0, "x", &x.shape)?;
    call.has_shape("target", &target.shape, &x.shape)?;
    let (cols, outer) = x.shape.split_last().map_or((1, &[][..]), |(&cols, outer)| (cols, outer));
    let rows = outer.iter().product();
    Ok((x, target, rows, cols))
}

/// Returns the loss with the given shape: as f64 if `x` is f64, else as f32.
fn kept(x: &Values, shape: &[usize], loss: &Loss) -> Output {
    match x {
        Values::F64(_) => Output::new(shape, loss.as_slice()),
        _ => Output::new(shape, &loss.as_slice().iter().map(|&v| v as f32).collect::<Vec<f32>>()),
    }
}

pub fn bce_with_logits(call: &Call<'_>) -> Result<Results> {
    let (x, target, rows, cols) = operands(call)?;
    let (weight, pos_weight) = (call.optional_float("weight")?, call.optional_float("pos_weight")?);
    let mut options = BceWithLogits::default();
    if let Some(weight) = &weight {
        call.has_shape("weight", &weight.shape, &x.shape)?;
        options = options.weight(weight.values.floats());
    }
    if let Some(weight) = &pos_weight {
        call.has_shape("pos_weight", &weight.shape, &[cols])?;
        options = options.pos_weight(weight.values.floats());
    }
    options.focal_gamma = call.number("focal_gamma")?.unwrap_or(options.focal_gamma);
    options.alpha = call.number("alpha")?;
    options.reduction = call.choice("reduction", REDUCTIONS)?.unwrap_or(options.reduction);
    let shape: &[usize] = if options.reduction == Reduction::None { &x.shape } else { &[] };
    let (dloss, target) = (vec![1.0; shape.iter().product()], target.values.floats());
    each_type!(&x.values, values => {
        let logits = Rows::new(values, rows, cols)?;
        let (loss, dx) = evenkeel::bce_with_logits_backward(logits, target, &dloss, &options)?;
        Ok(vec![("dx", Output::new(&x.shape, &dx)), ("loss", kept(&x.values, shape, &loss))])
    })
}

/// Computes the divergence as PyTorch's `kl_div` does: `x` holds logarithms of probabilities.
pub fn kl_div(call: &Call<'_>) -> Result<Results> {
    divergence(call, KlDiv::default().log_probs(true))
}

/// Computes the divergence of the targets from the softmax of `x` along the last axis.
pub fn kl_div_with_logits(call: &Call<'_>) -> Result<Results> {
    divergence(call, KlDiv::default().scale(call.number("scale")?.unwrap_or(1.0)))
}

fn divergence(call: &Call<'_>, mut options: KlDiv) -> Result<Results> {
    let (x, target, rows, cols) = operands(call)?;
    options.reduction = call.choice("reduction", REDUCTIONS)?.unwrap_or(options.reduction);
    options.log_target = call.flag("log_target")?.unwrap_or(options.log_target);
    let shape = match (options.reduction, x.shape.split_last()) {
        (Reduction::None, Some((_, outer))) if !options.log_probs => outer,
        (Reduction::None, _) => &x.shape,
        _ => &[],
    };
    let (dloss, target) = (vec![1.0; shape.iter().product()], target.values.floats());
    each_type!(&x.values, values => {
        let x_rows = Rows::new(values, rows, cols)?;
        let (loss, dx) = evenkeel::kl_div_backward(x_rows, target, &dloss, &options)?;
        Ok(vec![("dx", Output::new(&x.shape, &dx)), ("loss", kept(&x.values, shape, &loss))])
    })
}
