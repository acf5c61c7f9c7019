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

/// Finds the worst of some results. `at` is the magnitude that a result's unit is taken at, beside its own, and `aside` an
/// absolute error that the op's page allows besides.
pub fn worst<E: Element, R: Real>(
    got: &[E],
    exact: &[R],
    bound: f64,
    at: impl Fn(usize) -> f64,
    aside: impl Fn(usize) -> f64,
) -> Option<Verdict> {
    let verdict = |index: usize| {
        let exact = exact[index];
        let own = ulp::toward_zero(exact);
        let at = if own.is_finite() { at(index).max(own) } else { own };
        // Of terms beyond the type the result may be anything.
        if at > E::LIMITS.max && own <= E::LIMITS.max {
            return Verdict { ratio: 0.0, error: 0.0, bound, index, got: got[index].widen(), exact: exact.to_f64() };
        }
        let mut error = ulp::error_at(got[index], exact, at);
        let aside = aside(index);
        if aside > 0.0 && error.is_finite() {
            error = (error - aside / ulp::size::<E>(at)).max(0.0);
        }
        // Zero for zero: there is no unit.
        let error = if got[index].widen() == 0.0 && exact == R::from(0.0) { 0.0 } else { error };
        Verdict { ratio: error / bound, error, bound, index, got: got[index].widen(), exact: exact.to_f64() }
    };
    (0..got.len()).map(verdict).reduce(|worst, next| worst.worse(Some(next)))
}

/// The same of a loss in f64, whose unit is that of f32, unless the operands are f64; then half a unit is left for what
/// rounding it to f32 takes.
pub fn of_loss<E: Element, R: Real>(op: &str, got: f64, exact: R, at: f64) -> Option<Verdict> {
    let at = ulp::toward_zero(exact).max(at);
    let unit = match E::DTYPE {
        DType::F64 => ulp::size::<f64>(at),
        _ if at.is_finite() && at > f64::from(f32::MAX) => {
            ulp::size::<f64>(at) * f64::from(f32::EPSILON) / f64::EPSILON
        }
        _ => ulp::size::<f32>(at),
    };
    let bound = bound::<E>(op);
    let rounding = if E::DTYPE == DType::F64 { 0.0 } else { 0.5 };
    let off = ((R::from(got) - exact) / R::from(unit)).to_f64().abs() + rounding;
    let error = if got == exact.to_f64() || (got.is_nan() && exact.is_nan()) { rounding.min(off) } else { off };
    let error = if error.is_nan() { f64::INFINITY } else { error };
    Some(Verdict { ratio: error / bound, error, bound, index: 0, got, exact: exact.to_f64() })
}

/// Whether numbers of f64 stay where [`Twofold`](crate::twofold::Twofold) has all its digits.
pub fn is_moderate(dtype: DType, values: impl IntoIterator<Item = f64>) -> bool {
    dtype != DType::F64 || values.into_iter().all(|v| v == 0.0 || (1e-60..1e60).contains(&v.abs()))
}
