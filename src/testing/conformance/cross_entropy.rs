//! A suite for the cross-entropy of logits.

use super::report::{Defect, Report};
use super::suite::{Failure, Outcome, allowed, call, plain_row, rounded};
use crate::element::Element;
use crate::reference::{self, DoubleDouble, Real};
use crate::testing::compare::show;
use crate::testing::ulp;

/// Checks a cross-entropy: `f(logits, rows, cols, targets)` returns the mean of the losses of all rows. Each row has
/// one target class.
///
/// The loss may be stored in the type of the logits. If a logit is NaN or a target is masked, `f` may return an error.
/// If a target is not a class, `f` must return an error.
///
/// ```
/// use evenkeel::testing::conformance::{self, Defect};
///
/// // Correct for ordinary input only.
/// let naive = |x: &[f32], rows: usize, cols: usize, targets: &[u32]| -> f64 {
///     let loss = |(row, &target): (&[f32], &u32)| {
///         let sum: f32 = row.iter().map(|z| z.exp()).sum();
///         f64::from(sum.ln() - row[target as usize])
///     };
///     x.chunks(cols).zip(targets).map(loss).sum::<f64>() / rows as f64
/// };
/// let report = conformance::cross_entropy(naive);
/// assert!(report.has(Defect::ExtremeValues) && report.has(Defect::Panics), "{report}");
/// ```
pub fn cross_entropy<E: Element, R: Outcome<f64>>(mut f: impl FnMut(&[E], usize, usize, &[u32]) -> R) -> Report {
    let mut report = Report::new::<E>("cross_entropy");
    let far = E::LIMITS.max.min(1e30);
    let masked = f64::NEG_INFINITY;
    let row = |values: &[f64]| values.iter().map(|&v| E::from_wide(v)).collect::<Vec<E>>();
    let mut ask = |report: &mut Report, x: &[E], cols: usize, targets: &[u32]| {
        report.checks += 1;
        call(|| f(x, targets.len(), cols, targets))
    };

    let plain = if E::LIMITS.digits < 24 { Defect::NarrowSteps } else { Defect::Inaccurate };
    let steps = plain_row::<E>(5 * 100, 1);
    for (defect, name, x, cols, targets) in [
        (plain, "5 rows of 100", steps, 100, vec![0, 99, 50, 7, 31]),
        (Defect::NarrowSum, "131072 equal classes", row(&vec![1.0; 131_072]), 131_072, vec![77]),
        (Defect::NarrowSum, "4096 rows of two equal classes", row(&vec![0.5; 8192]), 2, vec![1; 4096]),
        (Defect::ExtremeValues, "another logit is 1e30", row(&[far, 0.0]), 2, vec![1]),
        (Defect::ExtremeValues, "target logit is 1e30", row(&[far, 0.0]), 2, vec![0]),
        (Defect::ExtremeValues, "all logits are -1e30", row(&[-far; 4]), 4, vec![2]),
        (Defect::ExtremeValues, "1e30 and -1e30", row(&[far, -far, far]), 3, vec![2]),
        (Defect::MaskedPosition, "another logit is -inf", row(&[1.0, masked, 2.0]), 3, vec![0]),
    ] {
        let exact = mean::<E>(&x, cols, &targets);
        match ask(&mut report, &x, cols, &targets) {
            Ok(loss) => compare::<E>(&mut report, defect, name, loss, exact),
            Err(failure) => report.fail(name, failure),
        }
    }

    let mut refusable = |name: &str, values: &[f64], target: u32, defect: Defect, is_right: fn(f64) -> bool| match ask(
        &mut report,
        &row(values),
        values.len(),
        &[target],
    ) {
        Err(Failure::Refused(_)) => {}
        Err(panicked) => report.fail(name, panicked),
        Ok(loss) if is_right(loss) => {}
        Ok(loss) => report.find(defect, name, format!("the loss is {loss:e}"), f64::INFINITY),
    };
    refusable("another logit is NaN", &[1.0, f64::NAN, 2.0], 0, Defect::HidesNan, f64::is_nan);
    refusable("target logit is -inf", &[1.0, masked, 2.0], 1, Defect::MaskedPosition, |loss| loss == f64::INFINITY);
    refusable("target 3 of 3 classes", &[1.0, 0.0, 2.0], 3, Defect::TargetOutOfRange, |_| false);
    refusable("target 2^31 of 3 classes", &[1.0, 0.0, 2.0], 1 << 31, Defect::TargetOutOfRange, |_| false);
    report
}

/// Computes the mean of the losses in more than f64 precision.
fn mean<E: Element>(x: &[E], cols: usize, targets: &[u32]) -> f64 {
    let equal = |row: &[E]| row.iter().all(|z| *z == row[0]);
    let mut sum = DoubleDouble::from(0.0);
    for (row, &target) in x.chunks(cols).zip(targets) {
        sum = sum
            - if equal(row) {
                -DoubleDouble::from(cols as f64).ln()
            } else {
                let wide: Vec<f64> = row.iter().map(|z| z.widen()).collect();
                reference::log_softmax(&wide).unwrap_or_default()[target as usize]
            };
    }
    (sum / DoubleDouble::from(targets.len() as f64)).to_f64()
}

fn compare<E: Element>(report: &mut Report, defect: Defect, name: &str, loss: f64, exact: f64) {
    // A loss of a wider type than the logits may lie between two values of the logits' type. Its error is therefore
    // computed from `loss`, not from `stored`.
    let stored = E::from_wide(loss);
    let ulps = if loss.is_finite() && exact != 0.0 {
        (loss - exact).abs() / ulp::size::<E>(exact)
    } else {
        ulp::error(stored, exact)
    };
    if ulps > 16.0 * allowed::<E>() {
        let off = if ulps.is_finite() { format!(", {} ULP off", rounded(ulps)) } else { String::new() };
        report.find(defect, name, format!("the loss is {}, expected {exact:e}{off}", show(stored)), ulps);
    }
}
