//! Norms of the rows along the last axis.

use crate::answer::Failure;
use crate::call::{Call, Result, Results};
use crate::tensors::{Input, Output, Values, each_type};
use evenkeel::{LayerNorm, RmsNorm, Rounding, Rows};

const ROUNDINGS: &[(&str, Rounding)] = &[("once", Rounding::Once), ("before_weight", Rounding::BeforeWeight)];

pub fn rms_norm(call: &Call<'_>) -> Result<Results> {
    let (x, weight, residual) = (call.float("x")?, call.optional_float("weight")?, call.optional_float("residual")?);
    if let Some(residual) = residual.as_ref().filter(|r| r.values.floats().dtype() != x.values.floats().dtype()) {
        return Err(other_dtype(residual, &x));
    }
    let (rows, cols) = rows(call, &x)?;
    one_a_column(call, "weight", weight.as_ref(), cols)?;
    if let Some(residual) = &residual {
        call.has_shape("residual", &residual.shape, &x.shape)?;
    }
    let mut options = RmsNorm::default();
    options.weight = weight.as_ref().map(|weight| weight.values.floats());
    options.eps = call.number("eps")?.unwrap_or(options.eps);
    options.weight_offset = call.number("weight_offset")?.unwrap_or(options.weight_offset);
    options.rounding = call.choice("rounding", ROUNDINGS)?.unwrap_or(options.rounding);
    let Some(residual) = residual else {
        let y = each_type!(&x.values, values => {
            Output::new(&x.shape, &evenkeel::rms_norm(Rows::new(values, rows, cols)?, &options)?)
        });
        return Ok(vec![("y", y)]);
    };
    macro_rules! with_residual {
        ($($type:ident)*) => {
            match (&x.values, &residual.values) {
                $((Values::$type(values), Values::$type(residual)) => {
                    let (values, residual) = (Rows::new(values, rows, cols)?, Rows::new(residual, rows, cols)?);
                    let (y, sum) = evenkeel::rms_norm_residual(values, residual, &options)?;
                    Ok(vec![("y", Output::new(&x.shape, &y)), ("residual", Output::new(&x.shape, &sum))])
                })*
                _ => Err(other_dtype(&residual, &x)),
            }
        };
    }
    with_residual!(F64 F32 F16 BF16)
}

pub fn layer_norm(call: &Call<'_>) -> Result<Results> {
    let (x, weight, bias) = (call.float("x")?, call.optional_float("weight")?, call.optional_float("bias")?);
    let (rows, cols) = rows(call, &x)?;
    one_a_column(call, "weight", weight.as_ref(), cols)?;
    one_a_column(call, "bias", bias.as_ref(), cols)?;
    let mut options = LayerNorm::default();
    options.weight = weight.as_ref().map(|weight| weight.values.floats());
    options.bias = bias.as_ref().map(|bias| bias.values.floats());
    options.eps = call.number("eps")?.unwrap_or(options.eps);
    let y = each_type!(&x.values, values => {
        Output::new(&x.shape, &evenkeel::layer_norm(Rows::new(values, rows, cols)?, &options)?)
    });
    Ok(vec![("y", y)])
}

fn rows(call: &Call<'_>, x: &Input) -> Result<(usize, usize)> {
    call.at_least_rank(1, "x", &x.shape)?;
    match x.shape.split_last() {
        Some((&cols, outer)) => Ok((outer.iter().product(), cols)),
        None => Err(call.shape("x", &x.shape, "at least 1 axis is needed")),
    }
}

fn one_a_column(call: &Call<'_>, input: &str, operand: Option<&Input>, cols: usize) -> Result<()> {
    operand.map_or(Ok(()), |operand| call.has_shape(input, &operand.shape, &[cols]))
}

fn other_dtype(residual: &Input, x: &Input) -> Failure {
    let (residual, x) = (residual.values.floats().dtype(), x.values.floats().dtype());
    Failure::dtype(format!("rms_norm: residual is {residual}; {x}, x's type, is taken"))
}
