//! Functions of one element over flat slices.
//!
//! Each function has an f64 computation, which gives a high and a low part; their sum is rounded once. Results in f32,
//! f16 and bf16 are correctly rounded, so every machine gives the same bits.
//!
//! Many functions also have a faster computation: in pairs of f32 and, for f16 and bf16, in single f32s. Elements whose
//! rounding remains uncertain are computed again in f64. The f64 result is rounded to odd, so that one kernel serves
//! f32, f16 and bf16.

mod flat;
mod kernels;

pub use flat::{ROW, SliceIo, apply, apply_in_place};

use crate::element::Element;
use crate::math::exp::exp;
use crate::math::log::log;
use crate::math::sigmoid::sigmoid;
use crate::math::wide::Wide;
use crate::math::{self, exp_pair, exp2_pair, log_pair, log2_pair, normal_pair, short, sigmoid_pair, softplus_pair};
use crate::simd::{Float, Isa};

/// Function of one number.
pub trait Function: Copy + Sync {
    /// Whether the function can be computed in pairs of f32, which is faster; see [`Function::pair`].
    const HAS_PAIR: bool = false;

    /// Returns a bound on each side of the value, both rounded to f32. Where the two bounds have the same bits, they
    /// are the correctly rounded result. Must be `#[inline(always)]`, like everything it calls.
    #[inline(always)]
    fn pair<I: Isa>(self, _: I, x: I::F32) -> [I::F32; 2] {
        [x, x]
    }

    /// Returns the lanes for which [`Function::pair`] is valid; its bounds are never NaN there.
    #[inline(always)]
    fn serves<I: Isa>(self, _: I, x: I::F32) -> I::M32 {
        x.eq(x)
    }

    /// Bound on the error of [`Function::short`] in ULP of f32: a power of two, or 0 if `short` is not implemented.
    const SHORT_ULPS: i32 = 0;

    /// Computes the value in single f32s, for 16-bit types.
    #[inline(always)]
    fn short<I: Isa>(self, _: I, x: I::F32) -> I::F32 {
        x
    }

    /// Returns the lanes for which [`Function::short`] is valid; its value is never NaN there.
    #[inline(always)]
    fn short_serves<I: Isa>(self, _: I, x: I::F32) -> I::M32 {
        x.eq(x)
    }

    /// Returns the value for any x, ready to be rounded to `E` or a narrower type. Must be `#[inline(always)]`, like
    /// everything it calls.
    fn eval<I: Isa, E: Element>(self, isa: I, x: I::F64) -> Wide<I>;
}

