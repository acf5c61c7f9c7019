//! Finiteness check and squared norm of a tensor on a Neuron device.

#![forbid(unsafe_code)]

use super::{is_finite, output_status, range_scaling, scores, spoils};
use crate::element::{DType, Element};
use crate::error::Result;
use crate::neuron::execute::{self, Execute, Status};
use crate::neuron::graph::Graph;
use crate::neuron::program::{Matrix, Program};
use crate::rows::Rows;

const OP: &str = "squared_norm";

/// Result of [`run`].
#[derive(Clone, Copy, Debug, PartialEq)]
#[allow(clippy::exhaustive_enums, reason = "a tensor is finite or not")]
pub enum SquaredNorm {
    /// Sum of all squares as f64, which cannot overflow for finite f32 numbers.
    Finite(f64),
    /// The tensor has a number that is not finite.
    NotFinite {
        /// Index of the first row that is not finite.
        row: usize,
        /// Status of this row: [`Status::Nan`] or [`Status::Infinite`].
        status: Status,
    },
}

/// Returns the program that sums the squares of a tensor, and checks whether the tensor is finite. Its input is x. It
/// has three outputs for each row: the largest magnitude and a scaled sum of squares, both in f32, and a status. Before
/// its elements are squared, a row is multiplied by a power of two that depends on its largest magnitude.
///
/// # Errors
/// The errors of [`softmax`](super::softmax::program).
pub fn program(dtype: DType, rows: usize, cols: usize) -> Result<Program> {
    let of = Matrix::new(OP, dtype, rows, cols)?;
    let mut g = Graph::default();
    let x = g.parameter(of.dtype, &of.dims());
    let x = g.in_f32(x);
    let finite = is_finite(&mut g, x);
    let spoilt = spoils(&mut g, x, finite);
    let x = g.select_or(finite, x, 0.0);
    let largest = range_scaling::largest(&mut g, x);
    let factors = range_scaling::factors(&mut g, largest);
    let y = g.multiply(x, factors);
    let squares = g.multiply(y, y);
    let sum = g.sum(squares);
    g.output(largest);
    g.output(sum);
    let status = g.largest(spoilt);
    output_status(&mut g, status);
    Program::new(OP, of.name(OP), g)
}

/// Checks on a device whether a tensor is finite and, if so, computes the sum of its squares. The host adds the sums of
/// the rows in f64.
///
/// # Errors
/// The errors of [`program`] and the device.
pub fn run<E: Element>(device: &impl Execute, x: Rows<'_, E>) -> Result<SquaredNorm> {
    if scores::is_empty(&x) {
        return Ok(SquaredNorm::Finite(0.0));
    }
    let program = program(E::DTYPE, x.rows(), x.cols())?;
    let [largest, sums, status] = execute::run(device, &program, &[Some(&execute::rows_to_bytes(x))])?;
    for (row, number) in execute::integers(&status).enumerate() {
        match Status::of(number)? {
            Status::Plain => (),
            status => return Ok(SquaredNorm::NotFinite { row, status }),
        }
    }
    let rows = execute::elements::<f32>(&largest).into_iter().zip(execute::elements::<f32>(&sums));
    let squares = rows.map(|(largest, sum)| {
        let factor = f64::from(range_scaling::factor(largest));
        f64::from(sum) / (factor * factor)
    });
    Ok(SquaredNorm::Finite(squares.sum()))
}
