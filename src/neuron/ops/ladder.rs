//! Rows divided by their root mean square, by way of powers of two that keep squares and the root's argument in range.

#![forbid(unsafe_code)]

use super::narrow;
use crate::error::Result;
use crate::neuron::graph::{Comparison, Graph, Value};

/// From this size on, rows are multiplied by this: 2^-22 to 2^42 comes of the largest of a row, 2^126 and below.
const RUNGS: [(i32, i32); 4] = [(84, -106), (42, -63), (-21, 0), (-84, 63)];
const LOWEST: i32 = 126;

fn power(exponent: i32) -> f32 {
    f32::from_bits(((exponent + 127) as u32) << 23)
}

/// The factor of a row whose largest magnitude is this.
pub fn factor(largest: f32) -> f32 {
    let rung = RUNGS.iter().find(|(from, _)| largest >= power(*from));
    power(rung.map_or(LOWEST, |(_, factor)| *factor))
}

/// [`factor`] of each row.
pub fn factors(g: &mut Graph, largest: Value) -> Value {
    let lowest = g.f32(power(LOWEST));
    RUNGS.iter().rev().fold(lowest, |below, (from, factor)| {
        let is_above = g.is(largest, Comparison::Ge, power(*from));
        let factor = g.f32(power(*factor));
        g.select(is_above, factor, below)
    })
}

/// The largest magnitude of each row.
pub fn largest(g: &mut Graph, x: Value) -> Value {
    let magnitude = g.abs(x);
    g.largest(magnitude)
}

/// The root of eps; 0 where it is below all normal f32, to which nothing is added that shows.
pub fn root_eps(op: &'static str, eps: f64) -> Result<f32> {
    let root = eps.sqrt();
    if root < f64::from(f32::MIN_POSITIVE) { Ok(0.0) } else { narrow(op, "eps", root) }
}

/// x / sqrt(mean(x^2) + root_eps^2) of finite rows; `root_eps` is one number, or one a row.
pub fn normalise(g: &mut Graph, x: Value, root_eps: Value, cols: usize) -> Value {
    let largest = largest(g, x);
    // Both squares are in range then, and what vanishes of the smaller does not show.
    let larger = g.maximum(largest, root_eps);
    let factor = factors(g, larger);
    let y = g.multiply(x, factor);
    let squares = g.multiply(y, y);
    let sum = g.sum(squares);
    let count = g.f32(cols as f32);
    let mean = g.divide(sum, count);
    let root_eps = g.multiply(factor, root_eps);
    let eps = g.multiply(root_eps, root_eps);
    let mean = g.add(mean, eps);
    // Of zeros without eps.
    let mean = g.clamp(mean, power(-87), power(97));
    let root = g.rsqrt(mean);
    g.multiply(y, root)
}
