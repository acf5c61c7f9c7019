//! The common part of the suites: a wrapper for calls that may panic, and checks for functions of rows.

use super::report::{Defect, Finding, Report};
use crate::element::Element;
use crate::reference::Real;
use crate::testing::compare::show;
use crate::testing::ulp;
use std::any::Any;
use std::fmt::Display;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Return type of a tested closure: a value, or a `Result` with this value.
pub trait Outcome<T> {
    /// Returns the value, or the reason why there is none.
    fn outcome(self) -> Result<T, String>;
}

macro_rules! plain {
    ($($type:ty $(, $element:ident)?);*) => {$(
        impl$(<$element: Element>)? Outcome<$type> for $type {
            fn outcome(self) -> Result<$type, String> {
                Ok(self)
            }
        }
    )*};
}
plain!(Vec<E>, E; f64; u32);

impl<T, X: Display> Outcome<T> for Result<T, X> {
    fn outcome(self) -> Result<T, String> {
        // Keeps only the first line, because an error may contain a backtrace, which does not help in a report.
        self.map_err(|error| error.to_string().lines().next().unwrap_or_default().to_string())
    }
}

/// Returns the largest error in ULP that a suite accepts. Straightforward arithmetic stays below this error if it
/// computes in f32 for 16-bit types, and in the type itself for f32 and f64.
pub fn allowed<E: Element>() -> f64 {
    if E::LIMITS.digits < 24 { 1.0 } else { 1024.0 }
}

/// Reason why a call returned no result.
pub(super) enum Failure {
    Refused(String),
    Panicked(String),
}

/// Calls a function, and returns its panic as a failure.
pub(super) fn call<T, R: Outcome<T>>(run: impl FnOnce() -> R) -> Result<T, Failure> {
    match catch_unwind(AssertUnwindSafe(|| run().outcome())) {
        Ok(outcome) => outcome.map_err(Failure::Refused),
        Err(payload) => Err(Failure::Panicked(message(&*payload))),
    }
}

fn message(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message").to_string()
}

impl Report {
    pub(super) fn new<E: Element>(op: &'static str) -> Self {
        Report { op, dtype: E::DTYPE, checks: 0, findings: Vec::new() }
    }

    pub(super) fn find(&mut self, defect: Defect, row: &str, what: impl Into<String>, ulps: f64) {
        self.findings.push(Finding { defect, row: row.into(), what: what.into(), ulps });
    }

    pub(super) fn fail(&mut self, row: &str, failure: Failure) {
        match failure {
            Failure::Refused(why) => self.find(Defect::Refuses, row, why, f64::INFINITY),
            Failure::Panicked(why) => self.find(Defect::Panics, row, why, f64::INFINITY),
        }
    }
}

/// A function of rows that is tested.
pub(super) type Run<'f, E> = &'f mut dyn FnMut(&[E], usize, usize) -> Result<Vec<E>, Failure>;

/// A suite for a function of rows.
pub(super) struct Suite<'f, E> {
    pub report: Report,
    run: Run<'f, E>,
}

impl<'f, E: Element> Suite<'f, E> {
    pub fn new(op: &'static str, run: Run<'f, E>) -> Self {
        Suite { report: Report::new::<E>(op), run }
    }

    /// Calls the function for a batch, and counts the check.
    pub fn ask(&mut self, x: &[E], rows: usize, cols: usize) -> Result<Vec<E>, Failure> {
        self.report.checks += 1;
        (self.run)(x, rows, cols)
    }

    fn answer(&mut self, name: &str, x: &[E], rows: usize, cols: usize) -> Option<Vec<E>> {
        match self.ask(x, rows, cols) {
            Ok(y) if y.len() == x.len() => return Some(y),
            Ok(y) => {
                let what = format!("{} results for {} elements", y.len(), x.len());
                self.report.find(Defect::WrongLength, name, what, f64::INFINITY);
            }
            Err(failure) => self.report.fail(name, failure),
        }
        None
    }

    /// Checks that the results for one row are within the allowed error, in ULP of the larger of the result and `term`.
    pub fn row(&mut self, defect: Defect, name: &str, row: &[E], exact: &[E::Exact], term: f64) {
        let Some(y) = self.answer(name, row, 1, row.len()) else { return };
        let error = |i: usize| {
            let result = ulp::toward_zero(exact[i]);
            let at = if result.is_finite() { result.max(term) } else { result };
            ulp::error_at(y[i], exact[i], at)
        };
        let worst = (0..y.len()).map(|i| (error(i), i)).fold((0.0, 0), |a, b| if b.0 > a.0 { b } else { a });
        let allowed = match defect {
            Defect::NarrowSteps | Defect::Inaccurate => allowed::<E>(),
            // Only the rows for `NarrowSteps` and `Inaccurate` test rounding errors. For every other defect the bound
            // is wider, so that an ordinary rounding error is not reported as that defect.
            _ => 16.0 * allowed::<E>(),
        };
        if worst.0 > allowed {
            let (ulps, at) = worst;
            let expected = exact[at].to_f64();
            let off = if ulps.is_finite() { format!(", {} ULP off", rounded(ulps)) } else { String::new() };
            let what = format!("[{at}] is {}, expected {expected:e}{off}", show(y[at]));
            self.report.find(defect, name, what, ulps);
        }
    }

