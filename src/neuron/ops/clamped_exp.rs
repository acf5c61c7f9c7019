//! Exponential of clamped numbers on a Neuron device.

#![forbid(unsafe_code)]

use super::{is_finite, output_status, scores, spoils};
use crate::element::{DType, Element};
use crate::error::Result;
use crate::neuron::execute::{self, Execute};
use crate::neuron::graph::{Comparison, Graph};
use crate::neuron::program::{Matrix, Program};
use crate::ops::clamped_exp::ClampedExp;
use crate::rows::Rows;

const OP: &str = "clamped_exp";

/// Returns the program of [`clamped_exp`](crate::clamped_exp()). Its input is x; its outputs are y of the same shape
/// and a status for each row. The limits of the clamp are rounded to f32.
///
/// # Errors
/// The errors of [`softmax`](super::softmax::program).
pub fn program(dtype: DType, rows: usize, cols: usize, options: &ClampedExp) -> Result<Program> {
    let of = Matrix::new(OP, dtype, rows, cols)?;
    let (min, max) = options.ends(OP, &dtype.limits())?;
    let [min, max] = [min, max].map(|end| end.clamp(f32::MIN.into(), f32::MAX.into()) as f32);
    let mut g = Graph::default();
    let x = g.parameter(of.dtype, &of.dims());
    let x = g.in_f32(x);
    let finite = is_finite(&mut g, x);
    let spoilt = spoils(&mut g, x, finite);
    // The device clamps infinities like other numbers. So the host needs to compute only rows that have a NaN.
    let is_nan = g.is(spoilt, Comparison::Gt, 2.0);
    let zero = g.f32(0.0);
    let number = g.select(is_nan, zero, x);
    let clamped = g.clamp(number, min, max);
    let y = g.exp(clamped);
    let y = g.convert(y, of.dtype);
    g.output(y);
    let lost = g.select_or(is_nan, spoilt, 0.0);
    let status = g.largest(lost);
    output_status(&mut g, status);
    Program::new(OP, of.name(OP), g)
}

/// Computes [`clamped_exp`](crate::clamped_exp()) on a device, except for the rows that the device leaves to the host.
///
/// # Errors
/// The errors of [`program`], the op and the device.
pub fn run<E: Element>(device: &impl Execute, x: Rows<'_, E>, options: &ClampedExp) -> Result<Vec<E>> {
    if scores::is_empty(&x) {
        return crate::clamped_exp(&[], options);
    }
    let program = program(E::DTYPE, x.rows(), x.cols(), options)?;
    let [y, status] = execute::run(device, &program, &[Some(&execute::rows_to_bytes(x))])?;
    let mut y: Vec<E> = execute::elements(&y);
    execute::finish(OP, &status, |row| {
        y[row * x.cols()..][..x.cols()].copy_from_slice(&crate::clamped_exp(x.row(row), options)?);
        Ok(())
    })?;
    Ok(y)
}
