//! Accuracy tests shared by all functions of one row, on many kinds of rows.

use super::compare::{Checker, within_terms};
use super::generate::{self, Bits, Hostile};
use super::implementations::each_level;
use evenkeel::testing::ulp;
use evenkeel::{DType, Element, Limits};
use proptest::prelude::*;

/// Function of one row, called with default options, together with its reference and its naive formula.
pub trait Function {
    const NAME: &'static str;
    fn run<E: Element>(row: &[E]) -> Vec<E>;
    /// Reference, one number per result.
    fn exact<E: Element>(row: &[E]) -> Vec<E::Exact>;
    /// Naive formula, each step rounded to the storage type.
    fn naive<E: Element>(row: &[E]) -> Vec<E>;
    /// Rows on which the naive formula fails.
    fn hostile<E: Bits>(len: usize) -> Vec<Hostile<E>>;
    /// Largest of the terms that may cancel, for each result; 0 if no terms cancel.
    fn terms<E: Element>(row: &[E], exact: &[E::Exact]) -> Vec<f64>;
    /// Exact logarithm of the row's sum of exponentials, for ops whose result contains it. Its size decides whether
    /// [`underflow`] adds to the error that is allowed.
    fn log_sum<E: Element>(_row: &[E], _exact: &[E::Exact]) -> Option<f64> {
        None
    }
}

/// Returns the error of a logarithm of a sum of `n` exponentials that underflow may cause, in multiples of the smallest
/// subnormal number. The pages of `log_softmax` and `logsumexp` state it for a logarithm below `n` times the smallest
/// normal number: each exponential has an error of up to half the smallest subnormal number.
fn underflow(limits: &Limits, n: f64, log_sum: Option<f64>) -> f64 {
    if log_sum.is_some_and(|log_sum| log_sum < n * limits.min_normal) { 0.5 * n } else { 0.0 }
}

/// Generates the accuracy tests of an op, and the tests of the additional functions listed after it.
macro_rules! row_tests {
    ($function:ident; $($name:ident),* $(,)?) => {
        fn hostile_rows<E: crate::support::generate::Bits>() {
            crate::support::rows::hostile_rows::<$function, E>();
        }
        fn rows_of_every_length<E: crate::support::generate::Bits>() {
            crate::support::rows::rows_of_every_length::<$function, E>();
        }
        fn long_rows<E: crate::support::generate::Bits>() {
            crate::support::rows::long_rows::<$function, E>();
        }
        fn random_rows<E: crate::support::generate::Bits>() {
            crate::support::rows::random_rows::<$function, E>();
        }
        fn rows_of_any_finite_values<E: crate::support::generate::Bits>() {
            crate::support::rows::rows_of_any_finite_values::<$function, E>();
        }
        for_each_dtype!(
            hostile_rows,
            rows_of_every_length,
            long_rows,
            random_rows,
            rows_of_any_finite_values,
            $($name),*
        );
    };
}

/// A function in one storage type. The checks call it through pointers, so that they are compiled once for each type
/// and not for each function.
struct Tested<E: Bits> {
    name: &'static str,
    run: fn(&[E]) -> Vec<E>,
    exact: fn(&[E]) -> Vec<E::Exact>,
    naive: fn(&[E]) -> Vec<E>,
    hostile: fn(usize) -> Vec<Hostile<E>>,
    terms: fn(&[E], &[E::Exact]) -> Vec<f64>,
    log_sum: fn(&[E], &[E::Exact]) -> Option<f64>,
}

impl<E: Bits> Tested<E> {
    fn of<F: Function>() -> Self {
        Tested {
            name: F::NAME,
            run: F::run,
            exact: F::exact,
            naive: F::naive,
            hostile: F::hostile,
            terms: F::terms,
            log_sum: F::log_sum,
        }
    }

    fn check(&self, checker: &Checker, what: &str, row: &[E]) {
        let exact = (self.exact)(row);
        let terms = (self.terms)(row, &exact);
        // Exponentials of 16-bit scores are f32.
        let limits = if E::DTYPE == DType::F64 { f64::LIMITS } else { f32::LIMITS };
        let underflow = underflow(&limits, row.len() as f64, (self.log_sum)(row, &exact));
        each_level(|level| {
            let got = (self.run)(row);
            checker.check_errors(&format!("{what}, {level}"), row, &got, &exact, &|i| {
                let result = ulp::toward_zero(exact[i]);
                let at = if result.is_finite() { terms[i].abs().max(result) } else { result };
                let error = ulp::error_at(got[i], exact[i], at);
                let allowed = underflow * (limits.min_subnormal / ulp::size::<E>(at));
                if underflow > 0.0 { (error - allowed).max(0.0) } else { error }
            });
        });
    }

    fn hostile_rows(&self) {
        let checker = Checker::of_usual_rows::<E>(self.name);
        for len in generate::lengths() {
            for Hostile { name, row } in (self.hostile)(len) {
                let what = format!("{name} of {len}");
                self.check(&checker, &what, &row);
                let exact = (self.exact)(&row);
                let terms = (self.terms)(&row, &exact);
                let naive = within_terms("", &row, &(self.naive)(&row), &exact, |i| terms[i], checker.bound());
                assert!(
                    naive.is_err(),
                    "{what}: expected the naive formula to fail, but it is within the error bound of the op"
                );
            }
        }
    }

    /// Checks rows of each length with each mean and standard deviation in `bells`.
    fn bells(&self, lengths: &mut dyn Iterator<Item = usize>, bells: &[(f64, f64)]) {
        let mut rng = generate::rng(self.name);
        let checker = Checker::of_usual_rows::<E>(self.name);
        for len in lengths {
            for &(mean, spread) in bells {
                let row = generate::bell::<E>(&mut rng, len, mean, spread);
                self.check(&checker, &format!("{len} about {mean}"), &row);
            }
        }
    }

    fn random_rows(&self) {
        let checker = Checker::of_usual_rows::<E>(self.name);
        proptest!(generate::cases(256), |(row in generate::bell_row::<E>(1..=700))| {
            self.check(&checker, "a row about a mean", &row);
        });
    }

    fn rows_of_any_finite_values(&self) {
        let checker = Checker::of_usual_rows::<E>(self.name);
        proptest!(generate::cases(256), |(row in generate::any_finite_row::<E>(1..=40))| {
            self.check(&checker, "a row of any finite values", &row);
        });
    }
}

/// Checks rows that should break the naive formula, and checks that they break it.
pub fn hostile_rows<F: Function, E: Bits>() {
    Tested::<E>::of::<F>().hostile_rows();
}

pub fn rows_of_every_length<F: Function, E: Bits>() {
    let bells = [(0.0, 1.0), (0.0, 20.0), (100.0, 10.0)];
    Tested::<E>::of::<F>().bells(&mut generate::lengths(), &bells);
}

pub fn long_rows<F: Function, E: Bits>() {
    Tested::<E>::of::<F>().bells(&mut generate::LONG_LENGTHS.into_iter(), &[(0.0, 2.0), (100.0, 15.0)]);
}

pub fn random_rows<F: Function, E: Bits>() {
    Tested::<E>::of::<F>().random_rows();
}

pub fn rows_of_any_finite_values<F: Function, E: Bits>() {
    Tested::<E>::of::<F>().rows_of_any_finite_values();
}
