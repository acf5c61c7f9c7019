//! The programs of each op, and the op by them: what a device computes, and what it leaves to the host.
//!
//! Every program has a status for each row as its last output ([`Status`](super::Status)). Numbers that are not finite
//! are found by comparisons and put aside before anything is computed, so that a device never meets NaN, whatever its
//! maximum does with one; rows that have any are the host's.

#![forbid(unsafe_code)]

pub mod clamped_exp;
pub mod clamped_log;
pub mod cross_entropy;
mod ladder;
pub mod layer_norm;
pub mod log_softmax;
pub mod logsumexp;
pub mod rms_norm;
pub mod sample;
mod scores;
pub mod softmax;
pub mod squared_norm;

use super::graph::{Comparison, Graph, Value};
use super::program::ElementType;
use crate::error::{Error, Result};
use crate::floats::Floats;

/// Where numbers are finite.
fn is_finite(g: &mut Graph, x: Value) -> Value {
    let magnitude = g.abs(x);
    g.is(magnitude, Comparison::Le, f32::MAX)
}

/// For each number that is not finite what it makes of its row: 2 if it is infinite, 3 if it is NaN; else 0.
fn spoils(g: &mut Graph, x: Value, is_finite: Value) -> Value {
    let magnitude = g.abs(x);
    let is_infinite = g.is(magnitude, Comparison::Gt, f32::MAX);
    let (two, zero) = (g.f32(2.0), g.f32(0.0));
    let lost = g.select_or(is_infinite, two, 3.0);
    g.select(is_finite, zero, lost)
}

/// Writes the status of rows, in numbers that were computed as f32.
fn output_status(g: &mut Graph, status: Value) {
    let status = g.convert(status, ElementType::S32);
    g.output(status);
}

/// An option as devices have it, in f32.
fn narrow(op: &'static str, argument: &'static str, value: f64) -> Result<f32> {
    let narrow = value as f32;
    if narrow.is_normal() || value == 0.0 {
        return Ok(narrow);
    }
    Err(Error::invalid(op, argument, value, "0 or a normal number of f32 on Neuron devices"))
}

/// An operand with one value a column, as f32, the largest of those where it is beyond.
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
            return Err(Error::invalid(op, argument, format!("{value} at {i}"), "finite on Neuron devices"));
        }
        Ok((value + offset).clamp(f32::MIN.into(), f32::MAX.into()) as f32)
    };
    (0..cols).map(number).collect::<Result<_>>().map(Some)
}
