//! Functions of one element over flat slices.
//!
//! Each function has an f64 computation, which gives a high and a low part; their sum is rounded once. Results in f32,
//! f16 and bf16 are correctly rounded, so every machine gives the same bits.
//!
//! For f32, many functions also have a faster computation in pairs of f32. Elements whose rounding remains uncertain
//! are computed again in f64. An inexact f64 result is rounded to the neighbouring f64 whose last bit is 1 (to odd). A
//! second rounding to f32, f16 or bf16 is then correct. So one kernel serves all three types.
//!
//! In f16 and bf16, functions without parameters are computed in f64 until their results can be read from a table (see
//! [`Tables`]). [`ClampedExp`] and [`ClampedLog`] are computed as for f32.

mod flat;
mod functions;
mod kernels;
mod tables;

pub use flat::{ROW, SliceIo, apply, apply_in_place};
pub use functions::*;
pub use kernels::AHEAD;
pub use tables::Tables;

use crate::element::Element;
use crate::math::exp::exp;
use crate::math::log::log;
use crate::math::wide::Wide;
use crate::math::{exp_pair, log_pair};
use crate::simd::{Float, Isa};

/// Function of one number.
pub trait Function: Copy + Sync {
    /// Whether the function can be computed in pairs of f32, which is faster; see [`Function::pair`].
    const HAS_PAIR: bool = false;

    /// Returns two bounds of the value, one above and one below it, each rounded to f32. Where the bounds have equal
    /// bits, these bits are the correctly rounded result. Must be `#[inline(always)]`, like everything it calls.
    #[inline(always)]
    fn pair<I: Isa>(self, _: I, x: I::F32) -> [I::F32; 2] {
        [x, x]
    }

    /// Returns the lanes for which [`Function::pair`] is valid. In these lanes, the bounds are never NaN.
    #[inline(always)]
    fn serves<I: Isa>(self, _: I, x: I::F32) -> I::M32 {
        x.eq(x)
    }

    /// Whether [`Function::tables`] returns tables.
    const HAS_TABLES: bool = false;

    /// Returns the tables for 16-bit types.
    fn tables() -> Option<&'static Tables> {
        None
    }

    /// Returns the value for any x, ready to be rounded to `E` or a narrower type. Must be `#[inline(always)]`, like
    /// everything it calls.
    fn eval<I: Isa, E: Element>(self, isa: I, x: I::F64) -> Wide<I>;
}

/// e^x, with x clamped to `min..=max`.
#[derive(Clone, Copy)]
pub struct ClampedExp {
    pub min: f64,
    pub max: f64,
}
/// ln x, with x raised to at least `floor`.
#[derive(Clone, Copy)]
pub struct ClampedLog {
    pub floor: f64,
}

impl Function for ClampedExp {
    const HAS_PAIR: bool = true;

    #[inline(always)]
    fn pair<I: Isa>(self, isa: I, x: I::F32) -> [I::F32; 2] {
        exp_pair::exp(isa, x)
    }

    #[inline(always)]
    fn serves<I: Isa>(self, isa: I, x: I::F32) -> I::M32 {
        // Rounds `min` and `max` to f32. A limit that f32 cannot represent is rounded towards the inside of the range.
        let (min, max) = (self.min as f32, self.max as f32);
        let min = if f64::from(min) < self.min { min.next_up() } else { min };
        let max = if f64::from(max) > self.max { max.next_down() } else { max };
        exp_pair::serves(isa, x) & isa.f32(min).le(x) & x.le(isa.f32(max))
    }

    #[inline(always)]
    fn eval<I: Isa, E: Element>(self, isa: I, x: I::F64) -> Wide<I> {
        exp::<I, E>(isa, isa.f64(self.max).min(isa.f64(self.min).max(x)))
    }
}

impl Function for ClampedLog {
    const HAS_PAIR: bool = true;

    #[inline(always)]
    fn pair<I: Isa>(self, isa: I, x: I::F32) -> [I::F32; 2] {
        log_pair::log(isa, x)
    }

    #[inline(always)]
    fn serves<I: Isa>(self, isa: I, x: I::F32) -> I::M32 {
        let floor = self.floor as f32;
        let floor = if f64::from(floor) < self.floor { floor.next_up() } else { floor };
        log_pair::serves(isa, x) & isa.f32(floor).le(x)
    }

    #[inline(always)]
    fn eval<I: Isa, E: Element>(self, isa: I, x: I::F64) -> Wide<I> {
        log(isa, isa.f64(self.floor).max(x))
    }
}

#[cfg(test)]
mod tests;