/// Declares functions without parameters. Each line has the f64 computation and, optionally, the computation in pairs
/// of f32 with its test for valid inputs. The computation in single f32s may follow, with its test and its error.
macro_rules! functions {
    ($($(#[doc = $doc:literal])* $name:ident: |$isa:ident, $x:ident| $value:expr $(, $pair:path, $serves:path)? $(=> $short:path, $short_serves:path, $ulps:literal)?;)*) => {$(
        $(#[doc = $doc])*
        #[derive(Clone, Copy)]
        pub struct $name;

        impl Function for $name {
            $(
                const HAS_PAIR: bool = true;

                #[inline(always)]
                fn pair<I: Isa>(self, isa: I, x: I::F32) -> [I::F32; 2] {
                    $pair(isa, x)
                }

                #[inline(always)]
                fn serves<I: Isa>(self, isa: I, x: I::F32) -> I::M32 {
                    $serves(isa, x)
                }
            )?
            $(
                const SHORT_ULPS: i32 = $ulps;

                #[inline(always)]
                fn short<I: Isa>(self, isa: I, x: I::F32) -> I::F32 {
                    $short(isa, x)
                }

                #[inline(always)]
                fn short_serves<I: Isa>(self, isa: I, x: I::F32) -> I::M32 {
                    $short_serves(isa, x)
                }
            )?

            #[inline(always)]
            fn eval<I: Isa, E: Element>(self, $isa: I, $x: I::F64) -> Wide<I> {
                $value
            }
        }
    )*};
}
functions! {
    /// e^x.
    Exp: |isa, x| exp::<I, E>(isa, x), exp_pair::exp, exp_pair::serves => short::exp, exp_pair::serves, 8;
    /// 2^x.
    Exp2: |isa, x| math::exp2::exp2::<I, E>(isa, x), exp2_pair::exp2, exp2_pair::serves => short::exp2, exp2_pair::serves, 8;
    /// e^x - 1.
    Expm1: |isa, x| math::expm1::expm1::<I, E>(isa, x);
    /// ln x.
    Log: |isa, x| log(isa, x), log_pair::log, log_pair::serves => short::log, log_pair::serves, 8;
    /// log2 x.
    Log2: |isa, x| math::log2::log2(isa, x), log2_pair::log2, log_pair::serves => short::log2, log_pair::serves, 8;
    /// ln(1 + x).
    Log1p: |isa, x| math::log1p::log1p(isa, x);
    /// 1 / x.
    Reciprocal: |isa, x| math::reciprocal::reciprocal(isa, x), math::reciprocal::reciprocal_pair, is_number;
    /// sqrt x.
    Sqrt: |isa, x| math::sqrt::sqrt(isa, x), math::sqrt::sqrt_pair, math::sqrt::sqrt_serves;
    /// 1 / sqrt(x).
    Rsqrt: |isa, x| math::sqrt::rsqrt::<I, E>(isa, x), math::sqrt::rsqrt_pair, math::sqrt::rsqrt_serves => short::rsqrt, math::sqrt::rsqrt_serves, 2;
    /// tanh x.
    Tanh: |isa, x| math::tanh::tanh_wide(isa, x), math::tanh_pair::tanh, is_number => short::tanh, is_number, 8;
    /// 1 / (1 + e^-x).
    Sigmoid: |isa, x| sigmoid::<I, E>(isa, x), sigmoid_pair::sigmoid, sigmoid_pair::serves => short::sigmoid, sigmoid_pair::serves, 8;
    /// -ln(1 + e^-x).
    LogSigmoid: |isa, x| math::softplus::log_sigmoid::<I, E>(isa, x), softplus_pair::log_sigmoid, softplus_pair::log_sigmoid_serves => short::log_sigmoid, short::log_sigmoid_serves, 8;
    /// ln(1 + e^x).
    Softplus: |isa, x| math::softplus::softplus::<I, E>(isa, x), softplus_pair::softplus, softplus_pair::serves => short::softplus, short::softplus_serves, 8;
    /// x / (1 + e^-x).
    Silu: |isa, x| math::sigmoid::silu::<I, E>(isa, x), sigmoid_pair::silu, sigmoid_pair::silu_serves => short::silu, sigmoid_pair::silu_serves, 8;
    /// erf x.
    Erf: |isa, x| math::erf::erf(isa, x), normal_pair::erf, is_number => short::erf, is_number, 8;
    /// x (1 + erf(x / sqrt(2))) / 2.
    Gelu: |isa, x| math::gelu::gelu::<I, E>(isa, x), normal_pair::gelu, normal_pair::gelu_serves => short::gelu, normal_pair::gelu_serves, 16;
    /// x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))) / 2.
    GeluTanh: |isa, x| math::gelu_tanh::gelu_tanh::<I, E>(isa, x), sigmoid_pair::gelu_tanh, sigmoid_pair::gelu_tanh_serves => short::gelu_tanh, short::gelu_tanh_serves, 32;
}

/// Returns the lanes that are not NaN. This is [`Function::serves`] for functions whose [`Function::pair`] accepts
/// every number.
#[inline(always)]
fn is_number<I: Isa>(_: I, x: I::F32) -> I::M32 {
    x.eq(x)
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
        // Rounds each bound to f32, inwards if f32 cannot represent it.
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
