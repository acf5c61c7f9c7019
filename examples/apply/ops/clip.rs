//! Clipping of lists of gradients.

use crate::answer::Failure;
use crate::call::{Call, Result, Results};
use crate::tensors::{Input, Output, each_type};
use evenkeel::train::AdaptiveClip;
use evenkeel::{ClipGradNorm, ClipMode, FloatsMut, NormType};

const MODES: &[(&str, ClipMode)] = &[("exact", ClipMode::Exact), ("torch", ClipMode::Torch)];

pub fn clip_grad_norm(call: &Call<'_>) -> Result<Results> {
    let mut grads = call.floats("grads")?;
    let mut options = ClipGradNorm::new(call.required_number("max_norm")?);
    options.norm_type = match call.number("norm_type")? {
        None | Some(2.0) => NormType::Two,
        Some(1.0) => NormType::One,
        Some(f64::INFINITY) => NormType::Infinity,
        Some(_) => return Err(call.bad_attr("norm_type", "2, 1 or \"inf\"")),
    };
    options.mode = call.choice("mode", MODES)?.unwrap_or(options.mode);
    options.error_if_nonfinite = call.flag("error_if_nonfinite")?.unwrap_or(options.error_if_nonfinite);
    let norm = evenkeel::clip_grad_norm(&mut floats(&mut grads), &options)?;
    let mut results = outputs(&grads);
    results.push(("norm", Output::new(&[], &[norm])));
    Ok(results)
}

pub fn clip_grad_value(call: &Call<'_>) -> Result<Results> {
    let mut grads = call.floats("grads")?;
    evenkeel::clip_grad_value(&mut floats(&mut grads), call.required_number("clip_value")?)?;
    Ok(outputs(&grads))
}

pub fn adaptive_clip(call: &Call<'_>) -> Result<Results> {
    let (mut grads, params) = (call.floats("grads")?, call.floats("params")?);
    if grads.len() != params.len() {
        let needed =
            format!("grads has {} tensors and params has {}; both numbers must be equal", grads.len(), params.len());
        return Err(Failure::shape(format!("{}: {needed}", call.name())));
    }
    for (i, (grad, param)) in grads.iter().zip(&params).enumerate() {
        call.has_shape(&format!("params[{i}]"), &param.shape, &grad.shape)?;
    }
    let mut clip = AdaptiveClip::default();
    clip.clipping = call.number("clipping")?.unwrap_or(clip.clipping);
    clip.eps = call.number("eps")?.unwrap_or(clip.eps);
    for (Input { shape, values }, param) in grads.iter_mut().zip(&params) {
        each_type!(values, values => clip.clip(values, param.values.floats(), shape)?);
    }
    Ok(outputs(&grads))
}

fn floats(grads: &mut [Input]) -> Vec<FloatsMut<'_>> {
    grads.iter_mut().map(|grad| each_type!(&mut grad.values, values => values.into())).collect()
}

fn outputs(grads: &[Input]) -> Results {
    let output = |grad: &Input| each_type!(&grad.values, values => Output::new(&grad.shape, values));
    grads.iter().map(|grad| ("grads", output(grad))).collect()
}
