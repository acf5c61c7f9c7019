//! The list of functions without parameters, and the list of their derivatives.

use super::{Function, Tables};
use crate::cpu::elementwise_backward::{Each, Product};
use crate::element::Element;
use crate::math::exp::exp;
use crate::math::log::log;
use crate::math::sigmoid::sigmoid;
use crate::math::wide::Wide;
use crate::math::{
    self, derivative, erf_pair, exp_pair, exp2, exp2_pair, gelu, gelu_pair, gelu_tanh, log_pair, log2_pair, reciprocal,
    sigmoid_pair, softplus_pair,
};
use crate::simd::{Float, Isa, Select};
use std::marker::PhantomData;

/// Declares functions without parameters. Each line begins with the computation in f64. A faster computation in pairs
/// of f32 is optional. It is followed by a test for the inputs that it accepts.
macro_rules! functions {
    ($($(#[doc = $doc:literal])* $name:ident: |$isa:ident, $x:ident| $value:expr $(, $pair:path, $serves:path)?;)*) => {$(
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
            const HAS_TABLES: bool = true;

            fn tables() -> Option<&'static Tables> {
                static TABLES: Tables = Tables::new();
                Some(&TABLES)
            }

            #[inline(always)]
            fn eval<I: Isa, E: Element>(self, $isa: I, $x: I::F64) -> Wide<I> {
                $value
            }
        }
    )*};
}

functions! {
    /// erf x.
    Erf: |isa, x| math::erf::erf(isa, x), erf_pair::erf, erf_pair::serves;
    /// e^x.
    Exp: |isa, x| exp::<I, E>(isa, x), exp_pair::exp, exp_pair::serves;
    /// 2^x.
    Exp2: |isa, x| math::exp2::exp2::<I, E>(isa, x), exp2_pair::exp2, exp2_pair::serves;
    /// e^x - 1.
    Expm1: |isa, x| math::expm1::expm1::<I, E>(isa, x);
    /// x (1 + erf(x / sqrt(2))) / 2.
    Gelu: |isa, x| math::gelu::gelu::<I, E>(isa, x), gelu_pair::gelu, gelu_pair::serves;
    /// x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))) / 2.
    GeluTanh: |isa, x| math::gelu_tanh::gelu_tanh::<I, E>(isa, x), sigmoid_pair::gelu_tanh, sigmoid_pair::gelu_tanh_serves;
    /// ln x.
    Log: |isa, x| log(isa, x), log_pair::log, log_pair::serves;
    /// ln(1 + x).
    Log1p: |isa, x| math::log1p::log1p(isa, x);
    /// log2 x.
    Log2: |isa, x| math::log2::log2(isa, x), log2_pair::log2, log_pair::serves;
    /// -ln(1 + e^-x).
    LogSigmoid: |isa, x| math::softplus::log_sigmoid::<I, E>(isa, x), softplus_pair::log_sigmoid, softplus_pair::log_sigmoid_serves;
    /// 1 / x.
    Reciprocal: |isa, x| math::reciprocal::reciprocal(isa, x), math::reciprocal::reciprocal_pair, is_number;
    /// 1 / sqrt(x).
    Rsqrt: |isa, x| math::sqrt::rsqrt::<I, E>(isa, x), math::sqrt::rsqrt_pair, math::sqrt::rsqrt_serves;
    /// 1 / (1 + e^-x).
    Sigmoid: |isa, x| sigmoid::<I, E>(isa, x), sigmoid_pair::sigmoid, sigmoid_pair::serves;
    /// x / (1 + e^-x).
    Silu: |isa, x| math::sigmoid::silu::<I, E>(isa, x), sigmoid_pair::silu, sigmoid_pair::silu_serves;
    /// ln(1 + e^x).
    Softplus: |isa, x| math::softplus::softplus::<I, E>(isa, x), softplus_pair::softplus, softplus_pair::serves;
    /// sqrt x.
    Sqrt: |isa, x| math::sqrt::sqrt(isa, x), math::sqrt::sqrt_pair, math::sqrt::sqrt_serves;
    /// tanh x.
    Tanh: |isa, x| math::tanh::tanh_wide(isa, x), math::tanh_pair::tanh, is_number;
}

/// Returns the lanes that are not NaN, for functions whose f32 computations are valid for every number.
#[inline(always)]
fn is_number<I: Isa>(_: I, x: I::F32) -> I::M32 {
    x.eq(x)
}

