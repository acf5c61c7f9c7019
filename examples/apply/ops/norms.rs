//! Normalization ops, most of them along the last axis.

use crate::answer::Failure;
use crate::call::{Call, Result, Results};
use crate::tensors::{Input, Output, each_type};
use evenkeel::{GroupNorm, L2Normalize, Lanes, LayerNorm, RmsNorm, RmsNormLinear, Rounding, Rows};

const ROUNDINGS: &[(&str, Rounding)] = &[("once", Rounding::Once), ("before_weight", Rounding::BeforeWeight)];

pub fn rms_norm(call: &Call<'_>) -> Result<Results> {
    let (x, weight) = (call.float("x")?, call.optional_float("weight")?);
    let (residual, dy) = (like_x(call, "residual", &x)?, like_x(call, "dy", &x)?);
    let (rows, cols) = rows(call, &x)?;
    has_shape(call, "weight", weight.as_ref(), &[cols])?;
    has_shape(call, "residual", residual.as_ref(), &x.shape)?;
    has_shape(call, "dy", dy.as_ref(), &x.shape)?;
    let options = rms_options(call, weight.as_ref())?;
    each_type!(&x.values, values => {
        let view = |values| Rows::new(values, rows, cols);
        let mut results = Vec::new();
        // The norm is applied to x or, with a residual, to the sum of x and the residual.
        let (y, sum) = match &residual {
            Some(residual) => {
                let (y, sum) = evenkeel::rms_norm_residual(view(values)?, view(same(residual, values)?)?, &options)?;
                results.push(("residual", Output::new(&x.shape, &sum)));
                (y, Some(sum))
            }
            None => (evenkeel::rms_norm(view(values)?, &options)?, None),
        };
        results.push(("y", Output::new(&x.shape, &y)));
        if let Some(dy) = &dy {
            let normalised = view(sum.as_ref().unwrap_or(values))?;
            let gradients = evenkeel::rms_norm_backward(normalised, view(same(dy, values)?)?, &options)?;
            results.push(("dx", Output::new(&x.shape, &gradients.dx)));
            results.extend(gradients.dweight.map(|dweight| ("dweight", Output::new(&[cols], &dweight))));
        }
        Ok(results)
    })
}

pub fn rms_norm_linear(call: &Call<'_>) -> Result<Results> {
    let (x, weight, bias) = (call.float("x")?, call.optional_float("weight")?, call.optional_float("bias")?);
    let Some(matrix) = like_x(call, "matrix", &x)? else {
        return Err(Failure::invalid("rms_norm_linear: the input `matrix` is missing"));
    };
    let (rows, cols) = rows(call, &x)?;
    let &[results, of_matrix] = matrix.shape.as_slice() else {
        return Err(call.shape("matrix", &matrix.shape, "it must have 2 axes: output columns and input columns"));
    };
    call.has_shape("matrix", &matrix.shape, &[results, cols])?;
    has_shape(call, "weight", weight.as_ref(), &[cols])?;
    has_shape(call, "bias", bias.as_ref(), &[results])?;
    let mut options = RmsNormLinear::default().norm(rms_options(call, weight.as_ref())?);
    options.bias = bias.as_ref().map(|bias| bias.values.floats());
    options.rounded = call.flag("rounded")?.unwrap_or(options.rounded);
    let mut shape = x.shape.clone();
    shape.pop();
    shape.push(results);
    let y = each_type!(&x.values, values => {
        let of_matrix = Rows::new(same(&matrix, values)?, results, of_matrix)?;
        Output::new(&shape, &evenkeel::rms_norm_linear(Rows::new(values, rows, cols)?, of_matrix, &options)?)
    });
    Ok(vec![("y", y)])
}

/// Reads the options of an RMSNorm with this weight.
pub(super) fn rms_options<'a>(call: &Call<'_>, weight: Option<&'a Input>) -> Result<RmsNorm<'a>> {
    let mut options = RmsNorm::default();
    options.weight = weight.map(|weight| weight.values.floats());
    options.eps = call.number("eps")?.unwrap_or(options.eps);
    options.weight_offset = call.number("weight_offset")?.unwrap_or(options.weight_offset);
    options.rounding = call.choice("rounding", ROUNDINGS)?.unwrap_or(options.rounding);
    Ok(options)
}

