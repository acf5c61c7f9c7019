//! The binary logarithm as the sum of two f64.
//!
//! x = 2^k m as in [`super::log`]. log2 x is k + log2(e) ln m. k is exact. The factors log2(e) and ln m are sums of two
//! f64 each. The logarithm of a power of two is exact.

use super::log::{at_the_ends, parts, split};
use super::wide::{Wide, fast_two_sum, product};
use crate::simd::Isa;

/// 1 / ln 2, as a high and a low part.
const LOG2_E: [f64; 2] = [f64::from_bits(0x3ff7_1547_652b_82fe), f64::from_bits(0x3c77_77d0_ffda_0d24)];

/// Computes log2 x, for any x. The result is NaN for x below zero, and -inf for x = 0.
#[inline(always)]
pub fn log2<I: Isa>(isa: I, x: I::F64) -> Wide<I> {
    let (f, k) = split(isa, x);
    let factor = (isa.f64(LOG2_E[0]), isa.f64(LOG2_E[1]));
    let (of_m, of_m_low) = product(isa, parts(isa, f, None, isa.f64(0.0)), factor);
    let (hi, error) = fast_two_sum(k, of_m);
    at_the_ends(isa, x, hi, error + of_m_low)
}
