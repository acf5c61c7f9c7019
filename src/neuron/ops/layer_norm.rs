//! Layer normalisation on a Neuron device.

#![forbid(unsafe_code)]

use super::{is_finite, one_a_column, output_status, range_scaling, scores, spoils};
use crate::element::{DType, Element};
use crate::error::Result;
use crate::neuron::execute::{self, Execute};
use crate::neuron::graph::{Comparison, Graph, Value};
use crate::neuron::program::{ElementType, Matrix, Program};
use crate::ops::layer_norm::LayerNorm;
use crate::rows::Rows;

const OP: &str = "layer_norm";

/// Limit on the largest magnitude of a row. A row that reaches the limit is scaled by `DOWN`, so that its sums do not
/// overflow.
const HIGH: f32 = (1u128 << 100) as f32;
const DOWN: f32 = 1.0 / (1u128 << 64) as f32;

/// Returns the program of [`layer_norm`](crate::layer_norm()).
///
/// | inputs, in order | | outputs, in order | |
/// |---|---|---|---|
/// | x | `[rows, cols]` | y | `[rows, cols]` |
/// | weight, if given | `[cols]`, F32 | status | `[rows]`, S32 |
/// | bias, if given | `[cols]`, F32 | | |
///
/// The program depends on whether the options have a weight and a bias, not on their values. The weight and bias inputs
/// must be finite.
///
/// # Errors
/// The errors of [`softmax`](super::softmax::program).
pub fn program(dtype: DType, rows: usize, cols: usize, options: &LayerNorm<'_>) -> Result<Program> {
    options.check(OP)?;
    let of = Matrix::new(OP, dtype, rows, cols)?;
    let mut g = Graph::default();
    let x = g.parameter(of.dtype, &of.dims());
    let [weight, bias] = [options.weight, options.bias]
        .map(|operand| operand.map(|_| g.parameter(ElementType::F32, &[cols])).map(|v| g.in_each_row(v, rows)));
    let x = g.in_f32(x);
    let finite = is_finite(&mut g, x);
    let spoilt = spoils(&mut g, x, finite);
    let x = g.select_or(finite, x, 0.0);

    let largest = range_scaling::largest(&mut g, x);
    let is_high = g.is(largest, Comparison::Ge, HIGH);
    let (down, one) = (g.f32(DOWN), g.f32(1.0));
    let factor = g.select(is_high, down, one);
    let mut centred = g.multiply(x, factor);
    // Centre twice: the second pass removes the rounding error of the first mean.
    for _ in 0..2 {
        centred = centre(&mut g, centred, cols);
    }
    let root_eps = g.f32(range_scaling::root_eps(OP, options.eps)?);
    let root_eps = g.multiply(factor, root_eps);
    let mut y = range_scaling::normalise(&mut g, centred, root_eps, cols);
    if let Some(weight) = weight {
        y = g.multiply(y, weight);
    }
    if let Some(bias) = bias {
        y = g.add(y, bias);
    }
    let y = g.convert(y, of.dtype);
    g.output(y);
    let status = g.largest(spoilt);
    output_status(&mut g, status);
    Program::new(OP, of.name(OP), g)
}

fn centre(g: &mut Graph, x: Value, cols: usize) -> Value {
    let sum = g.sum(x);
    let count = g.f32(cols as f32);
    let mean = g.divide(sum, count);
    g.subtract(x, mean)
}

/// Computes [`layer_norm`](crate::layer_norm()) on a device, except for the rows that the device leaves to the host.
///
/// # Errors
/// The errors of [`program`], the op and the device; [`Error::InvalidArgument`](crate::Error::InvalidArgument) for a
/// weight or bias that is not finite.
pub fn run<E: Element>(device: &impl Execute, x: Rows<'_, E>, options: &LayerNorm<'_>) -> Result<Vec<E>> {
    if scores::is_empty(&x) {
        return crate::layer_norm(x, options);
    }
    let (rows, cols) = (x.rows(), x.cols());
    let weight = one_a_column(OP, "weight", options.weight, (cols, 0.0))?;
    let bias = one_a_column(OP, "bias", options.bias, (cols, 0.0))?;
    let [weight, bias] = [weight, bias].map(|operand| operand.as_deref().map(execute::to_bytes));
    let program = program(E::DTYPE, rows, cols, options)?;
    let inputs = [Some(&execute::rows_to_bytes(x)[..]), weight.as_deref(), bias.as_deref()];
    let [y, status] = execute::run(device, &program, &inputs)?;
    let mut y: Vec<E> = execute::elements(&y);
    execute::finish(OP, &status, |row| {
        let made = crate::layer_norm(Rows::new(x.row(row), 1, cols)?, options)?;
        y[row * cols..][..cols].copy_from_slice(&made);
        Ok(())
    })?;
    Ok(y)
}
