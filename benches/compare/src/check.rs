//! How far results are off.

use crate::float::Float;
use evenkeel::Element;
use evenkeel::accuracy::{self, Of};
use evenkeel::testing::ulp;
use serde::{Deserialize, Serialize};

/// Of the rows that were looked at.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Errors {
    /// In ULP of the storage type; none where a NaN or an infinity stands for a number.
    pub worst: Option<f64>,
    pub median: Option<f64>,
    /// The farthest that a row's sum is from 1, of ops whose rows sum to 1.
    pub row_sum: Option<f64>,
}

/// What results are held against.
pub struct Exact {
    /// As accuracy bounds name it: decides what the ULP is taken of.
    pub op: &'static str,
    pub values: Vec<f64>,
    /// How many results make a row.
    pub cols: usize,
    pub sums_to_one: bool,
}

impl Exact {
    pub fn errors<E: Float>(&self, got: &[E]) -> Errors {
        let of = accuracy::bound(self.op, <E as Element>::DTYPE).map_or(Of::Result, |bound| bound.of);
        let mut errors: Vec<f64> = Vec::with_capacity(got.len());
        for (got, exact) in got.chunks(self.cols).zip(self.values.chunks(self.cols)) {
            let largest = exact.iter().filter(|x| x.is_finite()).fold(0.0, |m: f64, x| m.max(x.abs()));
            errors.extend(got.iter().zip(exact).map(|(&got, &exact)| match of {
                Of::Result => ulp::error(got, exact),
                Of::LargestTerm => ulp::error_at(got, exact, largest),
            }));
        }
        errors.sort_by(f64::total_cmp);
        let finite = |error: Option<&f64>| error.copied().filter(|error| error.is_finite());
        Errors {
            worst: finite(errors.last()),
            median: finite(errors.get(errors.len() / 2)),
            row_sum: self.sums_to_one.then(|| row_sum(got, self.cols)).filter(|off| off.is_finite()),
        }
    }
}

fn row_sum<E: Float>(got: &[E], cols: usize) -> f64 {
    let off = |row: &[E]| (row.iter().map(|y| y.widen()).sum::<f64>() - 1.0).abs();
    // NaN is the farthest.
    got.chunks(cols).map(off).max_by(f64::total_cmp).unwrap_or(0.0)
}
