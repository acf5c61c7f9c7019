//! The program of each op, and a function that runs the program on a device and computes the remaining rows on the
//! host.
//!
//! The last output of every program is a status for each row ([`Status`](super::Status)). Comparisons detect non-finite
//! numbers, which are replaced before any computation. A device therefore never computes with a NaN, so it does not
//! matter how a device's maximum treats NaN. If a row has non-finite numbers that the program does not support, the
//! host computes the row.

#![forbid(unsafe_code)]

pub mod clamped_exp;
pub mod clamped_log;
pub mod cross_entropy;
pub mod layer_norm;
pub mod log_softmax;
pub mod logsumexp;
mod range_scaling;
pub mod rms_norm;
pub mod sample;
mod scores;
pub mod softmax;
pub mod squared_norm;

use super::graph::{Comparison, Graph, Value};
use super::program::ElementType;
use crate::error::{Error, Result};
use crate::floats::Floats;

/// Returns a flag for each number: whether it is finite.
fn is_finite(g: &mut Graph, x: Value) -> Value {
    let magnitude = g.abs(x);
    g.is(magnitude, Comparison::Le, f32::MAX)
}

/// Returns the row status that each number implies: 2 if it is infinite, 3 if it is NaN, 0 otherwise.
fn spoils(g: &mut Graph, x: Value, is_finite: Value) -> Value {
    let magnitude = g.abs(x);
    let is_infinite = g.is(magnitude, Comparison::Gt, f32::MAX);
    let (two, zero) = (g.f32(2.0), g.f32(0.0));
    let lost = g.select_or(is_infinite, two, 3.0);
    g.select(is_finite, zero, lost)
}

/// Adds the row statuses as the last output. `status` holds them as f32.
fn output_status(g: &mut Graph, status: Value) {
    let status = g.convert(status, ElementType::S32);
    g.output(status);
}

/// Converts an option to f32, the type that devices use.
fn narrow(op: &'static str, argument: &'static str, value: f64) -> Result<f32> {
    let narrow = value as f32;
    if narrow.is_normal() || value == 0.0 {
        return Ok(narrow);
    }
    Err(Error::invalid(op, argument, value, "0 or a normal f32 number on Neuron devices"))
}

/// Converts an operand with one value for each column to f32. Values outside the range of f32 become the largest finite
/// f32 number of the same sign.
fn one_a_column(
    op: &'static str,
    argument: &'static str,
    values: Option<Floats<'_>>,
    (cols, offset): (usize, f64),
) -> Result<Option<Vec<f32>>> {
    let Some(values) = values else { return Ok(None) };
    if values.len() != cols {
        let expected = format!("one for each of {cols} columns");
        return Err(Error::shape(op, argument, format!("{} elements", values.len()), expected));
    }
    let number = |i: usize| {
        let value = values.get(i).unwrap_or(f64::NAN);
        if !value.is_finite() {
            return Err(Error::invalid(op, argument, format!("{value} at index {i}"), "finite on Neuron devices"));
        }
        Ok((value + offset).clamp(f32::MIN.into(), f32::MAX.into()) as f32)
    };
    (0..cols).map(number).collect::<Result<_>>().map(Some)
}
