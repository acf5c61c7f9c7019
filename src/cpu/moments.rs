//! Means and mean squares of a row, and what to multiply with to undo them.

use crate::element::{DType, Element};
use crate::math::sum::sum_o;
use crate::report::Counts;
use crate::simd::{Float, Isa, LANES, Select, block, fold};

/// How a row is normalised: see [`Moments::normalise`].
#[derive(Clone, Copy, Default)]
pub struct Moments {
    /// A power of two that brings rows of f64 to where squares neither overflow nor vanish.
    unit: f64,
    mean: f64,
    /// What the mean was off by, for rows of f64.
    mean_low: f64,
    /// 1 / sqrt(variance + eps), or 1 / sqrt(mean square + eps); 0 where that is 0, which gives zeros.
    scale: f64,
    /// The mean square; not finite where the row is not.
    square: f64,
}

impl Moments {
    /// For RMSNorm: no mean.
    #[inline(always)]
    pub fn rms<I: Isa, E: Element>(isa: I, x: &[E], eps: f64) -> Self {
        let unit = unit(isa, x, eps.sqrt());
        let square = sum_of_squares(isa, x, unit) / x.len() as f64;
        Moments { unit, mean: 0.0, mean_low: 0.0, scale: scale(square, eps * unit * unit), square }
    }

    /// For the division by the Euclidean norm, or by eps where that is larger.
    #[inline(always)]
    pub fn l2<I: Isa, E: Element>(isa: I, x: &[E], eps: f64) -> Self {
        let unit = unit(isa, x, eps);
        let square = sum_of_squares(isa, x, unit);
        let (norm, eps) = (square.sqrt(), eps * unit);
        let divisor = if norm < eps { eps } else { norm };
        // Of zeros, with an eps that is 0 or has no reciprocal.
        let inverse = 1.0 / divisor;
        let scale = if inverse.is_infinite() { 0.0 } else { inverse };
        Moments { unit, mean: 0.0, mean_low: 0.0, scale, square }
    }

    /// For LayerNorm: the variance about the mean, both over all n elements.
    #[inline(always)]
    pub fn layer<I: Isa, E: Element>(isa: I, x: &[E], eps: f64) -> Self {
        let n = x.len() as f64;
        let unit = unit(isa, x, eps.sqrt());
        let total = sum(
            isa,
            x,
            #[inline(always)]
            |v| in_units::<I, E>(isa, v, unit),
        );
        let mean = isa.f64(total / n);
        // The mean of narrower types is as good as exact; an f64 mean is off by what the rest averages to.
        let rest = if E::DTYPE == DType::F64 {
            let about_mean = sum(
                isa,
                x,
                #[inline(always)]
                |v| in_units::<I, E>(isa, v, unit) - mean,
            );
            about_mean / n
        } else {
            0.0
        };
        let mean_low = isa.f64(rest);
        let square = sum(
            isa,
            x,
            #[inline(always)]
            |v| {
                let d = from_mean::<I, E>(in_units::<I, E>(isa, v, unit), mean, mean_low);
                d * d
            },
        ) / n;
        Moments { unit, mean: total / n, mean_low: rest, scale: scale(square, eps * unit * unit), square }
    }

    /// `(v * unit - mean) * scale`, for RMSNorm without the mean.
    #[inline(always)]
    pub fn normalise<I: Isa, E: Element, const MEAN: bool>(&self, isa: I, v: I::F64) -> I::F64 {
        let v = in_units::<I, E>(isa, v, self.unit);
        let v = if MEAN { from_mean::<I, E>(v, isa.f64(self.mean), isa.f64(self.mean_low)) } else { v };
        v * isa.f64(self.scale)
    }

    /// What the row was multiplied with, in units: see [`Moments::out_of_units`].
    pub fn scale(&self) -> f64 {
        self.scale
    }

