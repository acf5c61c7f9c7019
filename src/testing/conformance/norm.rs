//! Suites for norms without weights.

use super::report::{Defect, Report};
use super::suite::{Outcome, Suite, call, plain_row};
use crate::element::{DType, Element};
use crate::reference::{self, Real};

/// The eps of the suites. It is exact in f32, in which many engines store it.
const EPS: f64 = 1.0 / 131_072.0;

/// Checks an RMSNorm over the last axis: `f(x, rows, cols, eps)` returns as many elements as `x` has. The eps is 0 or
/// 2^-17.
///
/// For a row with a NaN, `f` may return an error.
///
/// ```
/// use evenkeel::testing::conformance;
/// use evenkeel::{RmsNorm, Rows};
/// use half::f16;
///
/// let ours = |x: &[f16], rows, cols, eps| evenkeel::rms_norm(Rows::new(x, rows, cols)?, &RmsNorm::default().eps(eps));
/// conformance::rms_norm(ours).assert_clean();
/// ```
pub fn rms_norm<E: Element, R: Outcome<Vec<E>>>(mut f: impl FnMut(&[E], usize, usize, f64) -> R) -> Report {
    let mut report = Report::new::<E>("rms_norm");
    for eps in [EPS, 0.0] {
        let mut run = |x: &[E], rows, cols| call(|| f(x, rows, cols, eps));
        let mut suite = Suite::new("rms_norm", &mut run);
        let exact = |row: &[E]| reference::rms_norm(row, None, 0.0, eps);
        if eps > 0.0 {
            let ones = vec![E::from_wide(1.0); 131_072];
            let y = E::Exact::from(1.0) / E::Exact::from(1.0 + eps).sqrt();
            suite.row(Defect::NarrowSum, "131072 ones", &ones, &vec![y; ones.len()], 0.0);
            usual(&mut suite, exact);
        }
        squares(&mut suite, eps, exact);
        report.join(suite.report);
    }
    report
}

/// Checks a LayerNorm over the last axis, in the same way as [`rms_norm()`]. Errors are in ULP of the larger of the
/// result and 1.
///
/// ```
/// use evenkeel::testing::conformance;
/// use evenkeel::{LayerNorm, Rows};
///
/// let ours = |x: &[f64], rows, cols, eps| {
///     evenkeel::layer_norm(Rows::new(x, rows, cols)?, &LayerNorm::default().eps(eps))
/// };
/// conformance::layer_norm(ours).assert_clean();
/// ```
pub fn layer_norm<E: Element, R: Outcome<Vec<E>>>(mut f: impl FnMut(&[E], usize, usize, f64) -> R) -> Report {
    let mut report = Report::new::<E>("layer_norm");
    for eps in [EPS, 0.0] {
        let mut run = |x: &[E], rows, cols| call(|| f(x, rows, cols, eps));
        let mut suite = Suite::new("layer_norm", &mut run);
        let exact = |row: &[E]| reference::layer_norm(row, None, None, eps);
        if eps > 0.0 {
            // The mean is 2 and the variance is 1. So each exact result is y or -y, with y = 1 / sqrt(1 + eps).
            let x: Vec<E> = (0..131_072).map(|i| E::from_wide(if i % 2 == 0 { 1.0 } else { 3.0 })).collect();
            let y = E::Exact::from(1.0) / E::Exact::from(1.0 + eps).sqrt();
            let expected: Vec<E::Exact> = (0..x.len()).map(|i| if i % 2 == 0 { -y } else { y }).collect();
            suite.row(Defect::NarrowSum, "131072 ones and threes", &x, &expected, 1.0);
            usual(&mut suite, exact);
            spreads(&mut suite, exact);
        }
        squares(&mut suite, eps, exact);
        report.join(suite.report);
    }
    report
}

impl Report {
    fn join(&mut self, other: Report) {
        self.checks += other.checks;
        self.findings.extend(other.findings);
    }
}

