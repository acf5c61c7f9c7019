//! The tanh approximation of the Gaussian error linear unit, as the sum of two f64. It is x times the logistic function
//! at the argument 2 sqrt(2/pi) (x + 0.044715 x^3). The argument is kept as two f64.

use super::derivative;
use super::sigmoid::{logistic, times};
use super::wide::{Wide, fast_two_sum, product};
use crate::element::Element;
use crate::simd::{Float, Isa, Select};

/// Magnitude beyond which the logistic function is 0 or 1 in every type.
const LARGEST: f64 = 50.0;
/// 2 sqrt(2/pi), as a high and a low part.
const SLOPE: [f64; 2] = [f64::from_bits(0x3ff9_8845_33d4_3651), f64::from_bits(0xbc9c_bc0d_30eb_fd15)];
/// 0.044715 times [`SLOPE`].
const CUBIC: [f64; 2] = [f64::from_bits(0x3fb2_444f_2a4d_8b4b), f64::from_bits(0xbc26_c843_a29d_1c70)];
/// Three times [`CUBIC`], for the derivative.
const CUBIC_SLOPE: [f64; 2] = [f64::from_bits(0x3fcb_6676_bf74_50f0), f64::from_bits(0x3c6b_ba73_5182_8aab)];

/// Computes `a * (SLOPE + cubic * a^2)` for a >= 0, as a sum of two f64.
#[inline(always)]
fn inner<I: Isa>(isa: I, a: I::F64, cubic: [f64; 2]) -> (I::F64, I::F64) {
    let square = a * a;
    let square_low = a.mul_add(a, isa.f64(-0.0) - square);
    let (cubic, cubic_low) = product(isa, (square, square_low), (isa.f64(cubic[0]), isa.f64(cubic[1])));
    let slope = isa.f64(SLOPE[0]);
    let above = slope.lt(cubic);
    let (factor, error) = fast_two_sum(I::F64::select(above, cubic, slope), I::F64::select(above, slope, cubic));
    product(isa, (a, isa.f64(0.0)), (factor, error + (cubic_low + isa.f64(SLOPE[1]))))
}

/// Computes x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))) / 2, for any x.
#[inline(always)]
pub fn gelu_tanh<I: Isa, E: Element>(isa: I, x: I::F64) -> Wide<I> {
    let x = isa.f64(-LARGEST).max(x);
    let a = isa.f64(LARGEST).min(x.abs());
    let minus = isa.f64(-0.0);
    let (z, z_low) = inner(isa, a, CUBIC);
    let s = logistic::<I, E>(isa, minus - z, minus - z_low, x.lt(isa.f64(0.0)));
    times(isa, x, s)
}

/// Computes the derivative of gelu_tanh, for any x.
#[inline(always)]
pub fn gelu_tanh_derivative<I: Isa, E: Element>(isa: I, x: I::F64) -> Wide<I> {
    let (zero, minus) = (isa.f64(0.0), isa.f64(-0.0));
    let a = isa.f64(LARGEST).min(x.abs());
    let (z, z_low) = inner(isa, a, CUBIC);
    // z is the argument of the logistic function, and w is x times the derivative of z. The derivative is an even
    // function of x, so w is computed for |x| and then gets the sign of x.
    let (w, w_low) = inner(isa, a, CUBIC_SLOPE);
    let negative = x.lt(zero);
    let w = (I::F64::select(negative, minus - w, w), I::F64::select(negative, minus - w_low, w_low));
    derivative::gate::<I, E>(isa, (minus - z, minus - z_low), w, negative)
}
