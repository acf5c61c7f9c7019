//! What is tested of the gradients of norms: their terms, their sums over rows, and their forms.

use super::compare::{Checker, assert_same_bits};
use super::implementations::on_threads;
use evenkeel::math::sum::rule_o;
use evenkeel::reference::{DoubleDouble, Real};
use evenkeel::simd::{Level, with_level};
use evenkeel::{DType, Element};

/// A norm, as one writes it down in numbers with digits to spare.
#[derive(Clone, Copy)]
pub struct Norm<'a> {
    pub centred: bool,
    pub eps: f64,
    pub weight: Option<&'a [f64]>,
}

impl Norm<'_> {
    /// The normalised row, 1 over what it was divided by, and the largest |x| over that.
    fn normalised<E: Element>(&self, x: &[E]) -> (Vec<DoubleDouble>, DoubleDouble, f64) {
        let wide: Vec<DoubleDouble> = x.iter().map(|x| x.widen().into()).collect();
        let (zero, n) = (DoubleDouble::from(0.0), DoubleDouble::from(x.len() as f64));
        let mean = if self.centred { wide.iter().fold(zero, |sum, &x| sum + x) / n } else { zero };
        let d: Vec<DoubleDouble> = wide.into_iter().map(|x| x - mean).collect();
        let root = (d.iter().fold(zero, |sum, &d| sum + d * d) / n + DoubleDouble::from(self.eps)).sqrt();
        if root == zero {
            return (vec![zero; x.len()], zero, 0.0);
        }
        let largest = x.iter().fold(0.0f64, |a, x| a.max(x.widen().abs()));
        let ratio = if self.centred { (DoubleDouble::from(largest) / root).to_f64() } else { 0.0 };
        (d.into_iter().map(|d| d / root).collect(), DoubleDouble::from(1.0) / root, ratio)
    }

    /// The magnitude whose ULPs stand for what the mean of a normalised row is off by, which shows in results near zero.
    pub fn mean_error<E: Element>(&self, x: &[E]) -> f64 {
        let (.., ratio) = self.normalised(x);
        match E::DTYPE {
            DType::F64 => f64::max(1.0, ratio * 2f64.powi(-54)),
            DType::F32 => ratio * 2f64.powi(-17),
            DType::F16 | DType::BF16 => ratio * 2f64.powi(-33),
        }
    }

    /// For each element of dx the largest of the terms that it is the sum of.
    pub fn terms<E: Element>(&self, x: &[E], dy: &[E]) -> Vec<f64> {
        let (n, inverse, _) = self.normalised(x);
        let (h, mean, along) = self.magnitudes(&n, dy);
        let largest = |a: DoubleDouble, b: DoubleDouble| if b > a { b } else { a };
        let of =
            |(&h, &n): (&DoubleDouble, &DoubleDouble)| (largest(largest(h, mean), n.abs() * along) * inverse).to_f64();
        h.iter().zip(&n).map(of).collect()
    }

    /// What elements of dx may be off by because the largest |x| is far above the deviation, as the op's page says.
    pub fn far_error<E: Element>(&self, x: &[E], dy: &[E]) -> f64 {
        let (n, inverse, ratio) = self.normalised(x);
        let (_, mean, along) = self.magnitudes(&n, dy);
        let part = if E::DTYPE == DType::F64 { 2f64.powi(-100) } else { 2f64.powi(-50) };
        ((mean + along) * inverse * DoubleDouble::from(ratio * part)).to_f64()
    }

    /// |h|, the mean of |h| if that is taken off, and the mean of |h n|.
    fn magnitudes<E: Element>(&self, n: &[DoubleDouble], dy: &[E]) -> (Vec<DoubleDouble>, DoubleDouble, DoubleDouble) {
        let weight = |i: usize| DoubleDouble::from(self.weight.map_or(1.0, |w| w[i]));
        let h: Vec<DoubleDouble> =
            dy.iter().enumerate().map(|(i, dy)| (DoubleDouble::from(dy.widen()) * weight(i)).abs()).collect();
        let (zero, count) = (DoubleDouble::from(0.0), DoubleDouble::from(n.len() as f64));
        let mean = if self.centred { h.iter().fold(zero, |sum, &h| sum + h) / count } else { zero };
        let along = h.iter().zip(n).fold(zero, |sum, (&h, &n)| sum + h * n.abs()) / count;
        (h, mean, along)
    }

    /// For each column the sums over rows of |dy n| and of |dy|.
    pub fn column_terms<E: Element>(&self, x: &[E], dy: &[E], cols: usize) -> [Vec<f64>; 2] {
        let mut terms = [vec![0.0; cols], vec![0.0; cols]];
        for (x, dy) in x.chunks(cols).zip(dy.chunks(cols)) {
            let (n, ..) = self.normalised(x);
            for (i, dy) in dy.iter().enumerate() {
                terms[0][i] += (n[i].abs() * DoubleDouble::from(dy.widen().abs())).to_f64();
                terms[1][i] += dy.widen().abs();
            }
        }
        terms
    }
}

/// The sums of dy down each column.
pub fn column_sums<E: Element>(dy: &[E], cols: usize) -> Vec<E::Exact> {
    let mut sums = vec![DoubleDouble::from(0.0); cols];
    for row in dy.chunks(cols) {
        for (sum, dy) in sums.iter_mut().zip(row) {
            *sum = *sum + DoubleDouble::from(dy.widen());
        }
    }
    sums.into_iter().map(E::Exact::from_double_double).collect()
}

/// Rule O down each column of a matrix.
pub fn rule_o_down(terms: &[f64], cols: usize) -> Vec<f64> {
    (0..cols).map(|j| rule_o(&terms.iter().skip(j).step_by(cols).copied().collect::<Vec<_>>())).collect()
}

/// Fails unless a computation gives the same bits on every instruction set and number of threads.
pub fn assert_threads_agree<E: Element>(what: &str, run: impl Fn() -> Vec<E> + Sync) {
    let expected = with_level(Level::Portable, &run).unwrap();
    for level in Level::ALL.into_iter().filter(|level| level.is_available()) {
        for threads in [1, 2, 3] {
            let got = on_threads(threads, level, &run);
            assert_same_bits(&format!("{what}, {threads} threads, {level}"), &got, &expected);
        }
    }
}

/// Checks sums over rows, in ULPs of the sums of their magnitudes.
pub fn check_columns<E: Element>(checker: &Checker, what: &str, got: &[E], exact: &[E::Exact], terms: &[f64]) {
    checker.check_terms(what, &[], got, exact, |i| terms[i]);
}
