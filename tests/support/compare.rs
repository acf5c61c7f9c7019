//! Comparisons that say what differs where, and that nothing can slip through: each fails unless a value is within.

use super::ulp;
use evenkeel::reference::Real;
use evenkeel::{DType, Element, accuracy};
use std::cell::Cell;
use std::fmt::Write;

/// Checks results of one op in one storage type against the accuracy table, and tells the worst when it is dropped.
pub struct Checker {
    op: &'static str,
    dtype: DType,
    bound: f64,
    worst: Cell<f64>,
    results: Cell<usize>,
}

impl Checker {
    /// With the bound that the table promises.
    pub fn new<E: Element>(op: &'static str) -> Self {
        let bound = accuracy::bound(op, E::DTYPE).unwrap_or_else(|| panic!("{op} in {} has no bound", E::DTYPE));
        Checker { op, dtype: E::DTYPE, bound: bound.ulps, worst: Cell::default(), results: Cell::default() }
    }

    /// The bound, in ULPs.
    pub fn bound(&self) -> f64 {
        self.bound
    }

    /// Fails unless every result is within the bound, in ULPs of itself. `input` has the results' length or is shown
    /// by nothing but its length.
    #[track_caller]
    pub fn check<E: Element>(&self, what: &str, input: &[E], got: &[E], exact: &[E::Exact]) {
        self.settle(within(what, input, got, exact, self.bound), got.len());
    }

    /// As [`Checker::check`], in ULPs at the largest of each result and the terms that it is the sum of.
    #[track_caller]
    pub fn check_terms<E: Element>(
        &self,
        what: &str,
        input: &[E],
        got: &[E],
        exact: &[E::Exact],
        largest: impl Fn(usize) -> f64,
    ) {
        self.settle(within_terms(what, input, got, exact, largest, self.bound), got.len());
    }

    /// As [`Checker::check`], with an error of the caller's own for each index.
    #[track_caller]
    pub fn check_errors<E: Element>(
        &self,
        what: &str,
        input: &[E],
        got: &[E],
        exact: &[E::Exact],
        error: impl Fn(usize) -> f64,
    ) {
        self.settle(all_within(what, input, got, exact, self.bound, error), got.len());
    }

    #[track_caller]
    fn settle(&self, outcome: Result<f64, String>, results: usize) {
        match outcome {
            Ok(worst) => self.worst.set(self.worst.get().max(worst)),
            Err(failure) => panic!("{} {}: {failure}", self.op, self.dtype),
        }
        self.results.set(self.results.get() + results);
    }
}

impl Drop for Checker {
    fn drop(&mut self) {
        println!(
            "{} {}: worst {:.4} of {} ULP in {} results",
            self.op,
            self.dtype,
            self.worst.get(),
            self.bound,
            self.results.get()
        );
    }
}

/// The largest error in ULPs, or which results are off by more than `ulps`.
pub fn within<E: Element>(what: &str, input: &[E], got: &[E], exact: &[E::Exact], ulps: f64) -> Result<f64, String> {
    all_within(what, input, got, exact, ulps, |i| ulp::error(got[i], exact[i]))
}

/// As [`within`], in ULPs at the larger of the result and `largest` of its index.
pub fn within_terms<E: Element>(
    what: &str,
    input: &[E],
    got: &[E],
    exact: &[E::Exact],
    largest: impl Fn(usize) -> f64,
    ulps: f64,
) -> Result<f64, String> {
    all_within(what, input, got, exact, ulps, |i| {
        // A result that is not finite answers for itself.
        let result = ulp::toward_zero(exact[i]);
        let at = if result.is_finite() { largest(i).abs().max(result) } else { result };
        ulp::error_at(got[i], exact[i], at)
    })
}

fn all_within<E: Element>(
    what: &str,
    input: &[E],
    got: &[E],
    exact: &[E::Exact],
    ulps: f64,
    error: impl Fn(usize) -> f64,
) -> Result<f64, String> {
    same_length(what, got.len(), exact.len())?;
    let (mut worst, mut wrong, mut failure) = (0.0f64, 0, String::new());
    for i in 0..got.len() {
        let error = error(i);
        let is_within = error <= ulps;
        if !is_within {
            wrong += 1;
            if wrong <= 4 {
                let _ = write!(failure, "\n  [{i}]: ");
                if input.len() == got.len() {
                    let _ = write!(failure, "input {}, ", show(input[i]));
                }
                let expected = exact[i].to_f64();
                let _ = write!(failure, "got {}, expected {expected:e}, {error:.4} ULP off", show(got[i]));
            }
        }
        worst = worst.max(error);
    }
    if wrong == 0 {
        return Ok(worst);
    }
    Err(format!("{what}: {wrong} of {} results are more than {ulps} ULP off:{failure}", got.len()))
}

/// Fails unless both are the same bits.
#[track_caller]
pub fn assert_same_bits<E: Element>(what: &str, got: &[E], expected: &[E]) {
    if let Err(failure) = same_bits(what, got, expected) {
        panic!("{} {failure}", E::DTYPE);
    }
}

/// Nothing, or which elements differ in any bit: the sign of a zero, the payload of a NaN.
pub fn same_bits<E: Element>(what: &str, got: &[E], expected: &[E]) -> Result<(), String> {
    same_length(what, got.len(), expected.len())?;
    let differs = |&i: &usize| got[i].bits() != expected[i].bits();
    let differing: Vec<usize> = (0..got.len()).filter(differs).collect();
    if differing.is_empty() {
        return Ok(());
    }
    let mut failure = format!("{what}: {} of {} elements differ:", differing.len(), got.len());
    for &i in differing.iter().take(4) {
        let _ = write!(failure, "\n  [{i}]: got {}, expected {}", show(got[i]), show(expected[i]));
    }
    Err(failure)
}

/// A comparison of nothing proves nothing.
fn same_length(what: &str, got: usize, expected: usize) -> Result<(), String> {
    if got != expected {
        return Err(format!("{what}: {got} results where {expected} are expected"));
    }
    if got == 0 {
        return Err(format!("{what}: there is nothing to compare"));
    }
    Ok(())
}

/// A value with its bits.
pub fn show<E: Element>(value: E) -> String {
    format!("{:e} ({:#x})", value.widen(), value.bits())
}
