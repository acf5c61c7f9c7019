//! The exponential in pairs of f32, with a test of whether the rounded result is certain.
//!
//! x is n ln2/16 + r with an integer n. The remainder r is the sum of an f32, which is computed exactly, and a small
//! correction. The table holds each power as two f32. The exponential is the sum hi + lo of two f32, with an error
//! below 7e-11 times 2^(n/16). Let b be the error bound. If hi + lo + b and hi + lo - b round to the same f32, this f32
//! is the correctly rounded result. About 2 in 1000 lanes fail this rounding test. They are computed in f64, as in
//! [`super::exp`]. Over all 2^32 inputs, every lane that passes the rounding test has the correctly rounded result.

use super::softmax_exp::SHIFTER;
use crate::simd::{Float, Int, Isa};

/// Powers 2^(j/16) rounded to f32, each with `j << 19` subtracted from its bits. For n = 16 k + j, adding `n << 19` to
/// the bits of entry j gives 2^k times the power.
const TABLE: [f32; 16] = {
    let bits: [u32; 16] = [
        0x3f80_0000,
        0x3f85_aac3,
        0x3f8b_95c2,
        0x3f91_c3d3,
        0x3f98_37f0,
        0x3f9e_f532,
        0x3fa5_fed7,
        0x3fad_583f,
        0x3fb5_04f3,
        0x3fbd_08a4,
        0x3fc5_672a,
        0x3fce_248c,
        0x3fd7_44fd,
        0x3fe0_ccdf,
        0x3fea_c0c7,
        0x3ff5_257d,
    ];
    let (mut table, mut j) = ([0.0; 16], 0);
    while j < 16 {
        table[j] = f32::from_bits(bits[j] - ((j as u32) << 19));
        j += 1;
    }
    table
};
/// Relative rounding errors of the table: (2^(j/16) - f32(2^(j/16))) / f32(2^(j/16)).
const TABLE_LOW: [f32; 16] = floats([
    0x0000_0000,
    0x3346_cb6a,
    0xb24e_0611,
    0x334b_2482,
    0x3309_2801,
    0x331b_85f2,
    0xb305_1aa8,
    0xb200_6c56,
    0x3293_02ae,
    0xb302_e5a2,
    0x31b3_d0e5,
    0x31d1_daf2,
    0xb27c_e182,
    0xb1b4_b0da,
    0xb1d2_90be,
    0x31b0_a147,
]);
/// Number of table entries per factor of two.
pub const STEPS: f32 = 16.0;
/// 16 / ln2.
pub const PER_STEP: f32 = f32::from_bits(0x41b8_aa3b);
/// ln2/16 as two f32. `STEP_HI` is a multiple of 2^-25. If n is not 0, |x| is above 2^-6, so `x - n * STEP_HI` is a
/// multiple of 2^-29 below 2^-5, which is an f32.
pub const STEP_HI: f32 = f32::from_bits(0x3d31_7218);
pub const STEP_LO: f32 = f32::from_bits(0xaf02_e308);
/// Coefficients of (e^r - 1 - r) / r^2 on |r| <= ln2/32. The first coefficient is fixed at 1/2. The error is 2^-37.4.
pub const POLY: [f32; 3] = [0.5, f32::from_bits(0x3e2a_ab8f), f32::from_bits(0x3d2a_ab5a)];
/// Bound on the error of hi + lo, relative to 2^(n/16).
pub const UNCERTAINTY: f32 = 7e-11;
/// Magnitude of x above which e^x may be infinite, or its low part may lose digits to underflow.
pub const LARGEST: f32 = 75.0;

/// Returns the floats with these bits.
pub const fn floats<const N: usize>(bits: [u32; N]) -> [f32; N] {
    let (mut table, mut i) = ([0.0; N], 0);
    while i < N {
        table[i] = f32::from_bits(bits[i]);
        i += 1;
    }
    table
}

/// Exponential e^x as the sum `hi + lo`, and `power`, which is 2^(n/16) for the integer n nearest to 16 x / ln2. The
/// error bound of the sum is relative to `power`.
pub struct Pair<I: Isa> {
    pub hi: I::F32,
    pub lo: I::F32,
    pub power: I::F32,
}

/// Computes e^x within [`UNCERTAINTY`] for |x| below [`LARGEST`].
#[inline(always)]
pub fn exp_pair<I: Isa>(isa: I, x: I::F32) -> Pair<I> {
    let (r, n, j) = reduce(isa, x);
    let low = n.mul_add(isa.f32(-STEP_LO), table_low(isa, j));
    of_reduced(isa, r, low, half_of(isa, low), j)
}

