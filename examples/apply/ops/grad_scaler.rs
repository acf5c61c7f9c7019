//! Loss scaling: computes the scale after each step.

use crate::call::{Call, Result, Results};
use crate::tensors::Output;
use evenkeel::train::LossScale;

pub fn grad_scaler(call: &Call<'_>) -> Result<Results> {
    let (shape, found) = call.flags("found_inf")?;
    if shape.len() != 1 {
        return Err(call.shape("found_inf", &shape, "it must have 1 axis, with one element per step"));
    }
    // PyTorch's scaler has no minimum scale. Evenkeel's scaler requires one, so it gets the smallest normal f32.
    let mut settings = LossScale::dynamic().min_scale(f32::MIN_POSITIVE);
    settings.init = call.number("init_scale")?.map_or(settings.init, |scale| scale as f32);
    settings.growth = call.number("growth_factor")?.unwrap_or(settings.growth);
    settings.backoff = call.number("backoff_factor")?.unwrap_or(settings.backoff);
    let interval = call.whole("growth_interval", 1..=u32::MAX.into())?;
    settings.interval = interval.map_or(settings.interval, |steps| steps as u32);
    let mut scaler = settings.validate()?;
    let mut scales = Vec::with_capacity(found.len());
    for &found in found {
        scaler.record(found == 0)?;
        scaler.step()?;
        scaler.update()?;
        scales.push(f64::from(scaler.scale()));
    }
    Ok(vec![("scale", Output::new(&shape, &scales))])
}
