//! Root-mean-square normalisation on a Neuron device, alone or fused with a residual addition.

#![forbid(unsafe_code)]

use super::{is_finite, one_a_column, output_status, range_scaling, scores, spoils};
use crate::element::{DType, Element};
use crate::error::Result;
use crate::neuron::execute::{self, Execute};
use crate::neuron::graph::{Comparison, Graph, Value};
use crate::neuron::program::{ElementType, Matrix, Program};
use crate::ops::rms_norm::{RmsNorm, Rounding};
use crate::rows::Rows;

const OP: &str = "rms_norm";
const FUSED: &str = "rms_norm_residual";

/// Returns the program of [`rms_norm`](crate::rms_norm()).
///
/// | inputs, in order | | outputs, in order | |
/// |---|---|---|---|
/// | x | `[rows, cols]` | y | `[rows, cols]` |
/// | weight + weight_offset, if a weight is given | `[cols]`, F32 | status | `[rows]`, S32 |
///
/// The program depends on whether the options have a weight, not on the weight's values. The weight input must be
/// finite.
///
/// # Errors
/// The errors of [`softmax`](super::softmax::program).
pub fn program(dtype: DType, rows: usize, cols: usize, options: &RmsNorm<'_>) -> Result<Program> {
    options.check(OP)?;
    let of = Matrix::new(OP, dtype, rows, cols)?;
    let mut g = Graph::default();
    let x = g.parameter(of.dtype, &of.dims());
    let x = g.in_f32(x);
    let finite = is_finite(&mut g, x);
    let spoilt = spoils(&mut g, x, finite);
    let x = g.select_or(finite, x, 0.0);
    let y = norm(&mut g, x, of, options)?;
    g.output(y);
    let status = g.largest(spoilt);
    output_status(&mut g, status);
    Program::new(OP, of.name(OP), g)
}

/// Returns the program of [`rms_norm_residual`](crate::rms_norm_residual()). It differs from [`program`] in two ways:
/// the second input is the residual, with the shape of x, and the second output is the sum of x and the residual.
///
/// # Errors
/// The errors of [`program`].
pub fn residual_program(dtype: DType, rows: usize, cols: usize, options: &RmsNorm<'_>) -> Result<Program> {
    options.check(FUSED)?;
    let of = Matrix::new(FUSED, dtype, rows, cols)?;
    let mut g = Graph::default();
    let [x, residual] = [0; 2].map(|_| g.parameter(of.dtype, &of.dims()));
    let mut spoilt = Vec::new();
    let mut finite = |g: &mut Graph, x: Value| {
        let x = g.in_f32(x);
        let finite = is_finite(g, x);
        spoilt.push(spoils(g, x, finite));
        g.select_or(finite, x, 0.0)
    };
    let (x, residual) = (finite(&mut g, x), finite(&mut g, residual));
    let sum = g.add(x, residual);
    let stored = g.convert(sum, of.dtype);
    let rounded = g.in_f32(stored);
    // A sum that rounds to infinity is left to the host, like an infinite input.
    let magnitude = g.abs(sum);
    let fits = g.is(magnitude, Comparison::Le, largest_stored(of.dtype));
    let (zero, two) = (g.f32(0.0), g.f32(2.0));
    spoilt.push(g.select(fits, zero, two));
    let rounded = g.select(fits, rounded, zero);
    let y = norm(&mut g, rounded, of, options)?;
    g.output(y);
    g.output(stored);
    let worst = spoilt.into_iter().reduce(|a, b| g.maximum(a, b)).unwrap_or(zero);
    let status = g.largest(worst);
    output_status(&mut g, status);
    Program::new(FUSED, of.name(FUSED), g)
}

/// Returns the largest f32 number that rounds to a finite number of a type.
fn largest_stored(dtype: ElementType) -> f32 {
    match dtype {
        ElementType::F16 => 65520f32.next_down(),
        ElementType::BF16 => f32::from_bits(0x7f7f_7fff),
        _ => f32::MAX,
    }
}