/// Computes e^(x + low), where the magnitude of `low` is at most 2^-17. The square of `low` is neglected.
#[inline(always)]
pub fn exp_of_sum<I: Isa>(isa: I, x: I::F32, low: I::F32) -> Pair<I> {
    let (r, n, j) = reduce(isa, x);
    let low = n.mul_add(isa.f32(-STEP_LO), low) + table_low(isa, j);
    of_reduced(isa, r, low, half_of(isa, low), j)
}

/// Returns (1 + low) / 2.
#[inline(always)]
fn half_of<I: Isa>(isa: I, low: I::F32) -> I::F32 {
    low.mul_add(isa.f32(0.5), isa.f32(POLY[0]))
}

/// Returns the remainder r = x - n `STEP_HI`, the integer n, and a third f32 whose low bits hold n. r is exact.
#[inline(always)]
fn reduce<I: Isa>(isa: I, x: I::F32) -> (I::F32, I::F32, I::F32) {
    let j = x.mul_add(isa.f32(PER_STEP), isa.f32(SHIFTER));
    let n = j - isa.f32(SHIFTER);
    (n.mul_add(isa.f32(-STEP_HI), x), n, j)
}

/// Returns the relative rounding error of 2^(n/16), where the low bits of `j` hold n.
#[inline(always)]
pub fn table_low<I: Isa>(isa: I, j: I::F32) -> I::F32 {
    isa.long_lookup(isa.long_table(&TABLE_LOW), j.to_bits())
}

/// Returns 2^(n/16), rounded to f32, where the low bits of `j` hold n.
#[inline(always)]
pub fn power<I: Isa>(isa: I, j: I::F32) -> I::F32 {
    let power = isa.long_lookup(isa.long_table(&TABLE), j.to_bits());
    I::F32::from_bits(power.to_bits() + j.to_bits().shl::<19>())
}

/// Computes e^r (1 + `low`) p, where p is 2^(n/16) rounded to f32, and the low bits of `j` hold n. The magnitude of
/// `low` is at most 2^-16. `half` is (1 + `low`) / 2. If the magnitude of `low` is at most 2^-24, `half` may be 1/2,
/// which adds an error of at most 2^-36.
#[inline(always)]
pub fn of_reduced<I: Isa>(isa: I, r: I::F32, low: I::F32, half: I::F32, j: I::F32) -> Pair<I> {
    isa.call(
        (r, low, half, j),
        #[inline(always)]
        |isa, (r, low, half, j)| {
            // v = e^r (1 + low) - 1 - r = low + r (low + r (low/2 + POLY(r))), except for the error of POLY and terms
            // below 2^-35. `half` is low/2 plus the first coefficient of POLY.
            let q = isa.f32(POLY[2]).mul_add(r, isa.f32(POLY[1])).mul_add(r, half);
            let v = r.mul_add(q, low).mul_add(r, low);
            let s = power(isa, j);
            let hi = s.mul_add(r, s);
            Pair { hi, lo: s.mul_add(v, s.mul_add(r, s - hi)), power: s }
        },
    )
}

/// Returns an upper and a lower estimate of e^x, each rounded to f32. x must be accepted by [`serves`]. If the two
/// estimates are equal, they are the correctly rounded result.
#[inline(always)]
pub fn exp<I: Isa>(isa: I, x: I::F32) -> [I::F32; 2] {
    let e = exp_pair(isa, x);
    round(isa, e.hi, e.lo, e.power, UNCERTAINTY)
}

/// Returns the lanes in which [`exp`] is valid.
#[inline(always)]
pub fn serves<I: Isa>(isa: I, x: I::F32) -> I::M32 {
    x.abs().lt(isa.f32(LARGEST))
}

/// Returns hi + lo + `uncertainty * scale` and hi + lo - `uncertainty * scale`, each rounded to f32.
#[inline(always)]
pub fn round<I: Isa>(isa: I, hi: I::F32, lo: I::F32, scale: I::F32, uncertainty: f32) -> [I::F32; 2] {
    let above = hi + scale.mul_add(isa.f32(uncertainty), lo);
    let below = hi + scale.mul_add(isa.f32(-uncertainty), lo);
    [above, below]
}

/// Returns `value` + `uncertainty * value` and `value` - `uncertainty * value`, each rounded to f32.
#[inline(always)]
pub fn round_wide<I: Isa>(isa: I, value: I::F64, uncertainty: f64) -> [I::F32; 2] {
    [isa.narrow(value.mul_add(isa.f64(uncertainty), value)), isa.narrow(value.mul_add(isa.f64(-uncertainty), value))]
}
