//! Errors of results as a fraction of the bound in `evenkeel::accuracy`.

use crate::case::Case;
use crate::spec::Spec;
use evenkeel::reference::Real;
use evenkeel::testing::ulp;
use evenkeel::{DType, Element, accuracy};

/// Op under search.
pub struct Op {
    /// Name in the accuracy table.
    pub name: &'static str,
    /// Family, a value of `--family`.
    pub family: &'static str,
    /// Storage types to search. Exhaustive tests cover the bounds of the other types.
    pub dtypes: &'static [DType],
    /// Returns which inputs the search may choose for a storage type.
    pub spec: fn(DType) -> Spec,
    /// Returns the worst result of a candidate, or `None` if the bound does not cover the candidate.
    pub judge: fn(&Case, Precision) -> Option<Verdict>,
}

/// Arithmetic of the expected results.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Precision {
    /// Arithmetic of about 100 bits. It is fast, and uses this program's formulas.
    Fast,
    /// The functions of `evenkeel::reference` in [`DoubleDouble`](evenkeel::reference::DoubleDouble). A verdict in this
    /// arithmetic is final.
    Slow,
}

/// Verdict on the result with the largest error.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Verdict {
    /// Ratio of the error to the bound.
    pub ratio: f64,
    /// Error in ULP.
    pub error: f64,
    /// Error bound in ULP.
    pub bound: f64,
    /// Index of the result.
    pub index: usize,
    /// Computed result.
    pub got: f64,
    /// Expected result.
    pub exact: f64,
}

impl Verdict {
    /// Returns the verdict with the larger ratio.
    pub fn worse(self, other: Option<Self>) -> Self {
        match other {
            Some(other) if other.ratio > self.ratio => other,
            _ => self,
        }
    }
}

/// Returns an op's error bound in ULP, from the accuracy table.
pub fn bound<E: Element>(op: &str) -> f64 {
    accuracy::bound(op, E::DTYPE).map_or(0.0, |bound| bound.ulps)
}

/// Returns the verdict on the worst of the results. The unit of error is the ULP of the exact result or of the
/// magnitude that `at` returns for the result's index, whichever is larger.
pub fn worst<E: Element, R: Real>(got: &[E], exact: &[R], bound: f64, at: impl Fn(usize) -> f64) -> Option<Verdict> {
    worst_besides(got, exact, bound, at, |_| 0.0)
}

/// Returns the verdict on the worst of the results, as [`worst`] does. The function `besides` takes the index of a
/// result, and returns an additional absolute error that the op's documentation allows.
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
            // If the result and the exact result are both zero, the error is zero, and no unit is needed.
            0.0
        } else if at <= E::LIMITS.max || own.is_infinite() {
            (ulp::error_at(got, exact, at) - besides(index) / ulp::size::<E>(at)).max(0.0)
        } else if at.is_finite() {
            // The magnitude `at` exceeds the type's range, so the unit is computed as if the exponent had no upper
            // limit. Results beyond the range count as the type's largest value.
            let unit = 2f64.powf(at.log2().floor()) * E::LIMITS.epsilon;
            let within = |value: f64| value.clamp(-E::LIMITS.max, E::LIMITS.max);
            (within(got.widen()) - within(exact.to_f64())).abs() / unit
        } else {
            // If terms exceed the range of f64, any result is allowed.
            0.0
        };
        Verdict { ratio: error / bound, error, bound, index, got: got.widen(), exact: exact.to_f64() }
    };
    (0..got.len()).map(verdict).reduce(|worst, next| worst.worse(Some(next)))
}

/// Returns a lower limit for the magnitude of normalised elements. The unit of error of a centred norm is computed as
/// if no element were smaller than this limit. The limit accounts for the error of the mean.
pub fn mean_term<E: Element>(row: &[E]) -> f64 {
    match E::DTYPE {
        DType::F64 => 1.0,
        _ if sum_is_exact(row) => 0.0,
        DType::F32 => 2f64.powi(-8),
        _ => 2f64.powi(-24),
    }
}

/// Returns whether f64 holds every partial sum exactly. This is the case if all elements are multiples of a unit, and
/// the sum of their magnitudes is at most 2^53 units.
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

/// Judges a loss. Unless the operands are f64, the unit of error is the ULP of f32, and 0.5 ULP is added to the error
/// for the rounding to f32. The first number in `besides` is added to the bound. The second is an absolute error that
/// the op's documentation allows.
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

/// Returns whether all numbers are in the range where [`Twofold`](crate::twofold::Twofold) has full precision.
/// Numbers of types other than f64 are always in this range.
pub fn is_moderate(dtype: DType, values: impl IntoIterator<Item = f64>) -> bool {
    dtype != DType::F64 || values.into_iter().all(|v| v == 0.0 || (1e-60..1e60).contains(&v.abs()))
}
