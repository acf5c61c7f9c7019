//! Accuracy tests shared by all functions of one row, on many kinds of rows.

use super::compare::{Checker, within_terms};
use super::generate::{self, Bits, Hostile};
use super::implementations::each_level;
use evenkeel::Element;
use proptest::prelude::*;

/// Function of one row with its default options, its reference and the naive formula.
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

fn check<F: Function, E: Element>(checker: &Checker, what: &str, row: &[E]) {
    let exact = F::exact(row);
    let terms = F::terms(row, &exact);
    each_level(|level| {
        checker.check_terms(&format!("{what}, {level}"), row, &F::run(row), &exact, |i| terms[i]);
    });
}

/// Checks rows that should break the naive formula, and checks that they break it.
pub fn hostile_rows<F: Function, E: Bits>() {
    let checker = Checker::of_usual_rows::<E>(F::NAME);
    for len in generate::lengths() {
        for Hostile { name, row } in F::hostile::<E>(len) {
            let what = format!("{name} of {len}");
            check::<F, E>(&checker, &what, &row);
            let exact = F::exact(&row);
            let terms = F::terms(&row, &exact);
            let naive = within_terms("", &row, &F::naive(&row), &exact, |i| terms[i], checker.bound());
            assert!(naive.is_err(), "{what}: expected the naive formula to fail, but it is within the bound");
        }
    }
}

pub fn rows_of_every_length<F: Function, E: Bits>() {
    let mut rng = generate::rng(F::NAME);
    let checker = Checker::of_usual_rows::<E>(F::NAME);
    for len in generate::lengths() {
        for (mean, spread) in [(0.0, 1.0), (0.0, 20.0), (100.0, 10.0)] {
            let row = generate::bell::<E>(&mut rng, len, mean, spread);
            check::<F, E>(&checker, &format!("{len} about {mean}"), &row);
        }
    }
}

pub fn long_rows<F: Function, E: Bits>() {
    let mut rng = generate::rng(F::NAME);
    let checker = Checker::of_usual_rows::<E>(F::NAME);
    for len in generate::LONG_LENGTHS {
        for (mean, spread) in [(0.0, 2.0), (100.0, 15.0)] {
            let row = generate::bell::<E>(&mut rng, len, mean, spread);
            check::<F, E>(&checker, &format!("{len} about {mean}"), &row);
        }
    }
}

pub fn random_rows<F: Function, E: Bits>() {
    let checker = Checker::of_usual_rows::<E>(F::NAME);
    proptest!(generate::cases(256), |(row in generate::bell_row::<E>(1..=700))| {
        check::<F, E>(&checker, "a row about a mean", &row);
    });
}

pub fn rows_of_any_finite_values<F: Function, E: Bits>() {
    let checker = Checker::of_usual_rows::<E>(F::NAME);
    proptest!(generate::cases(256), |(row in generate::any_finite_row::<E>(1..=40))| {
        check::<F, E>(&checker, "a row of any finite values", &row);
    });
}
