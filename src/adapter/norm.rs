//! Norms of tensors along the last axis. Weight and bias are tensors of any float type, with one value for each column.

#![forbid(unsafe_code)]

use super::{Values, View, rows, same_type};
use crate::error::{Error, Result};
use crate::floats::Floats;
use crate::ops::layer_norm::LayerNorm;
use crate::ops::rms_norm::RmsNorm;
use crate::rows::RowsMut;
use crate::simd::in_default;

/// Converts `eps` from f32, as candle passes it, to f64, as the options store it.
#[inline]
pub fn widened(eps: f32) -> f64 {
    in_default(|| f64::from(eps))
}

#[inline]
pub fn rms_norm(x: &View<'_>, operands: &[View<'_>], eps: f64) -> Result<Values> {
    let options = RmsNorm { weight: operand("rms_norm", "alpha", operands.first())?, ..RmsNorm::default().eps(eps) };
    Ok(same_type!("rms_norm", [x => data], crate::rms_norm(rows(data, x)?, &options)?.into()))
}

#[inline]
pub fn rms_norm_backward(x: &View<'_>, operands: &[View<'_>], dy: View<'_>, eps: f64) -> Result<Vec<Option<Values>>> {
    const OP: &str = "rms_norm_backward";
    let options = RmsNorm { weight: operand(OP, "alpha", operands.first())?, ..RmsNorm::default().eps(eps) };
    let mut dweight = like(options.weight);
    let dx = same_type!(OP, [x => data, dy => grads], {
        let (x, dy) = (rows(data, x)?, rows(grads, &dy)?);
        let mut dx = vec![Default::default(); data.len()];
        let to = RowsMut::new(&mut dx, x.rows(), x.cols())?;
        crate::rms_norm_backward_into(x, dy, to, dweight.as_mut().map(Values::floats_mut), &options)?;
        dx.into()
    });
    Ok(vec![Some(dx), dweight])
}

#[inline]
pub fn layer_norm(x: &View<'_>, operands: &[View<'_>], eps: f64) -> Result<Values> {
    let options = layer_norm_options("layer_norm", operands, eps)?;
    Ok(same_type!("layer_norm", [x => data], crate::layer_norm(rows(data, x)?, &options)?.into()))
}

#[inline]
pub fn layer_norm_backward(x: &View<'_>, operands: &[View<'_>], dy: View<'_>, eps: f64) -> Result<Vec<Option<Values>>> {
    const OP: &str = "layer_norm_backward";
    let options = layer_norm_options(OP, operands, eps)?;
    let (mut dweight, mut dbias) = (like(options.weight), like(options.bias));
    let dx = same_type!(OP, [x => data, dy => grads], {
        let (x, dy) = (rows(data, x)?, rows(grads, &dy)?);
        let mut dx = vec![Default::default(); data.len()];
        let to = RowsMut::new(&mut dx, x.rows(), x.cols())?;
        let gradients = [&mut dweight, &mut dbias].map(|values| values.as_mut().map(Values::floats_mut));
        let [dweight, dbias] = gradients;
        crate::layer_norm_backward_into(x, dy, to, dweight, dbias, &options)?;
        dx.into()
    });
    Ok(vec![Some(dx), dweight, dbias])
}

#[inline]
fn layer_norm_options<'a>(op: &'static str, operands: &[View<'a>], eps: f64) -> Result<LayerNorm<'a>> {
    let (weight, bias) = (operand(op, "alpha", operands.first())?, operand(op, "beta", operands.get(1))?);
    Ok(LayerNorm { weight, bias, eps })
}

/// Returns the values of an operand. The op checks that there is one value for each column.
#[inline]
fn operand<'a>(op: &'static str, argument: &'static str, view: Option<&View<'a>>) -> Result<Option<Floats<'a>>> {
    match view {
        Some(view) if view.dims.len() != 1 => {
            Err(Error::shape(op, argument, format!("shape {:?}", view.dims), "one axis"))
        }
        view => Ok(view.map(|view| view.floats)),
    }
}

/// Returns memory for the gradient of an operand.
#[inline]
fn like(operand: Option<Floats<'_>>) -> Option<Values> {
    operand.map(|operand| Values::zeros(operand.dtype(), operand.len()))
}
