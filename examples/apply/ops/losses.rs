//! Losses of logits against targets of the same shape, and their gradients.

use crate::call::{Call, Result, Results};
use crate::tensors::{Input, Output, Values, each_type};
use evenkeel::{BceWithLogits, KlDiv, Loss, Reduction, Rows};

const REDUCTIONS: &[(&str, Reduction)] =
    &[("none", Reduction::None), ("mean", Reduction::Mean), ("sum", Reduction::Sum)];

/// Returns the logits, the targets, and their number of rows and columns.
fn operands(call: &Call<'_>) -> Result<(Input, Input, usize, usize)> {
    let (x, targets) = (call.float("logits")?, call.float("target")?);
    let &[rows, cols] = x.shape.as_slice() else {
        return Err(call.shape("logits", &x.shape, "2 axes are needed"));
    };
    call.has_shape("target", &targets.shape, &[rows, cols])?;
    Ok((x, targets, rows, cols))
}

/// Returns the loss with the given shape: as f64 if the logits are f64, else as f32.
fn kept(x: &Values, shape: &[usize], loss: &Loss) -> Output {
    match x {
        Values::F64(_) => Output::new(shape, loss.as_slice()),
        _ => Output::new(shape, &loss.as_slice().iter().map(|&v| v as f32).collect::<Vec<f32>>()),
    }
}

pub fn bce_with_logits(call: &Call<'_>) -> Result<Results> {
    let (x, targets, rows, cols) = operands(call)?;
    let (weight, pos_weight) = (call.optional_float("weight")?, call.optional_float("pos_weight")?);
    let mut options = BceWithLogits::default();
    if let Some(weight) = &weight {
        call.has_shape("weight", &weight.shape, &[rows, cols])?;
        options = options.weight(weight.values.floats());
    }
    if let Some(weight) = &pos_weight {
        call.has_shape("pos_weight", &weight.shape, &[cols])?;
        options = options.pos_weight(weight.values.floats());
    }
    options.reduction = call.choice("reduction", REDUCTIONS)?.unwrap_or(options.reduction);
    let each = options.reduction == Reduction::None;
    let (dloss, targets) = (vec![1.0; if each { rows * cols } else { 1 }], targets.values.floats());
    let shape: &[usize] = if each { &[rows, cols] } else { &[] };
    each_type!(&x.values, values => {
        let logits = Rows::new(values, rows, cols)?;
        let (loss, dx) = evenkeel::bce_with_logits_backward(logits, targets, &dloss, &options)?;
        Ok(vec![("dlogits", Output::new(&x.shape, &dx)), ("loss", kept(&x.values, shape, &loss))])
    })
}

pub fn kl_div(call: &Call<'_>) -> Result<Results> {
    let (x, targets, rows, cols) = operands(call)?;
    let mut options = KlDiv::default();
    options.reduction = call.choice("reduction", REDUCTIONS)?.unwrap_or(options.reduction);
    options.log_target = call.flag("log_target")?.unwrap_or(options.log_target);
    options.scale = call.number("scale")?.unwrap_or(options.scale);
    let each = options.reduction == Reduction::None;
    let (dloss, targets) = (vec![1.0; if each { rows } else { 1 }], targets.values.floats());
    let shape: &[usize] = if each { &[rows] } else { &[] };
    each_type!(&x.values, values => {
        let logits = Rows::new(values, rows, cols)?;
        let (loss, dx) = evenkeel::kl_div_backward(logits, targets, &dloss, &options)?;
        Ok(vec![("dlogits", Output::new(&x.shape, &dx)), ("loss", kept(&x.values, shape, &loss))])
    })
}