    /// Checks a batch of three rows: the row `middle` between two ordinary rows. The result of `middle` must satisfy
    /// `is_right`. The results for each ordinary row must have the same bits as in a batch of that row alone.
    pub fn between(
        &mut self,
        defect: Defect,
        name: &str,
        middle: &[E],
        may_refuse: bool,
        is_right: impl Fn(&[E]) -> bool,
    ) {
        let cols = middle.len();
        let live: Vec<E> = (0..cols).map(|i| E::from_wide(0.25 * (i % 7) as f64 - 0.5)).collect();
        let batch = [&live[..], middle, &live].concat();
        let y = match self.ask(&batch, 3, cols) {
            Err(Failure::Refused(_)) if may_refuse => return,
            Err(failure) => return self.report.fail(name, failure),
            Ok(y) => y,
        };
        if y.len() != batch.len() {
            let what = format!("{} results for {} elements", y.len(), batch.len());
            return self.report.find(Defect::WrongLength, name, what, f64::INFINITY);
        }
        let got = &y[cols..2 * cols];
        if !is_right(got) {
            self.report.find(defect, name, format!("the result is {}", list(got)), f64::INFINITY);
        }
        let Some(alone) = self.answer(name, &live, 1, cols) else { return };
        for row in [0, 2] {
            let others = &y[row * cols..][..cols];
            let differing = (0..cols).find(|&i| others[i].bits() != alone[i].bits());
            let Some(i) = differing else { continue };
            let defect = if others[i].widen().is_nan() { Defect::NanSpreads } else { Defect::DependsOnBatch };
            let what = format!("[{i}] of row {row} is {}, but {} for the row alone", show(others[i]), show(alone[i]));
            return self.report.find(defect, name, what, f64::NAN);
        }
    }

    /// Checks that the result of a row with a NaN contains a NaN, and that the NaN changes no other row.
    pub fn nan(&mut self) {
        for at in [0, 3, 6] {
            let mut row: Vec<E> = (0..7).map(|i| E::from_wide(f64::from(i))).collect();
            row[at] = E::NAN;
            let name = format!("a NaN at {at} of 7");
            self.between(Defect::HidesNan, &name, &row, true, |y| y.iter().any(|v| v.widen().is_nan()));
        }
    }

    /// Checks that a row computed alone has the same bits as at any position in a batch.
    pub fn batches(&mut self) {
        for cols in [64, 1000, 4099] {
            let name = format!("a row of {cols}");
            let row = plain_row::<E>(cols, 0);
            let Some(alone) = self.answer(&name, &row, 1, cols) else { return };
            for rows in [2, 7, 67] {
                let mut batch: Vec<E> = (0..rows).flat_map(|r| plain_row::<E>(cols, 31 * r + 5)).collect();
                let places = [0, rows / 2, rows - 1];
                for place in places {
                    batch[place * cols..][..cols].copy_from_slice(&row);
                }
                let Some(y) = self.answer(&name, &batch, rows, cols) else { return };
                for place in places {
                    let got = &y[place * cols..][..cols];
                    if let Some(i) = (0..cols).find(|&i| got[i].bits() != alone[i].bits()) {
                        let (got, alone) = (show(got[i]), show(alone[i]));
                        let what = format!("[{i}] is {got} as row {place} of {rows}, but {alone} for the row alone");
                        self.report.find(Defect::DependsOnBatch, &name, what, f64::NAN);
                        return;
                    }
                }
            }
        }
    }

    /// Checks that empty input gives an empty result or an error.
    pub fn empty(&mut self) {
        for (rows, cols) in [(0, 8), (3, 0), (0, 0)] {
            let name = format!("{rows} rows of {cols}");
            match self.ask(&[], rows, cols) {
                Err(Failure::Refused(_)) => {}
                Err(panicked) => self.report.fail(&name, panicked),
                Ok(y) if y.is_empty() => {}
                Ok(y) => {
                    let what = format!("{} results for no elements", y.len());
                    self.report.find(Defect::WrongLength, &name, what, f64::INFINITY);
                }
            }
        }
    }
}

/// Returns pseudo-random numbers between -8 and 8.
pub(super) fn plain_row<E: Element>(cols: usize, first: usize) -> Vec<E> {
    (0..cols).map(|i| E::from_wide(16.0 * crate::testing::hostile::scattered(first + i) - 8.0)).collect()
}

/// Formats a number of ULPs.
pub(super) fn rounded(ulps: f64) -> String {
    if ulps < 100.0 { format!("{ulps:.2}") } else { format!("{ulps:.1e}") }
}

/// Formats the first four values.
pub(super) fn list<E: Element>(values: &[E]) -> String {
    let shown: Vec<String> = values.iter().take(4).map(|v| format!("{:e}", v.widen())).collect();
    let more = if values.len() > 4 { ", .." } else { "" };
    format!("[{}{more}]", shown.join(", "))
}
