//! Functions of numbers from 0 to 14.5, computed in pairs of f32 by polynomials whose coefficients come from tables.
//!
//! The argument a is c + d, where 1 + c is 1 + a rounded to four significant bits. The function is a polynomial of
//! degree 6 in d, whose coefficients depend on c. The term in d^2 is computed in f32, with a few rounding errors. It is
//! at most a hundredth of the result, so the relative error of the result is about 2^-30. A lookup in 32 numbers is one
//! instruction with AVX-512, and many in smaller instruction sets.

use super::wide::fast_two_sum;
use crate::simd::{Float, Int, Isa};

/// Number of bits of 1 + a that are rounded off.
const DROPPED: i32 = 20;

/// Coefficients for each c. The index of c is the last two bits of the exponent of 1 + c, followed by three bits of its
/// significand.
pub struct Polynomials {
    /// Value at c, rounded to f32, and the rounding error.
    pub value: [f32; 32],
    pub value_low: [f32; 32],
    /// Coefficient of d, rounded to f32, and the rounding error.
    pub slope: [f32; 32],
    pub slope_low: [f32; 32],
    /// Coefficients of d^2 to d^6.
    pub others: [[f32; 32]; 5],
}

/// Returns whether [`Isa::lookup_32`] is one instruction.
#[inline(always)]
pub fn are_fast<I: Isa>(_: I) -> bool {
    I::REGISTERS >= 32
}

impl Polynomials {
    /// Computes the function of `a` as two f32.
    #[inline(always)]
    pub fn at<I: Isa>(&self, isa: I, a: I::F32) -> (I::F32, I::F32) {
        let one = isa.f32(1.0);
        // Ties are rounded down, so that d is exact: c is 0, or a is between c/2 and 2 c (Sterbenz, 1974).
        let rounded = (a + one).to_bits() + isa.i32((1 << (DROPPED - 1)) - 1);
        let entry = rounded.shr::<DROPPED>();
        let d = a - (I::F32::from_bits(rounded & isa.i32(-1 << DROPPED)) - one);
        let [c2, c3, c4, c5, c6] = &self.others;
        let mut p = isa.lookup_32(c6, entry);
        for coefficients in [c5, c4, c3, c2, &self.slope_low] {
            p = p.mul_add(d, isa.lookup_32(coefficients, entry));
        }
        let slope = isa.lookup_32(&self.slope, entry);
        let term = p.mul_add(d, slope * d);
        let term_low = p.mul_add(d, slope.mul_add(d, isa.f32(-0.0) - term));
        let (hi, error) = fast_two_sum(isa.lookup_32(&self.value, entry), term);
        (hi, error + (term_low + isa.lookup_32(&self.value_low, entry)))
    }
}
