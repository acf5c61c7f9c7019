//! Errors along an axis: of Evenkeel and of the formula in the type, the largest of each stretch of inputs, of a row of
//! each length, or of a tensor of each magnitude.

mod elements;
mod rows;
mod tensors;

use evenkeel::reference::Real;
use evenkeel::testing::ulp;
use evenkeel::{Element, Result};

/// The errors of one storage type.
pub struct Curves {
    /// What is on the x axis.
    pub axis: &'static str,
    /// Whether it is logarithmic.
    pub is_log: bool,
    /// Evenkeel's largest errors.
    pub ours: Vec<(f64, f64)>,
    /// Those of the formula in the type.
    pub naive: Vec<(f64, f64)>,
}

/// The curves of an op.
pub fn curves<E: Element>(op: &str) -> Option<Curves> {
    elements::curves::<E>(op).or_else(|| rows::curves::<E>(op)).or_else(|| tensors::curves::<E>(op))
}

/// What an op and its formula make of the input at one place of the axis.
struct Case<E: Element> {
    exact: Vec<E::Exact>,
    /// What the ULP is taken of where a result is smaller.
    terms: Vec<f64>,
    ours: Vec<E>,
    naive: Vec<E>,
}

impl<E: Element> Case<E> {
    /// In ULP of the results.
    fn new(exact: Vec<E::Exact>, ours: Result<Vec<E>>, naive: Vec<E>) -> Self {
        let ours = ours.expect("arguments that fit");
        assert_eq!((exact.len(), exact.len()), (ours.len(), naive.len()), "each has its truth");
        Case { terms: vec![0.0; exact.len()], exact, ours, naive }
    }

    /// In ULP of the larger of each result and its term.
    fn beside(self, term: impl Fn(usize) -> f64) -> Self {
        Case { terms: (0..self.exact.len()).map(term).collect(), ..self }
    }

    /// The largest error of these results.
    fn worst(&self, results: &[E]) -> f64 {
        let error =
            |(i, &y): (usize, &E)| ulp::error_at(y, self.exact[i], ulp::toward_zero(self.exact[i]).max(self.terms[i]));
        results.iter().enumerate().map(error).fold(0.0, f64::max)
    }
}

impl Curves {
    /// Cases by their place on an axis. Those with a result that is not finite, as it should be, are left out.
    fn new<E: Element>(axis: &'static str, is_log: bool, cases: impl Iterator<Item = (f64, Case<E>)>) -> Self {
        let mut curves = Curves { axis, is_log, ours: Vec::new(), naive: Vec::new() };
        for (place, case) in cases.filter(|(_, case)| case.exact.iter().all(|y| y.to_f64().is_finite())) {
            curves.ours.push((place, case.worst(&case.ours)));
            curves.naive.push((place, case.worst(&case.naive)));
        }
        curves
    }
}
