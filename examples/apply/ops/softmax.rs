//! The softmax family: lanes along any axis, under a mask.

use crate::call::{Call, Result, Results};
use crate::tensors::{Input, MaskInput, Output, each_type};
use evenkeel::{FullyMasked, Lanes, Mask, Softmax};

const POLICIES: &[(&str, FullyMasked)] =
    &[("zeros", FullyMasked::Zeros), ("uniform", FullyMasked::Uniform), ("error", FullyMasked::Error)];

macro_rules! each_element {
    ($($op:ident)*) => {$(
        pub fn $op(call: &Call<'_>) -> Result<Results> {
            let (x, mask) = operands(call)?;
            let axis = axis(call)?;
            let mut whole = mask.as_ref().map_or_else(Mask::none, MaskInput::mask);
            if call.flag("causal")?.unwrap_or(false) {
                whole = whole.and_causal();
            }
            let mut options = Softmax::default().mask(&whole);
            options.scale = call.number("scale")?.unwrap_or(options.scale);
            options.softcap = call.number("softcap")?;
            options.fully_masked = call.choice("fully_masked", POLICIES)?.unwrap_or(options.fully_masked);
            let y = each_type!(&x.values, values => {
                Output::new(&x.shape, &evenkeel::$op(Lanes::shaped(values, &x.shape, axis)?, &options)?)
            });
            Ok(vec![("y", y)])
        }
    )*};
}
each_element!(softmax log_softmax);

pub fn logsumexp(call: &Call<'_>) -> Result<Results> {
    let (x, mask) = operands(call)?;
    let axis = axis(call)?;
    let keepdim = call.flag("keepdim")?.unwrap_or(false);
    let whole = mask.as_ref().map_or_else(Mask::none, MaskInput::mask);
    let options = Softmax::default().mask(&whole);
    let y = each_type!(&x.values, values => {
        let y = evenkeel::logsumexp(Lanes::shaped(values, &x.shape, axis)?, &options)?;
        Output::new(&reduced(&x.shape, axis, keepdim), &y)
    });
    Ok(vec![("y", y)])
}

fn operands<'a>(call: &Call<'a>) -> Result<(Input, Option<MaskInput<'a>>)> {
    let (x, mask) = (call.float("x")?, call.mask()?);
    call.at_least_rank(1, "x", &x.shape)?;
    call.broadcasts(mask.as_ref(), &x.shape)?;
    Ok((x, mask))
}

pub fn axis(call: &Call<'_>) -> Result<isize> {
    let axis = call.whole("axis", isize::MIN as i128..=isize::MAX as i128)?;
    Ok(axis.map_or(-1, |axis| axis as isize))
}

/// The shape without an axis that it has, or with 1 there.
fn reduced(shape: &[usize], axis: isize, keepdim: bool) -> Vec<usize> {
    let axis = axis.rem_euclid(shape.len() as isize) as usize;
    let mut reduced = shape.to_vec();
    reduced[axis] = 1;
    if !keepdim {
        reduced.remove(axis);
    }
    reduced
}
