//! Errors of Evenkeel, and of the naive formula computed in the storage type, for the points of a plot. Each point is
//! the largest error for one interval of inputs, one row length, or one magnitude of the elements.

mod elements;
mod rows;
mod tensors;

use evenkeel::reference::Real;
use evenkeel::testing::ulp;
use evenkeel::{Element, Result};

/// Errors for one storage type.
pub struct Curves {
    pub axis: &'static str,
    pub is_log: bool,
    /// Largest errors of Evenkeel.
    pub ours: Vec<(f64, f64)>,
    /// Largest errors of the naive formula in the storage type.
    pub naive: Vec<(f64, f64)>,
}

/// Returns the curves of an op, or `None` if it is unknown.
pub fn curves<E: Element>(op: &str) -> Option<Curves> {
    elements::curves::<E>(op).or_else(|| rows::curves::<E>(op)).or_else(|| tensors::curves::<E>(op))
}

/// Exact results, results of Evenkeel and results of the naive formula, at one point of the axis.
struct Case<E: Element> {
    exact: Vec<E::Exact>,
    /// One magnitude for each result. The unit of error is the ULP of the exact result or of this magnitude, whichever
    /// is larger.
    terms: Vec<f64>,
    ours: Vec<E>,
    naive: Vec<E>,
}

impl<E: Element> Case<E> {
    /// Creates a case whose errors are in ULP of the exact results.
    fn new(exact: Vec<E::Exact>, ours: Result<Vec<E>>, naive: Vec<E>) -> Self {
        let ours = ours.expect("the op must accept the arguments that the plot uses");
        assert_eq!(
            (exact.len(), exact.len()),
            (ours.len(), naive.len()),
            "Evenkeel and the naive formula must give as many results as the reference"
        );
        Case { terms: vec![0.0; exact.len()], exact, ours, naive }
    }

    /// Sets the unit of each error to the ULP of the exact result or of `term`, whichever is larger.
    fn beside(self, term: impl Fn(usize) -> f64) -> Self {
        Case { terms: (0..self.exact.len()).map(term).collect(), ..self }
    }

    /// Returns the largest error of `results`.
    fn worst(&self, results: &[E]) -> f64 {
        let error =
            |(i, &y): (usize, &E)| ulp::error_at(y, self.exact[i], ulp::toward_zero(self.exact[i]).max(self.terms[i]));
        results.iter().enumerate().map(error).fold(0.0, f64::max)
    }
}

impl Curves {
    /// Collects cases by their position on the axis. Cases whose exact results are not all finite are left out.
    fn new<E: Element>(axis: &'static str, is_log: bool, cases: impl Iterator<Item = (f64, Case<E>)>) -> Self {
        let mut curves = Curves { axis, is_log, ours: Vec::new(), naive: Vec::new() };
        for (place, case) in cases.filter(|(_, case)| case.exact.iter().all(|y| y.to_f64().is_finite())) {
            curves.ours.push((place, case.worst(&case.ours)));
            curves.naive.push((place, case.worst(&case.naive)));
        }
        curves
    }
}
