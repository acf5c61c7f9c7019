//! Logarithm of numbers clamped to a positive floor, on a Neuron device.

#![forbid(unsafe_code)]

use super::{is_finite, output_status, scores, spoils};
use crate::element::{DType, Element};
use crate::error::Result;
use crate::neuron::execute::{self, Execute};
use crate::neuron::graph::{Comparison, Graph};
use crate::neuron::program::{Matrix, Program};
use crate::ops::clamped_log::ClampedLog;
use crate::rows::Rows;

const OP: &str = "clamped_log";

/// Largest and smallest argument that a device's logarithm supports: 2^64 and 2^-64.
const HIGH: f32 = (1u128 << 64) as f32;
const LOW: f32 = 1.0 / HIGH;
/// ln 2^64, which corrects the logarithm of an argument that was scaled by 2^64 or 2^-64.
const SHIFT: f32 = (64.0 * std::f64::consts::LN_2) as f32;

/// Returns the program of [`clamped_log`](crate::clamped_log()). Its input is x; its outputs are y of the same shape
/// and a status for each row. The floor is rounded to f32, and is at least the smallest normal f32 number.
///
/// # Errors
/// The errors of [`softmax`](super::softmax::program).
pub fn program(dtype: DType, rows: usize, cols: usize, options: &ClampedLog) -> Result<Program> {
    let of = Matrix::new(OP, dtype, rows, cols)?;
    let floor = options.checked(OP, &dtype.limits())?;
    let floor = floor.clamp(f32::MIN_POSITIVE.into(), f32::MAX.into()) as f32;
    let mut g = Graph::default();
    let x = g.parameter(of.dtype, &of.dims());
    let x = g.in_f32(x);
    let finite = is_finite(&mut g, x);
    let spoilt = spoils(&mut g, x, finite);
    // -inf is below the floor, like any other negative number.
    let is_low = g.is(x, Comparison::Lt, floor);
    let floor = g.f32(floor);
    let x = g.select(finite, x, floor);
    let x = g.select(is_low, floor, x);

    let (is_high, is_small) = (g.is(x, Comparison::Ge, HIGH), g.is(x, Comparison::Lt, LOW));
    let [high, low, one, zero] = [HIGH, LOW, 1.0, 0.0].map(|v| g.f32(v));
    let factor = g.select(is_small, high, one);
    let factor = g.select(is_high, low, factor);
    let scaled = g.multiply(x, factor);
    let log = g.log(scaled);
    let [up, down] = [SHIFT, -SHIFT].map(|v| g.f32(v));
    let shift = g.select(is_small, down, zero);
    let shift = g.select(is_high, up, shift);
    let y = g.add(log, shift);
    let y = g.convert(y, of.dtype);
    g.output(y);
    let lost = g.select(is_low, zero, spoilt);
    let status = g.largest(lost);
    output_status(&mut g, status);
    Program::new(OP, of.name(OP), g)
}

/// Computes [`clamped_log`](crate::clamped_log()) on a device, except for the rows that the device leaves to the host.
///
/// # Errors
/// The errors of [`program`], the op and the device.
pub fn run<E: Element>(device: &impl Execute, x: Rows<'_, E>, options: &ClampedLog) -> Result<Vec<E>> {
    if scores::is_empty(&x) {
        return crate::clamped_log(&[], options);
    }
    let program = program(E::DTYPE, x.rows(), x.cols(), options)?;
    let [y, status] = execute::run(device, &program, &[Some(&execute::rows_to_bytes(x))])?;
    let mut y: Vec<E> = execute::elements(&y);
    execute::finish(OP, &status, |row| {
        y[row * x.cols()..][..x.cols()].copy_from_slice(&crate::clamped_log(x.row(row), options)?);
        Ok(())
    })?;
    Ok(y)
}
