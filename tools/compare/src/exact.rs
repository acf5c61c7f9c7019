//! Exact results, and the errors of the contenders' results.

use crate::float::Float;
use crate::ops::{Op, Results};
use crate::plan::checked;
use crate::problem::Problem;
use evenkeel::Element;
use evenkeel::accuracy::{self, Unit};
use evenkeel::testing::ulp;
use serde::{Deserialize, Serialize};

/// Errors of the checked rows.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Errors {
    /// Largest error, in ULP of the storage type. `None` if a result is wrongly NaN or infinite, or if a drawn token is
    /// not allowed.
    pub worst: Option<f64>,
    pub median: Option<f64>,
    /// Largest deviation of a row's sum from 1, for ops whose rows sum to 1.
    pub row_sum: Option<f64>,
}

/// Exact results of a case's first rows.
pub struct Exact {
    rows: Vec<Vec<f64>>,
    results: Results,
    cols: usize,
    of: &'static str,
    sums_to_one: bool,
}

impl Exact {
    pub fn of<O: Op, E: Float>(problem: &Problem<E>) -> Self {
        Exact {
            rows: (0..checked::<O>(problem.shape)).map(|row| O::exact(problem, row)).collect(),
            results: O::RESULTS,
            cols: O::RESULTS.of_row(problem.cols()),
            of: O::BOUND,
            sums_to_one: O::SUMS_TO_ONE,
        }
    }

    pub fn errors<E: Float>(&self, got: &[E]) -> Errors {
        let rows = got.chunks(self.cols).zip(&self.rows);
        let mut errors: Vec<f64> = rows.flat_map(|(got, exact)| self.row(got, exact)).collect();
        errors.sort_by(f64::total_cmp);
        let finite = |error: Option<&f64>| error.copied().filter(|error| error.is_finite());
        Errors {
            worst: finite(errors.last()),
            median: finite(errors.get(errors.len() / 2)),
            row_sum: self.sums_to_one.then(|| row_sum(got, self.cols)).filter(|off| off.is_finite()),
        }
    }

    fn row<E: Float>(&self, got: &[E], exact: &[f64]) -> Vec<f64> {
        if self.results == Results::Tokens {
            return vec![if exact.contains(&got[0].widen()) { 0.0 } else { f64::INFINITY }];
        }
        let unit = accuracy::bound(self.of, <E as Element>::DTYPE).map_or(Unit::Result, |bound| bound.unit);
        let largest = exact.iter().filter(|x| x.is_finite()).fold(0.0, |m: f64, x| m.max(x.abs()));
        let error = |(&got, &exact): (&E, &f64)| match unit {
            Unit::LargestTerm => ulp::error_at(got, exact, largest),
            _ => ulp::error(got, exact),
        };
        got.iter().zip(exact).map(error).collect()
    }
}

fn row_sum<E: Float>(got: &[E], cols: usize) -> f64 {
    let off = |row: &[E]| (row.iter().map(|y| y.widen()).sum::<f64>() - 1.0).abs();
    // `total_cmp` orders NaN as the largest deviation.
    got.chunks(cols).map(off).max_by(f64::total_cmp).unwrap_or(0.0)
}
