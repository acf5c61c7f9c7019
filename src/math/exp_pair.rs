//! The exponential in pairs of f32, with a test that tells whether the rounding is certain.
//!
//! x = n ln2/8 + r as in [`super::softmax_exp`], with r, the table's powers and the polynomial carried in two f32
//! each: the sum hi + lo is off by less than 2^-31.7 of the result. Where adding that much to either side rounds to
//! the same f32, the rounding is correct; the other lanes, some 7 in 1000, are left to the f64 form. That no lane
//! passes the test wrongly was found by trying all 2^32 inputs.

use super::softmax_exp::{PER_STEP, SHIFTER, STEP_HI, STEP_LO, TABLE_LOW, table};
use crate::simd::{Float, Int, Isa};

/// (e^r - 1 - r) / r^2 on |r| <= ln2/16, the first coefficient held at 1/2; error 2^-39.5.
const POLY: [f32; 4] = [0.5, f32::from_bits(0x3e2a_aaab), f32::from_bits(0x3d2a_ad29), f32::from_bits(0x3c08_8b14)];
/// Bounds the error of hi + lo, relative to the power of two.
pub const UNCERTAINTY: f32 = 2.9e-10;
/// Beyond this the result may be subnormal or infinite.
pub const LARGEST: f32 = 75.0;

/// An exponential as two f32, and the power of two that its error is relative to.
pub struct Pair<I: Isa> {
    pub hi: I::F32,
    pub lo: I::F32,
    pub power: I::F32,
}

/// e^x to within [`UNCERTAINTY`] for |x| below [`LARGEST`].
#[inline(always)]
pub fn exp_pair<I: Isa>(isa: I, x: I::F32) -> Pair<I> {
    let j = x.mul_add(isa.f32(PER_STEP), isa.f32(SHIFTER));
    let n = j - isa.f32(SHIFTER);
    let near = n.mul_add(isa.f32(-STEP_HI), x);
    let r = n.mul_add(isa.f32(-STEP_LO), near);
    of_reduced(isa, r, n.mul_add(isa.f32(-STEP_LO), near - r), j)
}

/// e^(r + r_low) times 2^(n/8), where `j` has n in its low bits.
#[inline(always)]
pub fn of_reduced<I: Isa>(isa: I, r: I::F32, r_low: I::F32, j: I::F32) -> Pair<I> {
    let low = isa.lookup(isa.table(&TABLE_LOW.map(|low| low as f32)), j.to_bits());
    let w = low.mul_add(r, low + r_low);
    let q = isa.f32(POLY[3]).mul_add(r, isa.f32(POLY[2]));
    let q = q.mul_add(r, isa.f32(POLY[1])).mul_add(r, isa.f32(POLY[0]));
    let v = (r * r).mul_add(q, w);
    let power = isa.lookup(table(isa, true), j.to_bits());
    let s = I::F32::from_bits(power.to_bits() + j.to_bits().shl::<20>());
    let hi = s.mul_add(r, s);
    Pair { hi, lo: s.mul_add(v, s.mul_add(r, s - hi)), power: s }
}

/// e^x rounded to f32 from either side, for the x that [`serves`]: right where both agree.
#[inline(always)]
pub fn exp<I: Isa>(isa: I, x: I::F32) -> [I::F32; 2] {
    let e = exp_pair(isa, x);
    round(isa, e.hi, e.lo, e.power, UNCERTAINTY)
}

/// Where [`exp`] serves.
#[inline(always)]
pub fn serves<I: Isa>(isa: I, x: I::F32) -> I::M32 {
    x.abs().lt(isa.f32(LARGEST))
}

/// hi + lo and `uncertainty * scale` to either side, rounded to f32.
#[inline(always)]
pub fn round<I: Isa>(isa: I, hi: I::F32, lo: I::F32, scale: I::F32, uncertainty: f32) -> [I::F32; 2] {
    let above = hi + scale.mul_add(isa.f32(uncertainty), lo);
    let below = hi + scale.mul_add(isa.f32(-uncertainty), lo);
    [above, below]
}
