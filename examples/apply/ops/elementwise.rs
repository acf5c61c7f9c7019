//! Elementwise ops. They accept any shape, including scalars.

use super::Op;
use super::norms::same;
use crate::answer::Failure;
use crate::call::{Call, Result, Results};
use crate::tensors::{Input, Output, Values, each_type};
use evenkeel::{ClampedExp, ClampedLog, SafeDiv};

/// Evaluates an expression for the values of two inputs that were checked by [`alike`].
macro_rules! each_pair {
    ($first:expr, $second:expr, |$x:ident, $y:ident| $e:expr) => {
        match ($first, $second) {
            (Values::F64($x), Values::F64($y)) => $e,
            (Values::F32($x), Values::F32($y)) => $e,
            (Values::F16($x), Values::F16($y)) => $e,
            (Values::BF16($x), Values::BF16($y)) => $e,
            _ => unreachable!("both inputs must have the same element type, which `alike` checks"),
        }
    };
}

/// Computes the result y of an op, and the gradient dx if the input dy is given. `options` are the op's options, if it
/// has any.
macro_rules! results {
    ($call:expr, $op:ident, $gradient:ident $(, $options:expr)?) => {{
        let (x, dy) = ($call.float("x")?, $call.optional_float("dy")?);
        if let Some(dy) = &dy {
            alike($call, ("x", &x), ("dy", dy))?;
        }
        $(let options = $options;)?
        let mut results = Vec::new();
        if let Some(dy) = dy {
            let dims = &x.shape;
            let dx = each_pair!(&x.values, &dy.values, |x, dy| {
                Output::new(dims, &evenkeel::$gradient(x, dy $(, results!(@ options $options))?)?)
            });
            results.push(("dx", dx));
        }
        let y = each_type!(&x.values, x_values => {
            Output::new(&x.shape, &evenkeel::$op(x_values $(, results!(@ options $options))?)?)
        });
        results.push(("y", y));
        Ok(results)
    }};
    (@ $name:ident $options:expr) => { &$name };
}

macro_rules! elementwise {
    ($($name:ident $Op:ident $formula:literal $forms:tt $derivative:ident [$backward:ident $($form:ident)*];)*) => {
        pub const OPS: &[Op] = &[$(
            super::elementwise(stringify!($name), |call| results!(call, $name, $backward)),
        )*];
    };
}
evenkeel::for_each_elementwise!(elementwise);

pub fn clamped_exp(call: &Call<'_>) -> Result<Results> {
    results!(call, clamped_exp, clamped_exp_backward, {
        let mut options = ClampedExp::default();
        options.min = call.number("min")?;
        options.max = call.number("max")?;
        options
    })
}

pub fn clamped_log(call: &Call<'_>) -> Result<Results> {
    results!(call, clamped_log, clamped_log_backward, {
        let mut options = ClampedLog::default();
        options.floor = call.number("floor")?;
        options
    })
}

pub fn safe_div(call: &Call<'_>) -> Result<Results> {
    let (x, d) = (call.float("x")?, call.float("d")?);
    alike(call, ("x", &x), ("d", &d))?;
    let mut options = SafeDiv::default();
    options.eps = call.number("eps")?;
    let dims = &x.shape;
    let y = each_pair!(&x.values, &d.values, |x, d| Output::new(dims, &evenkeel::safe_div(x, d, &options)?));
    Ok(vec![("y", y)])
}

pub fn log_add_exp(call: &Call<'_>) -> Result<Results> {
    let (a, b) = (call.float("a")?, call.float("b")?);
    alike(call, ("a", &a), ("b", &b))?;
    let dims = &a.shape;
    let y = each_pair!(&a.values, &b.values, |a, b| Output::new(dims, &evenkeel::log_add_exp(a, b)?));
    Ok(vec![("y", y)])
}

pub fn swiglu(call: &Call<'_>) -> Result<Results> {
    let (gate, up, dy) = (call.float("gate")?, call.float("up")?, call.optional_float("dy")?);
    alike(call, ("gate", &gate), ("up", &up))?;
    let dims = &gate.shape;
    let y = each_pair!(&gate.values, &up.values, |gate, up| Output::new(dims, &evenkeel::swiglu(gate, up)?));
    let Some(dy) = dy else { return Ok(vec![("y", y)]) };
    alike(call, ("gate", &gate), ("dy", &dy))?;
    each_type!(&gate.values, gate => {
        let (dgate, dup) = evenkeel::swiglu_backward(gate, same(&up, gate)?, same(&dy, gate)?)?;
        Ok(vec![("y", y), ("dgate", Output::new(dims, &dgate)), ("dup", Output::new(dims, &dup))])
    })
}

/// Checks that both inputs have the same type, then that they have the same shape.
fn alike(call: &Call<'_>, (first, x): (&str, &Input), (second, other): (&str, &Input)) -> Result<()> {
    let (dtype, needed) = (other.values.floats().dtype(), x.values.floats().dtype());
    if dtype != needed {
        let message = format!("{}: {second} is {dtype}; it must be {needed}, {first}'s type", call.name());
        return Err(Failure::dtype(message));
    }
    call.has_shape(second, &other.shape, &x.shape)
}
