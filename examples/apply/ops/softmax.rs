//! Softmax family along any axis, with an optional mask.

use crate::answer::Failure;
use crate::call::{Call, Result, Results};
use crate::tensors::{Input, MaskInput, Output, Values, each_type};
use evenkeel::{FullyMasked, Lanes, Mask, Softmax, SoftmaxFromOutput};

pub const POLICIES: &[(&str, FullyMasked)] =
    &[("zeros", FullyMasked::Zeros), ("uniform", FullyMasked::Uniform), ("error", FullyMasked::Error)];

/// Evaluates an expression for the element type that x and dy share. Returns `None` if their types differ.
macro_rules! both {
    ($x:ident, $dy:ident, [$($type:ident)*], ($values:ident, $grads:ident) => $result:expr) => {
        match (&$x.values, &$dy.values) {
            $((Values::$type($values), Values::$type($grads)) => Some($result),)*
            _ => None,
        }
    };
}

macro_rules! each_element {
    ($($op:ident $backward:ident;)*) => {$(
        pub fn $op(call: &Call<'_>) -> Result<Results> {
            let (x, mask, dy) = operands(call)?;
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
            let mut results = vec![("y", y)];
            if let Some(dy) = dy.filter(|_| call.wants("dx")) {
                let dx = both!(x, dy, [F64 F32 F16 BF16], (values, grads) => {
                    let [values, grads] = [values, grads].map(|data| Lanes::shaped(data, &x.shape, axis));
                    Output::new(&x.shape, &evenkeel::$backward(values?, grads?, &options)?)
                });
                results.push(("dx", dx.ok_or_else(|| other_dtype(call, &dy, "x", &x))?));
            }
            Ok(results)
        }
    )*};
}
each_element!(softmax softmax_backward; log_softmax log_softmax_backward;);

macro_rules! from_output {
    ($($op:ident)*) => {$(
        pub fn $op(call: &Call<'_>) -> Result<Results> {
            let (y, dy) = (call.float("y")?, call.float("dy")?);
            call.at_least_rank(1, "y", &y.shape)?;
            call.has_shape("dy", &dy.shape, &y.shape)?;
            let axis = axis(call)?;
            let mut options = SoftmaxFromOutput::default();
            options.scale = call.number("scale")?.unwrap_or(options.scale);
            let dx = both!(y, dy, [F64 F32 F16 BF16], (values, grads) => {
                let [values, grads] = [values, grads].map(|data| Lanes::shaped(data, &y.shape, axis));
                Output::new(&y.shape, &evenkeel::$op(values?, grads?, &options)?)
            });
            Ok(vec![("dx", dx.ok_or_else(|| other_dtype(call, &dy, "y", &y))?)])
        }
    )*};
}
from_output!(softmax_backward_from_output log_softmax_backward_from_output);

pub fn logsumexp(call: &Call<'_>) -> Result<Results> {
    let (x, mask, _) = operands(call)?;
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

fn operands<'a>(call: &Call<'a>) -> Result<(Input, Option<MaskInput<'a>>, Option<Input>)> {
    let (x, mask, dy) = (call.float("x")?, call.mask()?, call.optional_float("dy")?);
    if let Some(dy) = dy.as_ref().filter(|dy| dy.values.floats().dtype() != x.values.floats().dtype()) {
        return Err(other_dtype(call, dy, "x", &x));
    }
    call.at_least_rank(1, "x", &x.shape)?;
    call.broadcasts(mask.as_ref(), &x.shape)?;
    if let Some(dy) = &dy {
        call.has_shape("dy", &dy.shape, &x.shape)?;
    }
    Ok((x, mask, dy))
}

fn other_dtype(call: &Call<'_>, dy: &Input, name: &str, x: &Input) -> Failure {
    let (dy, x) = (dy.values.floats().dtype(), x.values.floats().dtype());
    Failure::dtype(format!("{}: dy is {dy}; it must be {x}, {name}'s type", call.name()))
}

pub fn axis(call: &Call<'_>) -> Result<isize> {
    let axis = call.whole("axis", isize::MIN as i128..=isize::MAX as i128)?;
    Ok(axis.map_or(-1, |axis| axis as isize))
}

/// Returns the shape without the axis, or with an axis of length 1 in its place if `keepdim`. The caller guarantees
/// that the axis exists.
fn reduced(shape: &[usize], axis: isize, keepdim: bool) -> Vec<usize> {
    let axis = axis.rem_euclid(shape.len() as isize) as usize;
    let mut reduced = shape.to_vec();
    reduced[axis] = 1;
    if !keepdim {
        reduced.remove(axis);
    }
    reduced
}