fn usual<E: Element>(suite: &mut Suite<'_, E>, exact: impl Fn(&[E]) -> Vec<E::Exact>) {
    let defect = if E::LIMITS.digits < 24 { Defect::NarrowSteps } else { Defect::Inaccurate };
    for n in [4, 100, 1000] {
        let x = plain_row::<E>(n, 1);
        suite.row(defect, &format!("{n} numbers between -8 and 8"), &x, &exact(&x), 1.0);
    }
    // A norm divides by a square root. The relative rounding error of the root is largest just above a power of two.
    // From each scale to the next, the root grows by at most 1/16. From the first scale to the last, the root almost
    // doubles. In one of the rows, the root is therefore just above a power of two.
    let term = if E::LIMITS.digits < 24 { 1e-3 } else { 1.0 };
    for k in 0..16 {
        let scale = 1.0 + f64::from(k) / 16.0;
        let x: Vec<E> = plain_row::<E>(100, 7).iter().map(|x| E::from_wide(x.widen() * scale)).collect();
        suite.row(defect, &format!("100 numbers between -{0} and {0}", 8.0 * scale), &x, &exact(&x), term);
    }
    let zeros = [E::ZERO; 5];
    suite.row(Defect::Inaccurate, "5 zeros", &zeros, &exact(&zeros), 1.0);
    suite.nan();
    suite.batches();
    suite.empty();
}

/// Checks rows with a tiny spread around a large mean.
fn spreads<E: Element>(suite: &mut Suite<'_, E>, exact: impl Fn(&[E]) -> Vec<E::Exact>) {
    // The values and their differences are exact in the type. But rounding the square of the mean changes that square
    // by more than the variance, so a one-pass variance in the type has no correct digits.
    let (far, farther) = match E::DTYPE {
        DType::F64 => (1e12, 1e15),
        DType::F32 => (40_000.0, 1e6),
        DType::F16 => (1500.0, 1500.0),
        DType::BF16 => (192.0, 192.0),
    };
    let steps = |base: f64, n: usize| (0..n).map(|i| E::from_wide(base + (i % 4) as f64)).collect::<Vec<E>>();
    let x = steps(far, 4);
    suite.row(Defect::OnePassVariance, &format!("{far}, +1, +2, +3"), &x, &exact(&x), 1.0);
    // No mean of 16-bit values is so large that rounding it to f32 matters, so 16-bit types have no row for
    // `RoundedMean`.
    let defect = if farther > far { Defect::RoundedMean } else { Defect::OnePassVariance };
    let x = steps(farther, 4096);
    suite.row(defect, &format!("4096 of {farther}, +1, +2, +3"), &x, &exact(&x), 1.0);
    let x = [E::from_wide(farther + 2.0); 100];
    suite.row(defect, &format!("100 elements of {}", farther + 2.0), &x, &exact(&x), 1.0);
}

/// Checks values whose squares overflow or underflow in the type or in f32.
fn squares<E: Element>(suite: &mut Suite<'_, E>, eps: f64, exact: impl Fn(&[E]) -> Vec<E::Exact>) {
    let (large, small): (&[f64], &[f64]) = match E::DTYPE {
        DType::F64 => (&[1e160, 1e300], &[1e-170, 1e-300]),
        DType::F32 => (&[1e20, 3e38], &[1e-25, 1e-38]),
        DType::F16 => (&[300.0, 60_000.0], &[1e-4, 1e-7]),
        DType::BF16 => (&[1e20, 3e38], &[1e-25, 1e-38]),
    };
    let signs = [1.0, -1.0, 1.0, 1.0];
    for (defect, magnitudes) in [(Defect::SquaresOverflow, large), (Defect::SquaresVanish, small)] {
        for &magnitude in magnitudes {
            let x = signs.map(|sign| E::from_wide(sign * magnitude));
            suite.row(defect, &format!("±{magnitude:e}, eps {eps:e}"), &x, &exact(&x), 0.0);
        }
    }
}
