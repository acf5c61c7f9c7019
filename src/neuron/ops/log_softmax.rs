//! Log-softmax on a Neuron device.

#![forbid(unsafe_code)]

use super::output_status;
use super::scores::{self, Logits, MaskedLogits};
use crate::element::{DType, Element};
use crate::error::Result;
use crate::mask::FullyMasked;
use crate::math::power::log;
use crate::neuron::execute::Execute;
use crate::neuron::graph::Graph;
use crate::neuron::program::{Matrix, Program};
use crate::ops::softmax::Softmax;
use crate::rows::Rows;

const OP: &str = "log_softmax";

/// Returns the program of [`log_softmax`](crate::log_softmax()). Inputs, outputs and errors are as for
/// [`softmax`](super::softmax::program).
///
/// The program computes half of each result, so that nothing overflows, and doubles it last. For a masked element, the
/// half is the lowest finite f32 number, which doubles to -inf, the correct result.
pub fn program(dtype: DType, rows: usize, cols: usize, options: &Softmax<'_>) -> Result<Program> {
    let of = Matrix::new(OP, dtype, rows, cols)?;
    let mut g = Graph::default();
    let scores = MaskedLogits::new(&mut g, of, &Logits::of(OP, options)?);
    let half_distance = scores.half_distance(&mut g);
    let exponentials = scores.exponentials(&mut g, half_distance);
    let log_sum = scores.log_sum(&mut g, exponentials);
    let half_log_sum = g.times(log_sum, 0.5);
    let half = g.subtract(half_distance, half_log_sum);
    let mut half = g.select_or(scores.is_live, half, f32::MIN);
    if options.fully_masked == FullyMasked::Uniform {
        half = g.select_or(scores.has_live, half, (-0.5 * log(cols.max(1) as f64).0) as f32);
    }
    let y = g.times(half, 2.0);
    let y = g.convert(y, of.dtype);
    g.output(y);
    output_status(&mut g, scores.status);
    Program::new(OP, of.name(OP), g)
}

/// Computes [`log_softmax`](crate::log_softmax()) on a device, except for the rows that the device leaves to the host.
///
/// # Errors
/// The errors of [`program`], the op and the device.
pub fn run<E: Element>(device: &impl Execute, x: Rows<'_, E>, options: &Softmax<'_>) -> Result<Vec<E>> {
    if scores::is_empty(&x) {
        return crate::log_softmax(x, options);
    }
    let program = program(E::DTYPE, x.rows(), x.cols(), options)?;
    scores::run(OP, device, x, options, (program, x.cols()), |row, options| crate::log_softmax(row, options))
}