    /// Two powers of two: with them and the scale a number in units of 2^exponent, such as a gradient, is multiplied
    /// as the row was.
    pub fn out_of_units(&self, exponent: i32) -> [f64; 2] {
        // Beyond 2^2000 all that is not 0 overflows or vanishes.
        let exponent = ((self.unit.to_bits() >> 52) as i32 - 1023 + exponent).clamp(-2000, 2000);
        [power_of_two(exponent / 2), power_of_two(exponent - exponent / 2)]
    }

    /// Whether the row is finite.
    pub fn is_finite(&self) -> bool {
        self.square.is_finite()
    }

    /// Adds a row that is not finite to the counts.
    #[inline(always)]
    pub fn count(&self, counts: &mut Counts) {
        if self.mean.is_infinite() || self.square.is_infinite() {
            counts.infinite += 1;
        } else if self.square.is_nan() {
            counts.nan += 1;
        }
    }
}

/// 2^exponent, for those that are normal.
#[inline(always)]
pub fn power_of_two(exponent: i32) -> f64 {
    f64::from_bits(((exponent + 1023) as u64) << 52)
}

#[inline(always)]
fn in_units<I: Isa, E: Element>(isa: I, v: I::F64, unit: f64) -> I::F64 {
    if E::DTYPE == DType::F64 { v * isa.f64(unit) } else { v }
}

#[inline(always)]
fn from_mean<I: Isa, E: Element>(v: I::F64, mean: I::F64, mean_low: I::F64) -> I::F64 {
    if E::DTYPE == DType::F64 { v - mean - mean_low } else { v - mean }
}

#[inline(always)]
fn scale(square: f64, eps: f64) -> f64 {
    let root = (square + eps).sqrt();
    if root == 0.0 { 0.0 } else { 1.0 / root }
}

/// The power of two that rows of f64 are multiplied with: 1 unless their largest magnitude, or what stands beside it,
/// is where squares would overflow or vanish. The squares of narrower types always fit f64.
#[inline(always)]
fn unit<I: Isa, E: Element>(isa: I, x: &[E], beside: f64) -> f64 {
    if E::DTYPE != DType::F64 {
        return 1.0;
    }
    let largest = fold(
        x,
        E::ZERO,
        isa.f64(beside),
        #[inline(always)]
        |largest, _, values| E::load_wide(isa, values).abs().max(largest),
    );
    let largest = isa.array_f64(largest).into_iter().fold(0.0f64, |a, b| if b > a { b } else { a });
    unit_for(largest)
}

/// The power of two that brings f64 numbers of which this is the largest magnitude to where squares and sums neither
/// overflow nor vanish; 1 where they are already.
#[inline(always)]
pub fn unit_for(largest: f64) -> f64 {
    let exponent = (largest.to_bits() >> 52) as i32 - 1023;
    if largest == 0.0 || exponent.abs() <= 400 || largest.is_infinite() {
        return 1.0;
    }
    power_of_two(-exponent.clamp(-1000, 1000))
}

/// Rule O over the squares of the elements in units.
#[inline(always)]
fn sum_of_squares<I: Isa, E: Element>(isa: I, x: &[E], unit: f64) -> f64 {
    sum(
        isa,
        x,
        #[inline(always)]
        |v| {
            let v = in_units::<I, E>(isa, v, unit);
            v * v
        },
    )
}

/// Rule O over `f` of the elements.
#[inline(always)]
fn sum<I: Isa, E: Element>(isa: I, x: &[E], f: impl Fn(I::F64) -> I::F64) -> f64 {
    sum_o(
        isa,
        x.len(),
        #[inline(always)]
        |i| {
            let v = f(E::load_wide(isa, &block(x, i, E::ZERO)));
            let left = x.len().saturating_sub(i * LANES);
            if left >= LANES { v } else { I::F64::select(isa.mask_wide((1 << left) - 1), v, isa.f64(0.0)) }
        },
    )
}
