//! Mean over tokens of a [batch, tokens, width] tensor. A [batch, tokens] mask selects the tokens.

use crate::answer::Failure;
use crate::call::{Call, Result, Results};
use crate::tensors::{MaskInput, Output, each_type};
use evenkeel::{FullyMasked, Lanes, Mask, MeanPool};

const POLICIES: &[(&str, FullyMasked)] = &[("zeros", FullyMasked::Zeros), ("error", FullyMasked::Error)];

pub fn mean_pool(call: &Call<'_>) -> Result<Results> {
    let (x, mask, dy) = (call.float("x")?, call.mask()?, call.optional_float("dy")?);
    let &[batch, tokens, width] = x.shape.as_slice() else {
        return Err(call.shape("x", &x.shape, "it must have 3 axes: batch, tokens and width"));
    };
    call.broadcasts(mask.as_ref(), &[batch, tokens])?;
    if let Some(dy) = &dy {
        call.has_shape("dy", &dy.shape, &[batch, width])?;
    }
    let mask = mask.as_ref().map_or_else(Mask::none, MaskInput::mask);
    let mut options = MeanPool::default().mask(&mask);
    options.fully_masked = call.choice("fully_masked", POLICIES)?.unwrap_or(options.fully_masked);
    let y = each_type!(&x.values, values => {
        Output::new(&[batch, width], &evenkeel::mean_pool(Lanes::shaped(values, &x.shape, 1)?, &options)?)
    });
    let mut results = vec![("y", y)];
    if let Some(dy) = dy.filter(|_| call.wants("dx")) {
        let (x_type, dy_type) = (x.values.floats().dtype(), dy.values.floats().dtype());
        if x_type != dy_type {
            return Err(Failure::dtype(format!("mean_pool: dy is {dy_type}; it must be {x_type}, like x")));
        }
        let dx = each_type!(&dy.values, grads => {
            Output::new(&x.shape, &evenkeel::mean_pool_backward(grads, [batch, tokens, width], &options)?)
        });
        results.push(("dx", dx));
    }
    Ok(results)
}
