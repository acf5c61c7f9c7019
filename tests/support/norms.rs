//! Checks of norms and their gradients: error terms, sums over rows, forms and reports.

use super::compare::{Checker, assert_same_bits};
use super::implementations::{each_level, on_threads};
use evenkeel::math::sum::tiled_sum;
use evenkeel::reference::{DoubleDouble, Real};
use evenkeel::simd::{Level, with_level};
use evenkeel::testing::ulp;
use evenkeel::{DType, Element, Rows, report};

/// Norm evaluated by its formula in double-double precision.
#[derive(Clone, Copy)]
pub struct Norm<'a> {
    pub centred: bool,
    pub eps: f64,
    pub weight: Option<&'a [f64]>,
}

impl Norm<'_> {
    /// Returns the normalised row and the reciprocal of its divisor.
    fn normalised<E: Element>(&self, x: &[E]) -> (Vec<DoubleDouble>, DoubleDouble) {
        let (zero, n) = (DoubleDouble::from(0.0), DoubleDouble::from(x.len() as f64));
        let mean_of = |v: &[DoubleDouble]| v.iter().fold(zero, |sum, &v| sum + v) / n;
        let mut d: Vec<DoubleDouble> = x.iter().map(|x| x.widen().into()).collect();
        // The second pass removes the rounding error of the first mean. That error can be far larger than the error of
        // the second mean.
        for _ in 0..if self.centred { 2 } else { 0 } {
            let mean = DoubleDouble::from(mean_of(&d).to_f64());
            d.iter_mut().for_each(|d| *d = *d - mean);
        }
        let squares: Vec<DoubleDouble> = d.iter().map(|&d| d * d).collect();
        let root = (mean_of(&squares) + DoubleDouble::from(self.eps)).sqrt();
        if root == zero {
            return (vec![zero; x.len()], zero);
        }
        (d.into_iter().map(|d| d / root).collect(), DoubleDouble::from(1.0) / root)
    }

    /// Returns, for each element of dx, the largest of the terms that the op's documentation names. The error of the
    /// element is measured in ULP of this term.
    pub fn terms<E: Element>(&self, x: &[E], dy: &[E]) -> Vec<f64> {
        self.unlimited_terms(x, dy).into_iter().map(Real::to_f64).collect()
    }

    /// Returns the same terms as [`Norm::terms`], including terms beyond the range of f64.
    pub fn unlimited_terms<E: Element>(&self, x: &[E], dy: &[E]) -> Vec<DoubleDouble> {
        let (n, inverse) = self.normalised(x);
        let (h, mean, along) = self.magnitudes(&n, dy);
        let has_mean_terms = self.centred && E::DTYPE == DType::F64;
        let of = |(&h, &n): (&DoubleDouble, &DoubleDouble)| {
            let least = if has_mean_terms { 1.0 } else { least_counted::<E>() };
            let n = larger(n.abs(), DoubleDouble::from(least));
            let mean = if has_mean_terms { mean * n } else { mean };
            let product = larger(n * along, DoubleDouble::from(least_counted::<E>()));
            larger(larger(h, mean), product) * inverse
        };
        h.iter().zip(&n).map(of).collect()
    }

    /// Returns `|h|` for each element, the mean of `|h|` (or 0 if the norm is not centred), and the mean of `|h * n|`.
    /// Here `h` is dy times the weight, and `n` is the normalised row.
    fn magnitudes<E: Element>(&self, n: &[DoubleDouble], dy: &[E]) -> (Vec<DoubleDouble>, DoubleDouble, DoubleDouble) {
        let weight = |i: usize| DoubleDouble::from(self.weight.map_or(1.0, |w| w[i]));
        let h: Vec<DoubleDouble> =
            dy.iter().enumerate().map(|(i, dy)| (DoubleDouble::from(dy.widen()) * weight(i)).abs()).collect();
        let (zero, count) = (DoubleDouble::from(0.0), DoubleDouble::from(n.len() as f64));
        let mean = if self.centred { h.iter().fold(zero, |sum, &h| sum + h) / count } else { zero };
        let least = DoubleDouble::from(least_counted::<E>());
        let along = h.iter().zip(n).fold(zero, |sum, (&h, &n)| sum + h * larger(n.abs(), least)) / count;
        (h, mean, along)
    }

    /// Returns, for each column, the sum of `|dy * n|` over the rows and the sum of `|dy|` over the rows. In the first
    /// sum, `|n|` counts as at least [`least_counted`] and, for a centred norm, as at least [`mean_term`].
    pub fn column_terms<E: Element>(&self, x: &[E], dy: &[E], cols: usize) -> [Vec<f64>; 2] {
        let mut terms = [vec![0.0; cols], vec![0.0; cols]];
        for (x, dy) in x.chunks(cols).zip(dy.chunks(cols)) {
            let (n, _) = self.normalised(x);
            let mean_term = if self.centred { mean_term_of(x) } else { 0.0 };
            for (i, dy) in dy.iter().enumerate() {
                terms[0][i] += n[i].abs().to_f64().max(mean_term).max(least_counted::<E>()) * dy.widen().abs();
                terms[1][i] += dy.widen().abs();
            }
        }
        terms
    }
}

/// Returns a lower limit for magnitudes in error bounds: the smallest normal number for f64, otherwise 0. Smaller f64
/// results are rounded to multiples of 2^-1074, so their errors are not proportional to their magnitudes.
fn least_counted<E: Element>() -> f64 {
    if E::DTYPE == DType::F64 { f64::MIN_POSITIVE } else { 0.0 }
}

