//! Softmax on a Neuron device.

#![forbid(unsafe_code)]

use super::output_status;
use super::scores::{self, Logits, MaskedLogits};
use crate::element::{DType, Element};
use crate::error::Result;
use crate::mask::FullyMasked;
use crate::neuron::execute::Execute;
use crate::neuron::graph::Graph;
use crate::neuron::program::{Matrix, Program};
use crate::ops::softmax::Softmax;
use crate::rows::Rows;

const OP: &str = "softmax";

/// Returns the program of [`softmax`](crate::softmax()). The program depends on which parts the mask has, not on the
/// values in these parts. Flags, lengths, causality and the window are combined into the keep flags; biases are added
/// up.
///
/// | inputs, in order | | outputs, in order | |
/// |---|---|---|---|
/// | scores | `[rows, cols]` | y | `[rows, cols]` |
/// | keep flags, if any | `[rows, cols]`, U8 | status | `[rows]`, S32 |
/// | bias, if any | `[rows, cols]`, F32 | | |
///
/// Fully masked rows give zeros, or 1/n under [`FullyMasked::Uniform`]. Scale and softcap are rounded to f32, and
/// logits are computed in f32.
///
/// # Errors
/// [`Error::UnsupportedDType`](crate::Error::UnsupportedDType) for f64, [`Error::EmptyInput`](crate::Error::EmptyInput)
/// for no elements, [`Error::InvalidArgument`](crate::Error::InvalidArgument) for invalid options or too many elements.
///
/// ```
/// use evenkeel::{DType, Softmax, neuron};
/// let program = neuron::softmax(DType::BF16, 8, 1024, &Softmax::default())?;
/// assert_eq!(program.name(), "softmax_bf16_8x1024");
/// assert_eq!(program.outputs().len(), 2);
/// # Ok::<(), evenkeel::Error>(())
/// ```
pub fn program(dtype: DType, rows: usize, cols: usize, options: &Softmax<'_>) -> Result<Program> {
    let of = Matrix::new(OP, dtype, rows, cols)?;
    let mut g = Graph::default();
    let scores = MaskedLogits::new(&mut g, of, &Logits::of(OP, options)?);
    let half_distance = scores.half_distance(&mut g);
    let exponentials = scores.exponentials(&mut g, half_distance);
    let sum = g.sum(exponentials);
    // Avoid a division by 0: the sum of a fully masked row is 0. Any other sum is at least 1, and stays as it is.
    let half = g.f32(0.5);
    let sum = g.maximum(sum, half);
    let mut y = g.divide(exponentials, sum);
    if options.fully_masked == FullyMasked::Uniform {
        y = g.select_or(scores.has_live, y, 1.0 / cols as f32);
    }
    let y = g.convert(y, of.dtype);
    g.output(y);
    output_status(&mut g, scores.status);
    Program::new(OP, of.name(OP), g)
}

/// Computes [`softmax`](crate::softmax()) on a device, except for the rows that the device leaves to the host.
///
/// # Errors
/// The errors of [`program`], the op and the device.
pub fn run<E: Element>(device: &impl Execute, x: Rows<'_, E>, options: &Softmax<'_>) -> Result<Vec<E>> {
    if scores::is_empty(&x) {
        return crate::softmax(x, options);
    }
    let program = program(E::DTYPE, x.rows(), x.cols(), options)?;
    scores::run(OP, device, x, options, (program, x.cols()), |row, options| crate::softmax(row, options))
}
