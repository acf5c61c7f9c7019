//! Log-sum-exp on a Neuron device.

#![forbid(unsafe_code)]

use super::output_status;
use super::scores::{self, Logits, MaskedLogits};
use crate::element::{DType, Element};
use crate::error::Result;
use crate::neuron::execute::Execute;
use crate::neuron::graph::Graph;
use crate::neuron::program::{Matrix, Program};
use crate::ops::softmax::Softmax;
use crate::rows::Rows;

const OP: &str = "logsumexp";

/// Returns the program of [`logsumexp`](crate::logsumexp()). Inputs and errors are as for
/// [`softmax`](super::softmax::program). The outputs are a result and a status for each row.
pub fn program(dtype: DType, rows: usize, cols: usize, options: &Softmax<'_>) -> Result<Program> {
    let of = Matrix::new(OP, dtype, rows, cols)?;
    let mut g = Graph::default();
    let scores = MaskedLogits::new(&mut g, of, &Logits::of(OP, options)?);
    let half_distance = scores.half_distance(&mut g);
    let exponentials = scores.exponentials(&mut g, half_distance);
    let log_sum = scores.log_sum(&mut g, exponentials);
    let y = g.add(scores.max, log_sum);
    let y = g.convert(y, of.dtype);
    g.output(y);
    output_status(&mut g, scores.status);
    Program::new(OP, of.name(OP), g)
}

/// Computes [`logsumexp`](crate::logsumexp()) on a device, except for the rows that the device leaves to the host.
///
/// # Errors
/// The errors of [`program`], the op and the device.
pub fn run<E: Element>(device: &impl Execute, x: Rows<'_, E>, options: &Softmax<'_>) -> Result<Vec<E>> {
    if scores::is_empty(&x) {
        return crate::logsumexp(x, options);
    }
    let program = program(E::DTYPE, x.rows(), x.cols(), options)?;
    scores::run(OP, device, x, options, (program, 1), |row, options| crate::logsumexp(row, options))
}
