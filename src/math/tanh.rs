//! The hyperbolic tangent in f64, at most 2 ULP: what a softcap needs of it.

use super::exp::expm1_parts;
use crate::simd::{Float, Isa};

/// tanh x, for any x.
#[inline(always)]
pub fn tanh<I: Isa>(isa: I, x: I::F64) -> I::F64 {
    const SIGN: i64 = i64::MIN;
    let sign = x.to_bits() & isa.i64(SIGN);
    // Beyond 20 the result rounds to 1; a NaN passes the minimum.
    let magnitude = isa.f64(20.0).min(x.abs());
    // tanh|x| = -t / (2 + t) with t = e^(-2|x|) - 1, which loses nothing near zero.
    let (t, t_low) = expm1_parts(isa, magnitude * isa.f64(-2.0));
    let t = t + t_low;
    let value = (isa.f64(0.0) - t) / (t + isa.f64(2.0));
    I::F64::from_bits(value.to_bits() | sign)
}