/// Declares the derivatives of the functions.
macro_rules! derivatives {
    ($($(#[doc = $doc:literal])* $name:ident: |$isa:ident, $x:ident, $dy:ident| $value:expr;)*) => {
        /// Derivative of one of the functions.
        #[derive(Clone, Copy)]
        pub enum Derivative {
            $($(#[doc = $doc])* $name,)*
        }

        $(
            impl Product for $name {
                #[inline(always)]
                fn eval<I: Isa, E: Element>(self, $isa: I, $x: I::F64, $dy: I::F64) -> I::F64 {
                    $value
                }
            }
        )*

        impl Derivative {
            /// Multiplies each gradient by the derivative at the x with the same index.
            #[inline(always)]
            pub fn run<I: Isa, E: Element>(self, isa: I, x: &[f64], dy: &mut [f64]) {
                match self {
                    $(Derivative::$name => isa.outline(Each { product: $name, x, dy, rounded_to: PhantomData::<E> }),)*
                }
            }
        }
    };
}

derivatives! {
    /// 2/sqrt(pi) e^(-x^2).
    Erf: |isa, x, dy| derivative::times::<I, E>(isa, dy, derivative::erf::<I, E>(isa, x));
    /// e^x.
    Exp: |isa, x, dy| derivative::times::<I, E>(isa, dy, derivative::exp::<I, E>(isa, x, isa.f64(0.0)));
    /// `ln 2 * 2^x`.
    Exp2: |isa, x, dy| derivative::times::<I, E>(isa, dy, exp2::derivative::<I, E>(isa, x));
    /// The standard normal distribution function, plus x times the standard normal density.
    Gelu: |isa, x, dy| derivative::times::<I, E>(isa, dy, gelu::gelu_derivative::<I, E>(isa, x));
    /// `s + x * z' * s * (1 - s)`, with `s = 1 / (1 + e^-z)`, `z = 2 * sqrt(2/pi) * (x + 0.044715 * x^3)` and
    /// `z' = dz/dx`.
    GeluTanh: |isa, x, dy| derivative::times::<I, E>(isa, dy, gelu_tanh::gelu_tanh_derivative::<I, E>(isa, x));
    /// 1 / x; NaN below zero.
    Log: |isa, x, dy| dy / from_zero_on(isa, x);
    /// 1 / (1 + x); NaN below -1.
    Log1p: |isa, x, dy| dy / from_zero_on(isa, x + isa.f64(1.0));
    /// `1 / (x * ln 2)`; NaN below zero. Dividing by `x * ln 2` would lose digits if this product is subnormal.
    Log2: |isa, x, dy| dy / from_zero_on(isa, x) * isa.f64(std::f64::consts::LOG2_E);
    /// 1 / (1 + e^x).
    LogSigmoid: |isa, x, dy| {
        derivative::times::<I, E>(isa, dy, derivative::share::<I, E>(isa, isa.f64(-0.0) - x.abs(), isa.f64(0.0).lt(x)))
    };
    /// -1 / x^2.
    Reciprocal: |isa, x, dy| reciprocal::times_derivative::<I, E>(isa, dy, x);
    /// -1/2 x^(-3/2).
    Rsqrt: |isa, x, dy| derivative::times_rsqrt::<I, E>(isa, dy, x);
    /// `s * (1 - s)`, with `s = 1 / (1 + e^-x)`.
    Sigmoid: |isa, x, dy| {
        derivative::times::<I, E>(isa, dy, derivative::logistic::<I, E>(isa, isa.f64(-0.0) - x.abs()))
    };
    /// `s + x * s * (1 - s)`, with `s = 1 / (1 + e^-x)`.
    Silu: |isa, x, dy| {
        let x = derivative::within(isa, x, derivative::far::<E>());
        let zero = isa.f64(0.0);
        let derivative = derivative::gate::<I, E>(isa, (isa.f64(-0.0) - x.abs(), zero), (x, zero), x.lt(zero));
        derivative::times::<I, E>(isa, dy, derivative)
    };
    /// 1 / (1 + e^-x).
    Softplus: |isa, x, dy| {
        derivative::times::<I, E>(isa, dy, derivative::share::<I, E>(isa, isa.f64(-0.0) - x.abs(), x.lt(isa.f64(0.0))))
    };
    /// 1 / (2 sqrt x).
    Sqrt: |isa, x, dy| dy / (from_zero_on(isa, x).sqrt() * isa.f64(2.0));
    /// `(1 - tanh x) * (1 + tanh x)`, computed as `4 * t / (1 + t)^2` with `t = e^(-2 * |x|)`.
    Tanh: |isa, x, dy| {
        let Wide { hi, lo, exponent } = derivative::logistic::<I, E>(isa, x.abs() * isa.f64(-2.0));
        let four = isa.f64(4.0);
        derivative::times::<I, E>(isa, dy, Wide { hi: hi * four, lo: lo * four, exponent })
    };
}

/// Returns x, with -0 replaced by +0 and negative numbers by NaN.
#[inline(always)]
fn from_zero_on<I: Isa>(isa: I, x: I::F64) -> I::F64 {
    I::F64::select(isa.f64(0.0).le(x), x.abs(), isa.f64(f64::NAN))
}
