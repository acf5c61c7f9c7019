//! The reciprocal of the square root in f64 with a low part.

use super::wide::Wide;
use crate::element::{DType, Element};
use crate::simd::{Float, Isa, Select};

/// Below it the rounding error of the root's square may not be held by f64.
const TINY: f64 = f64::from_bits((1023 - 900) << 52);
const SCALE: f64 = f64::from_bits((1023 + 200) << 52);
const SCALE_ROOT: f64 = f64::from_bits((1023 + 100) << 52);

/// 1 / sqrt(x), for any x: infinite at the zeros with their sign, NaN below.
#[inline(always)]
pub fn rsqrt<I: Isa, E: Element>(isa: I, x: I::F64) -> Wide<I> {
    let one = isa.f64(1.0);
    let (x, back) = if E::DTYPE == DType::F64 {
        let tiny = x.lt(isa.f64(TINY));
        (I::F64::select(tiny, x * isa.f64(SCALE), x), I::F64::select(tiny, isa.f64(SCALE_ROOT), one))
    } else {
        (x, one)
    };
    let minus = isa.f64(-0.0);
    let root = x.sqrt();
    let hi = one / root;
    // What the root and the quotient leave out, to first order.
    let of_root = (minus - root).mul_add(root, x);
    let of_quotient = (minus - hi).mul_add(root, one);
    let lo = hi * (of_quotient - of_root * isa.f64(0.5) * hi * hi);
    // At zero and infinity there is nothing left out, but a product of the two.
    let lo = I::F64::select(lo.is_nan(), isa.f64(0.0), lo);
    Wide { hi: hi * back, lo: lo * back, exponent: None }
}
