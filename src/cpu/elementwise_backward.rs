//! Gradients of the functions of one element: the gradient of the result times the derivative.

use super::pairwise::{self, Pairwise};
use crate::element::Element;
use crate::math::wide::Wide;
use crate::math::{derivative, exp2, gelu, gelu_tanh, reciprocal};
use crate::simd::{Float, Isa, Kernel, Select};
use std::marker::PhantomData;

/// Derivative, and the range of x outside which the derivative is replaced by 0.
#[derive(Clone, Copy)]
pub struct Gradient {
    pub derivative: Derivative,
    pub within: Option<(f64, f64)>,
}

impl From<Derivative> for Gradient {
    fn from(derivative: Derivative) -> Self {
        Gradient { derivative, within: None }
    }
}

/// Sets the gradient to 0 where x is outside the range.
#[inline(always)]
fn keep_within<I: Isa>(isa: I, x: &[f64], dy: &mut [f64], (min, max): (f64, f64)) {
    let (min, max, zero) = (isa.f64(min), isa.f64(max), isa.f64(0.0));
    pairwise::map(
        isa,
        x,
        dy,
        #[inline(always)]
        |x, dy| I::F64::select(x.lt(min) | max.lt(x), zero, dy),
    );
}

/// Product of a gradient and a derivative.
trait Product: Copy {
    /// Returns `dy` times the derivative at x, rounded to f64; `E` is f64 or f32. Must be `#[inline(always)]`, like
    /// everything it calls.
    fn eval<I: Isa, E: Element>(self, isa: I, x: I::F64, dy: I::F64) -> I::F64;
}

macro_rules! derivatives {
    ($($(#[doc = $doc:literal])* $name:ident: |$isa:ident, $x:ident, $dy:ident| $value:expr;)*) => {
        /// Derivative of one of the functions.
        #[derive(Clone, Copy)]
        pub enum Derivative {
            $($(#[doc = $doc])* $name,)*
        }

        $(
            #[derive(Clone, Copy)]
            struct $name;

            impl Product for $name {
                #[inline(always)]
                fn eval<I: Isa, E: Element>(self, $isa: I, $x: I::F64, $dy: I::F64) -> I::F64 {
                    $value
                }
            }
        )*

        impl Pairwise for Gradient {
            #[inline(always)]
            fn run<I: Isa, E: Element>(self, isa: I, x: &[f64], dy: &mut [f64]) {
                if let Some(range) = self.within {
                    keep_within(isa, x, dy, range);
                }
                match self.derivative {
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
    /// ln2 2^x.
    Exp2: |isa, x, dy| derivative::times::<I, E>(isa, dy, exp2::derivative::<I, E>(isa, x));
    /// The normal distribution function plus x times its density.
    Gelu: |isa, x, dy| derivative::times::<I, E>(isa, dy, gelu::gelu_derivative::<I, E>(isa, x));
    /// s + x z' s (1 - s), with s = 1 / (1 + e^-z), z = 2 sqrt(2/pi) (x + 0.044715 x^3) and z' = dz/dx.
    GeluTanh: |isa, x, dy| derivative::times::<I, E>(isa, dy, gelu_tanh::gelu_tanh_derivative::<I, E>(isa, x));
    /// 1 / x; NaN below zero.
    Log: |isa, x, dy| dy / from_zero_on(isa, x);
    /// 1 / (1 + x); NaN below -1.
    Log1p: |isa, x, dy| dy / from_zero_on(isa, x + isa.f64(1.0));
    /// 1 / (x ln2); NaN below zero. Dividing by the product x ln2 would lose digits if the product is subnormal.
    Log2: |isa, x, dy| dy / from_zero_on(isa, x) * isa.f64(std::f64::consts::LOG2_E);
    /// 1 / (1 + e^x).
    LogSigmoid: |isa, x, dy| {
        derivative::times::<I, E>(isa, dy, derivative::share::<I, E>(isa, isa.f64(-0.0) - x.abs(), isa.f64(0.0).lt(x)))
    };
    /// -1 / x^2.
    Reciprocal: |isa, x, dy| reciprocal::times_derivative::<I, E>(isa, dy, x);
    /// -1/2 x^(-3/2).
    Rsqrt: |isa, x, dy| derivative::times_rsqrt::<I, E>(isa, dy, x);
    /// s (1 - s), with s = 1 / (1 + e^-x).
    Sigmoid: |isa, x, dy| {
        derivative::times::<I, E>(isa, dy, derivative::logistic::<I, E>(isa, isa.f64(-0.0) - x.abs()))
    };
    /// s + x s (1 - s), with s = 1 / (1 + e^-x).
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
    /// (1 - tanh x)(1 + tanh x), as 4 t / (1 + t)^2 with t = e^(-2|x|).
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

/// Kernel that computes the gradient of a slice, compiled as a separate function because its code is long.
struct Each<'a, P, E> {
    product: P,
    x: &'a [f64],
    dy: &'a mut [f64],
    rounded_to: PhantomData<E>,
}

impl<P: Product, E: Element> Kernel for Each<'_, P, E> {
    type Out = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        pairwise::map(
            isa,
            self.x,
            self.dy,
            #[inline(always)]
            |x, dy| {
                let dx = self.product.eval::<I, E>(isa, x, dy);
                // A dy of 0 gives a gradient of 0, however large the derivative is.
                I::F64::select(dy.eq(isa.f64(0.0)) & x.eq(x), dy, dx)
            },
        );
    }
}