fn norm(g: &mut Graph, x: Value, of: Matrix, options: &RmsNorm<'_>) -> Result<Value> {
    let weight = options.weight.map(|_| g.parameter(ElementType::F32, &[of.cols]));
    let root_eps = g.f32(range_scaling::root_eps(OP, options.eps)?);
    let mut y = range_scaling::normalise(g, x, root_eps, of.cols);
    if let Some(weight) = weight {
        if options.rounding == Rounding::BeforeWeight {
            y = g.convert(y, of.dtype);
            y = g.in_f32(y);
        }
        let weight = g.in_each_row(weight, of.rows);
        y = g.multiply(y, weight);
    }
    Ok(g.convert(y, of.dtype))
}

/// Computes [`rms_norm`](crate::rms_norm()) on a device, except for the rows that the device leaves to the host.
///
/// # Errors
/// The errors of [`program`], the op and the device; [`Error::InvalidArgument`](crate::Error::InvalidArgument) for a
/// weight that is not finite.
pub fn run<E: Element>(device: &impl Execute, x: Rows<'_, E>, options: &RmsNorm<'_>) -> Result<Vec<E>> {
    if scores::is_empty(&x) {
        return crate::rms_norm(x, options);
    }
    let (rows, cols) = (x.rows(), x.cols());
    let weight = one_a_column(OP, "weight", options.weight, (cols, options.weight_offset))?;
    let weight = weight.as_deref().map(execute::to_bytes);
    let program = program(E::DTYPE, rows, cols, options)?;
    let inputs = [Some(&execute::rows_to_bytes(x)[..]), weight.as_deref()];
    let [y, status] = execute::run(device, &program, &inputs)?;
    let mut y: Vec<E> = execute::elements(&y);
    execute::finish(OP, &status, |row| {
        let made = crate::rms_norm(Rows::new(x.row(row), 1, cols)?, options)?;
        y[row * cols..][..cols].copy_from_slice(&made);
        Ok(())
    })?;
    Ok(y)
}

/// Computes [`rms_norm_residual`](crate::rms_norm_residual()) on a device, except for the rows that the device leaves
/// to the host.
///
/// # Errors
/// The errors of [`run`]; [`Error::ShapeMismatch`](crate::Error::ShapeMismatch) if the residual does not have the shape
/// of x.
pub fn run_residual<E: Element>(
    device: &impl Execute,
    x: Rows<'_, E>,
    residual: Rows<'_, E>,
    options: &RmsNorm<'_>,
) -> Result<(Vec<E>, Vec<E>)> {
    let (rows, cols) = (x.rows(), x.cols());
    if scores::is_empty(&x) || (residual.rows(), residual.cols()) != (rows, cols) {
        return crate::rms_norm_residual(x, residual, options);
    }
    let weight = one_a_column(FUSED, "weight", options.weight, (cols, options.weight_offset))?;
    let weight = weight.as_deref().map(execute::to_bytes);
    let program = residual_program(E::DTYPE, rows, cols, options)?;
    let operands = [x, residual].map(execute::rows_to_bytes);
    let inputs = [Some(&operands[0][..]), Some(&operands[1][..]), weight.as_deref()];
    let [y, sum, status] = execute::run(device, &program, &inputs)?;
    let (mut y, mut sum): (Vec<E>, Vec<E>) = (execute::elements(&y), execute::elements(&sum));
    execute::finish(FUSED, &status, |row| {
        let [x, residual] = [x, residual].map(|of| Rows::new(of.row(row), 1, cols));
        let made = crate::rms_norm_residual(x?, residual?, options)?;
        y[row * cols..][..cols].copy_from_slice(&made.0);
        sum[row * cols..][..cols].copy_from_slice(&made.1);
        Ok(())
    })?;
    Ok((y, sum))
}