/// Returns the error of a result in ULP of `term`, or in ULP of the exact result if that is larger. If `term` exceeds
/// the range of f64, its ULP counts as if the exponent range were unlimited, and an infinite result counts as the
/// largest finite value.
pub fn error_at_term<E: Element>(got: E, exact: E::Exact, term: DoubleDouble) -> f64 {
    let limited = term.to_f64();
    if limited.is_finite() || exact.to_f64() == got.widen() {
        return ulp::error_at(got, exact, limited.max(ulp::toward_zero(exact)));
    }
    let scale = DoubleDouble::from(2f64.powi(600));
    let size = DoubleDouble::from(ulp::size::<f64>((term / scale).to_f64())) * scale;
    let got = E::Exact::from(got.widen().clamp(-f64::MAX, f64::MAX));
    ((got - exact) / E::Exact::from_double_double(size)).to_f64().abs()
}

fn larger(a: DoubleDouble, b: DoubleDouble) -> DoubleDouble {
    if b > a { b } else { a }
}

/// Returns a magnitude that covers the rounding error of the mean. The bounds of layer_norm and group_norm are in ULP
/// of the largest of several terms. One of these terms is this magnitude times the magnitude of the weight.
pub fn mean_term<E: Element>(sum_is_exact: bool, cols: usize) -> f64 {
    let long = (cols as f64 * 2f64.powi(-18)).max(1.0);
    match E::DTYPE {
        DType::F64 => 1.0,
        _ if sum_is_exact => 0.0,
        DType::F32 => long * 2f64.powi(-8),
        _ => long * 2f64.powi(-24),
    }
}

/// Returns [`mean_term`] for the elements of a row.
pub fn mean_term_of<E: Element>(row: &[E]) -> f64 {
    mean_term::<E>(sum_is_exact(row.iter().map(|x| (x.widen(), 1))), row.len())
}

/// Returns whether f64 represents every partial sum of these values exactly. Each value is paired with its count. The
/// sums are exact if all values are multiples of some unit and the sum of their magnitudes is at most 2^53 units.
pub fn sum_is_exact(values: impl Iterator<Item = (f64, usize)> + Clone) -> bool {
    let lowest_bit = |v: f64| {
        let exponent = ((v.to_bits() >> 52 & 0x7ff) as i32).max(1) - 1075;
        let fraction = v.to_bits() & ((1 << 52) - 1) | if v.abs() >= f64::MIN_POSITIVE { 1 << 52 } else { 0 };
        exponent + fraction.trailing_zeros() as i32
    };
    let others = values.filter(|(v, _)| *v != 0.0);
    let Some(unit) = others.clone().map(|(v, _)| lowest_bit(v)).min() else { return true };
    // The tolerance of 1e-9 covers the rounding of the sum of magnitudes.
    let sum: f64 = others.map(|(v, count)| v.abs() * count as f64).sum();
    sum.log2() + 1e-9 <= f64::from(53 + unit)
}

/// Returns the sum of each column of dy.
pub fn column_sums<E: Element>(dy: &[E], cols: usize) -> Vec<E::Exact> {
    let mut sums = vec![DoubleDouble::from(0.0); cols];
    for row in dy.chunks(cols) {
        for (sum, dy) in sums.iter_mut().zip(row) {
            *sum = *sum + DoubleDouble::from(dy.widen());
        }
    }
    sums.into_iter().map(E::Exact::from_double_double).collect()
}

/// Computes the tiled sum ([`tiled_sum`]) of each column of a matrix.
pub fn tiled_sums_down(terms: &[f64], cols: usize) -> Vec<f64> {
    (0..cols).map(|j| tiled_sum(&terms.iter().skip(j).step_by(cols).copied().collect::<Vec<_>>())).collect()
}

/// Fails unless `run` gives the same bits on every instruction set and with any number of threads.
pub fn assert_threads_agree<E: Element>(what: &str, run: impl Fn() -> Vec<E> + Sync) {
    let expected = with_level(Level::Portable, &run).unwrap();
    for level in Level::ALL.iter().copied().filter(|level| level.is_available()) {
        for threads in [1, 2, 3] {
            let got = on_threads(threads, level, &run);
            assert_same_bits(&format!("{what}, {threads} threads, {level}"), &got, &expected);
        }
    }
}

/// Checks sums over rows. Errors are measured in ULP of `terms`, the sums of the magnitudes.
pub fn check_columns<E: Element>(checker: &Checker, what: &str, got: &[E], exact: &[E::Exact], terms: &[f64]) {
    checker.check_terms(what, &[], got, exact, &|i| terms[i]);
}

/// Fails unless the report counts short rows that are not finite. Their moments are computed together with the moments
/// of other rows.
pub fn assert_short_rows_are_counted(op: &str, run: impl Fn(Rows<'_, f32>) -> Vec<f32>) {
    let (rows, cols) = (21, 5);
    let mut x = vec![1.0f32; rows * cols];
    for (row, value) in [(3, f32::NAN), (4, f32::INFINITY), (9, f32::NEG_INFINITY), (20, f32::INFINITY)] {
        x[row * cols] = value;
    }
    each_level(|level| {
        let (_, report) = report::scope(|| run(Rows::new(&x, rows, cols).unwrap()));
        assert_eq!(report.to_string(), format!("{op}: 1 of 21 rows with NaN, 3 of 21 rows with infinity"), "{level}");
    });
}
