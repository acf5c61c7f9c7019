//! The exact results of a case's first rows.

use crate::check::Exact;
use crate::float::Float;
use crate::ops::{Op, Results};
use crate::plan::checked;
use crate::problem::Problem;

pub fn exact<O: Op, E: Float>(problem: &Problem<E>) -> Exact {
    let rows = 0..checked::<O>(problem.shape);
    Exact {
        op: O::BOUND,
        values: rows.flat_map(|row| O::exact(problem, row)).collect(),
        cols: if O::RESULTS == Results::Elements { problem.cols() } else { 1 },
        sums_to_one: O::SUMS_TO_ONE,
    }
}