pub fn layer_norm(call: &Call<'_>) -> Result<Results> {
    let (x, weight, bias) = (call.float("x")?, call.optional_float("weight")?, call.optional_float("bias")?);
    let dy = like_x(call, "dy", &x)?;
    let (rows, cols) = rows(call, &x)?;
    has_shape(call, "weight", weight.as_ref(), &[cols])?;
    has_shape(call, "bias", bias.as_ref(), &[cols])?;
    has_shape(call, "dy", dy.as_ref(), &x.shape)?;
    let mut options = LayerNorm::default();
    options.weight = weight.as_ref().map(|weight| weight.values.floats());
    options.bias = bias.as_ref().map(|bias| bias.values.floats());
    options.eps = call.number("eps")?.unwrap_or(options.eps);
    each_type!(&x.values, values => {
        let view = |values| Rows::new(values, rows, cols);
        let mut results = vec![("y", Output::new(&x.shape, &evenkeel::layer_norm(view(values)?, &options)?))];
        if let Some(dy) = &dy {
            let gradients = evenkeel::layer_norm_backward(view(values)?, view(same(dy, values)?)?, &options)?;
            results.push(("dx", Output::new(&x.shape, &gradients.dx)));
            results.extend(gradients.dweight.map(|dweight| ("dweight", Output::new(&[cols], &dweight))));
            results.extend(gradients.dbias.map(|dbias| ("dbias", Output::new(&[cols], &dbias))));
        }
        Ok(results)
    })
}

pub fn group_norm(call: &Call<'_>) -> Result<Results> {
    let (x, weight, bias) = (call.float("x")?, call.optional_float("weight")?, call.optional_float("bias")?);
    call.at_least_rank(2, "x", &x.shape)?;
    let &[batch, channels, ref inner @ ..] = x.shape.as_slice() else {
        return Err(call.shape("x", &x.shape, "it must have at least 2 axes; the first two are batch and channels"));
    };
    has_shape(call, "weight", weight.as_ref(), &[channels])?;
    has_shape(call, "bias", bias.as_ref(), &[channels])?;
    let groups = call.whole("groups", 1..=i128::from(u32::MAX))?;
    let groups = groups.ok_or_else(|| Failure::invalid("group_norm: the attribute `groups` is missing"))?;
    let mut options = GroupNorm::new(groups as usize);
    options.weight = weight.as_ref().map(|weight| weight.values.floats());
    options.bias = bias.as_ref().map(|bias| bias.values.floats());
    options.eps = call.number("eps")?.unwrap_or(options.eps);
    let y = each_type!(&x.values, values => {
        let lanes = Lanes::new(values, batch, channels, inner.iter().product())?;
        Output::new(&x.shape, &evenkeel::group_norm(lanes, &options)?)
    });
    Ok(vec![("y", y)])
}

pub fn l2_normalize(call: &Call<'_>) -> Result<Results> {
    let x = call.float("x")?;
    call.at_least_rank(1, "x", &x.shape)?;
    let axis = super::softmax::axis(call)?;
    let mut options = L2Normalize::default();
    options.eps = call.number("eps")?.unwrap_or(options.eps);
    let y = each_type!(&x.values, values => {
        Output::new(&x.shape, &evenkeel::l2_normalize(Lanes::shaped(values, &x.shape, axis)?, &options)?)
    });
    Ok(vec![("y", y)])
}

fn rows(call: &Call<'_>, x: &Input) -> Result<(usize, usize)> {
    call.at_least_rank(1, "x", &x.shape)?;
    match x.shape.split_last() {
        Some((&cols, outer)) => Ok((outer.iter().product(), cols)),
        None => Err(call.shape("x", &x.shape, "it must have at least 1 axis; the last axis holds the columns")),
    }
}

pub(super) fn has_shape(call: &Call<'_>, input: &str, operand: Option<&Input>, shape: &[usize]) -> Result<()> {
    operand.map_or(Ok(()), |operand| call.has_shape(input, &operand.shape, shape))
}

/// Returns an optional input that must have x's type.
fn like_x(call: &Call<'_>, name: &str, x: &Input) -> Result<Option<Input>> {
    let input = call.optional_float(name)?;
    let dtype = |input: &Input| input.values.floats().dtype();
    match &input {
        Some(other) if dtype(other) != dtype(x) => {
            let (op, other, x) = (call.name(), dtype(other), dtype(x));
            Err(Failure::dtype(format!("{op}: {name} is {other}; it must be {x}, like x")))
        }
        _ => Ok(input),
    }
}

/// Returns the elements of an input as `T`, the element type of x. [`like_x`] has already checked the input's type.
pub(super) fn same<'a, T: 'static>(input: &'a Input, _: &[T]) -> Result<&'a [T]> {
    input.values.of().ok_or_else(|| Failure::dtype("every input must have the element type of x"))
}
