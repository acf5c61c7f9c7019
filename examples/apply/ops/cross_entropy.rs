//! Cross-entropy of [N, V] logits, and its gradient.

use crate::call::{Call, Result, Results};
use crate::tensors::{Output, Values, each_type};
use evenkeel::{CrossEntropy, Loss, Reduction, Rows};

const REDUCTIONS: &[(&str, Reduction)] =
    &[("none", Reduction::None), ("mean", Reduction::Mean), ("sum", Reduction::Sum)];

pub fn cross_entropy(call: &Call<'_>) -> Result<Results> {
    let (x, (target_shape, targets)) = (call.float("logits")?, call.integers("target")?);
    let weight = call.optional_float("weight")?;
    call.at_least_rank(2, "logits", &x.shape)?;
    let &[rows, cols] = x.shape.as_slice() else {
        return Err(call.shape("logits", &x.shape, "it must have 2 axes: rows and classes"));
    };
    call.has_shape("target", &target_shape, &[rows])?;
    if let Some(weight) = &weight {
        call.has_shape("weight", &weight.shape, &[cols])?;
    }
    let mut options = CrossEntropy::default();
    options.weight = weight.as_ref().map(|weight| weight.values.floats());
    options.reduction = call.choice("reduction", REDUCTIONS)?.unwrap_or(options.reduction);
    let index = call.whole("ignore_index", i64::MIN.into()..=i64::MAX.into())?;
    options.ignore_index = index.map_or(options.ignore_index, |index| index as i64);
    options.label_smoothing = call.number("label_smoothing")?.unwrap_or(options.label_smoothing);
    options.z_loss = call.number("z_loss")?.unwrap_or(options.z_loss);
    options.softcap = call.number("softcap")?;
    let dloss = vec![1.0; if options.reduction == Reduction::None { rows } else { 1 }];
    let mut results = Vec::new();
    let loss = each_type!(&x.values, values => {
        let logits = Rows::new(values, rows, cols)?;
        if call.wants("dlogits") {
            let (loss, dlogits) = evenkeel::cross_entropy_backward(logits, &targets, &dloss, &options)?;
            results.push(("dlogits", Output::new(&x.shape, &dlogits)));
            loss
        } else {
            evenkeel::cross_entropy(logits, &targets, &options)?
        }
    });
    let shape: &[usize] = if let Loss::Rows(_) = loss { &[rows] } else { &[] };
    results.push((
        "loss",
        match x.values {
            Values::F64(_) => Output::new(shape, loss.as_slice()),
            _ => Output::new(shape, &loss.as_slice().iter().map(|&v| v as f32).collect::<Vec<f32>>()),
        },
    ));
    Ok(results)
}
