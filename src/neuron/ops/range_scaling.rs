//! Normalisation of rows by their root mean square. Rows are first scaled by powers of two, so that no square overflows
//! and devices support the argument of the root.

#![forbid(unsafe_code)]

use super::narrow;
use crate::error::Result;
use crate::neuron::graph::{Comparison, Graph, Value};

/// Pairs of exponents (from, factor). To scale a row, find the first pair for which 2^from is at most the row's largest
/// magnitude, and multiply the row by this pair's 2^factor. If there is no such pair, multiply the row by 2^`LOWEST`.
/// The largest magnitude of a scaled nonzero row is from 2^-22 to 2^42.
const RUNGS: [(i32, i32); 4] = [(84, -106), (42, -63), (-21, 0), (-84, 63)];
const LOWEST: i32 = 126;

fn power(exponent: i32) -> f32 {
    f32::from_bits(((exponent + 127) as u32) << 23)
}

/// Returns the scale factor of a row whose largest magnitude is `largest`.
pub fn factor(largest: f32) -> f32 {
    let rung = RUNGS.iter().find(|(from, _)| largest >= power(*from));
    power(rung.map_or(LOWEST, |(_, factor)| *factor))
}

/// Adds nodes that compute the [`factor`] of each row.
pub fn factors(g: &mut Graph, largest: Value) -> Value {
    let lowest = g.f32(power(LOWEST));
    RUNGS.iter().rev().fold(lowest, |below, (from, factor)| {
        let is_above = g.is(largest, Comparison::Ge, power(*from));
        let factor = g.f32(power(*factor));
        g.select(is_above, factor, below)
    })
}

/// Adds nodes that compute the largest magnitude of each row.
pub fn largest(g: &mut Graph, x: Value) -> Value {
    let magnitude = g.abs(x);
    g.largest(magnitude)
}

/// Returns the square root of eps as f32. A root below the normal f32 range becomes 0, because it does not affect
/// results.
pub fn root_eps(op: &'static str, eps: f64) -> Result<f32> {
    let root = eps.sqrt();
    if root < f64::from(f32::MIN_POSITIVE) { Ok(0.0) } else { narrow(op, "eps", root) }
}

/// Adds nodes that compute `x / sqrt(mean(x^2) + root_eps^2)` of finite rows. `root_eps` is a scalar or one value for
/// each row.
pub fn normalise(g: &mut Graph, x: Value, root_eps: Value, cols: usize) -> Value {
    let largest = largest(g, x);
    // One factor scales the row and `root_eps`. The larger of `largest` and `root_eps` determines the factor, so no
    // square overflows. The squares of the smaller one may underflow, but only where they are negligible.
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
    // For a row of zeros with eps = 0, the mean is 0. Clamping brings the mean into the range that `rsqrt` supports.
    let mean = g.clamp(mean, power(-87), power(97));
    let root = g.rsqrt(mean);
    g.multiply(y, root)
}
