//! Suites for softmax and its logarithm.

use super::report::{Defect, Report};
use super::suite::{Outcome, Suite, call, plain_row};
use crate::element::Element;
use crate::reference::{self, Real};
use crate::testing::hostile;

/// Checks a softmax over the last axis: `f(x, rows, cols)` returns as many elements as `x` has.
///
/// Masked scores are -inf. For a fully masked row, and for a row with a NaN, `f` may return an error.
///
/// ```
/// use evenkeel::testing::conformance;
/// use evenkeel::{Rows, Softmax};
/// use half::bf16;
///
/// let ours = |x: &[bf16], rows, cols| evenkeel::softmax(Rows::new(x, rows, cols)?, &Softmax::default());
/// conformance::softmax(ours).assert_clean();
/// ```
pub fn softmax<E: Element, R: Outcome<Vec<E>>>(mut f: impl FnMut(&[E], usize, usize) -> R) -> Report {
    let mut run = |x: &[E], rows, cols| call(|| f(x, rows, cols));
    let mut suite = Suite::new("softmax", &mut run);
    let exact = |row: &[E]| reference::softmax(row).unwrap_or_default();
    let share = |n: usize| vec![E::Exact::from(1.0) / E::Exact::from(n as f64); n];
    questions(&mut suite, exact, share, |row| {
        let uniform = row.iter().all(|y| (y.widen() * row.len() as f64 - 1.0).abs() < 0.01);
        uniform || row.iter().all(|y| y.widen() == 0.0)
    });
    suite.report
}

/// Checks a log-softmax over the last axis, in the same way as [`softmax()`]. Errors are in ULP of the larger of the
/// result and ln n, where n is the length of the row.
///
/// ```
/// use evenkeel::testing::conformance;
/// use evenkeel::{Rows, Softmax};
///
/// let ours = |x: &[f32], rows, cols| evenkeel::log_softmax(Rows::new(x, rows, cols)?, &Softmax::default());
/// conformance::log_softmax(ours).assert_clean();
/// ```
pub fn log_softmax<E: Element, R: Outcome<Vec<E>>>(mut f: impl FnMut(&[E], usize, usize) -> R) -> Report {
    let mut run = |x: &[E], rows, cols| call(|| f(x, rows, cols));
    let mut suite = Suite::new("log_softmax", &mut run);
    let exact = |row: &[E]| reference::log_softmax(row).unwrap_or_default();
    let share = |n: usize| vec![-E::Exact::from(n as f64).ln(); n];
    questions(&mut suite, exact, share, |row| {
        let uniform = -(row.len() as f64).ln();
        row.iter().all(|y| (y.widen() - uniform).abs() < 0.05) || row.iter().all(|y| y.widen() == f64::NEG_INFINITY)
    });
    suite.report
}

fn questions<E: Element>(
    suite: &mut Suite<'_, E>,
    exact: impl Fn(&[E]) -> Vec<E::Exact>,
    share: impl Fn(usize) -> Vec<E::Exact>,
    is_nothing: impl Fn(&[E]) -> bool,
) {
    let limits = E::LIMITS;
    let is_log = suite.report.op == "log_softmax";
    let term = |n: usize| if is_log { (n as f64).ln() } else { 0.0 };
    let row = |values: &[f64]| values.iter().map(|&v| E::from_wide(v)).collect::<Vec<E>>();

    for n in [256, 4096, 131_072] {
        let name = format!("{n} equal logits");
        suite.row(Defect::NarrowSum, &name, &vec![E::ZERO; n], &share(n), term(n));
    }
    let plain = if limits.digits < 24 { Defect::NarrowSteps } else { Defect::Inaccurate };
    for n in [4, 100, 1000] {
        let x = plain_row::<E>(n, 1);
        suite.row(plain, &format!("{n} numbers between -8 and 8"), &x, &exact(&x), term(n));
    }

    let far = limits.max.min(1e30);
    for (name, values) in [
        ("one logit of 1e30", vec![far, 0.0, 1.0, -1.0]),
        ("one logit of -1e30", vec![-far, 0.0, 1.0, 2.0]),
        ("all logits are -1e30", vec![-far; 4]),
        ("1e30 and -1e30", vec![far, -far, far, -far]),
        ("-1e30 and -inf", vec![-far, f64::NEG_INFINITY, -far, -far]),
        ("the type's lowest values", vec![-limits.max; 3]),
        ("the type's largest and lowest", vec![limits.max, -limits.max, limits.max]),
        ("beyond where exp overflows", vec![2.0 * limits.exp_max; 3]),
        ("below where exp vanishes", vec![2.0 * limits.exp_min; 3]),
    ] {
        let x = row(&values);
        suite.row(Defect::ExtremeValues, name, &x, &exact(&x), 0.0);
    }
    for hostile::Hostile { name, row } in [hostile::scores::<E>(17).swap_remove(0), hostile::scores(17).swap_remove(4)]
    {
        suite.row(Defect::ExtremeValues, &format!("17 logits, {name}"), &row, &exact(&row), term(17));
    }

    let masked = f64::NEG_INFINITY;
    for (name, values) in
        [("some -inf", vec![masked, 1.0, 2.0, masked]), ("all -inf but one", vec![masked, masked, 3.0, masked])]
    {
        let x = row(&values);
        suite.row(Defect::MaskedPosition, name, &x, &exact(&x), term(4));
    }
    for n in [1, 4, 64] {
        let name = format!("a row of {n} logits, all -inf, between two other rows");
        suite.between(Defect::MaskedRow, &name, &row(&vec![masked; n]), true, &is_nothing);
    }
    suite.nan();
    suite.batches();
    suite.empty();
}
