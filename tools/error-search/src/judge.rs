//! How far results are off, as a share of the bound that `evenkeel::accuracy` states.

use crate::case::Case;
use crate::spec::Spec;
use evenkeel::reference::Real;
use evenkeel::testing::ulp;
use evenkeel::{DType, Element, accuracy};

/// An op under search.
pub struct Op {
    /// Its name in the accuracy table.
    pub name: &'static str,
    /// The family by which it is chosen.
    pub family: &'static str,
    /// The types that are searched: those whose bound is not decided by an exhaustive test.
    pub dtypes: &'static [DType],
    /// What its candidates are made of.
    pub spec: fn(DType) -> Spec,
    /// The worst result of a candidate; nothing for one that the bound does not cover.
    pub judge: fn(&Case, Precision) -> Option<Verdict>,
}

/// The arithmetic of the expected results.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Precision {
    /// About 100 bits, fast, by formulas of this program.
    Fast,
    /// `evenkeel::reference` in [`DoubleDouble`](evenkeel::reference::DoubleDouble), which decides.
    Slow,
}

/// The result that is furthest off.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Verdict {
    /// Its error over the bound.
    pub ratio: f64,
    /// Its error in the bound's unit.
    pub error: f64,
    /// The bound.
    pub bound: f64,
    /// Its place among the results.
    pub index: usize,
    /// The result.
    pub got: f64,
    /// The expected result.
    pub exact: f64,
}

impl Verdict {
    /// The one that is further off.
    pub fn worse(self, other: Option<Self>) -> Self {
        match other {
            Some(other) if other.ratio > self.ratio => other,
            _ => self,
        }
    }
}

/// The bound of the table.
pub fn bound<E: Element>(op: &str) -> f64 {
    accuracy::bound(op, E::DTYPE).map_or(0.0, |bound| bound.ulps)
}

/// Finds the worst of some results. `at` is the magnitude that a result's unit is taken at, beside its own.
pub fn worst<E: Element, R: Real>(got: &[E], exact: &[R], bound: f64, at: impl Fn(usize) -> f64) -> Option<Verdict> {
    worst_besides(got, exact, bound, at, |_| 0.0)
}

/// The same where `besides` is an absolute error that the op's page allows a result besides the bound.
pub fn worst_besides<E: Element, R: Real>(
    got: &[E],
    exact: &[R],
    bound: f64,
    at: impl Fn(usize) -> f64,
    besides: impl Fn(usize) -> f64,
) -> Option<Verdict> {
    let verdict = |index: usize| {
        let (got, exact) = (got[index], exact[index]);
        let own = ulp::toward_zero(exact);
        let at = if own.is_finite() { at(index).max(own) } else { own };
        let error = if got.widen() == 0.0 && exact == R::from(0.0) {
            // Zero for zero: there is no unit.
            0.0
        } else if at <= E::LIMITS.max || own.is_infinite() {
            (ulp::error_at(got, exact, at) - besides(index) / ulp::size::<E>(at)).max(0.0)
        } else if at.is_finite() {
            // As if the type had more exponents: a result beyond it stands for its largest value.
            let unit = 2f64.powf(at.log2().floor()) * E::LIMITS.epsilon;
            let within = |value: f64| value.clamp(-E::LIMITS.max, E::LIMITS.max);
            (within(got.widen()) - within(exact.to_f64())).abs() / unit
        } else {
            // Of terms beyond f64 the result may be anything.
            0.0
        };
        Verdict { ratio: error / bound, error, bound, index, got: got.widen(), exact: exact.to_f64() }
    };
    (0..got.len()).map(verdict).reduce(|worst, next| worst.worse(Some(next)))
}

/// The part of a weight that counts among the terms of a centred norm: what the mean of a row may be off by.
pub fn mean_term<E: Element>(row: &[E]) -> f64 {
    match E::DTYPE {
        DType::F64 => 1.0,
        _ if sum_is_exact(row) => 0.0,
        DType::F32 => 2f64.powi(-8),
        _ => 2f64.powi(-24),
    }
}

/// Whether f64 holds every partial sum: all elements are multiples of a unit, and their magnitudes add up to at most 2^53 of it.
fn sum_is_exact<E: Element>(row: &[E]) -> bool {
    let lowest_bit = |v: f64| {
        let fraction = v.to_bits() & ((1 << 52) - 1) | 1 << 52;
        (v.to_bits() >> 52 & 0x7ff) as i32 - 1075 + fraction.trailing_zeros() as i32
    };
    let values = || row.iter().map(|x| x.widen()).filter(|v| *v != 0.0);
    let Some(unit) = values().map(lowest_bit).min() else { return true };
    let magnitudes: f64 = values().map(f64::abs).sum();
    magnitudes.log2() + 1e-9 <= f64::from(53 + unit)
}

/// The same of a loss in f64, whose unit is that of f32, unless the operands are f64; then half a unit is left for what
/// rounding it to f32 takes. `besides` is what the op's page adds to the bound, and an absolute error that it allows.
pub fn of_loss<E: Element, R: Real>(op: &str, got: f64, exact: R, at: f64, besides: [f64; 2]) -> Option<Verdict> {
    let at = ulp::toward_zero(exact).max(at);
    let unit = match E::DTYPE {
        DType::F64 => ulp::size::<f64>(at),
        _ if at.is_finite() && at > f64::from(f32::MAX) => {
            ulp::size::<f64>(at) * f64::from(f32::EPSILON) / f64::EPSILON
        }
        _ => ulp::size::<f32>(at),
    };
    let bound = bound::<E>(op) + besides[0];
    let rounding = if E::DTYPE == DType::F64 { 0.0 } else { 0.5 };
    let off = ((R::from(got) - exact) / R::from(unit)).to_f64().abs();
    let off = (off - besides[1] / unit).max(0.0) + rounding;
    let error = if got == exact.to_f64() || (got.is_nan() && exact.is_nan()) { rounding.min(off) } else { off };
    let error = if error.is_nan() { f64::INFINITY } else { error };
    Some(Verdict { ratio: error / bound, error, bound, index: 0, got, exact: exact.to_f64() })
}

/// Whether numbers of f64 stay where [`Twofold`](crate::twofold::Twofold) has all its digits.
pub fn is_moderate(dtype: DType, values: impl IntoIterator<Item = f64>) -> bool {
    dtype != DType::F64 || values.into_iter().all(|v| v == 0.0 || (1e-60..1e60).contains(&v.abs()))
}
