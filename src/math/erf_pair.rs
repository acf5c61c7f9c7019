//! Erf in pairs of f32, with the rounding test of [`super::exp_pair`]. Lanes that fail the test are computed in f64, by
//! [`super::erf`]. A run over all 2^32 inputs showed that every lane that passes has the same bits as the f64
//! computation.
//!
//! |x| is c + d, where c is the nearest multiple of 1/8. Erf |x| is erf c + erf'(c) g, where g is the integral of
//! e^(-2ct - t^2) from 0 to d. g is d - c d^2 + d^3 W. W is a polynomial in c and d with the terms of the Taylor series
//! up to d^4, the last of them without c. Its coefficients are a least-squares fit, with an error of 2^-33.9 relative
//! to erf |x|. erf c and erf'(c) come from tables, each as two f32.

use super::exp_pair::{floats, round};
use super::softmax_exp::SHIFTER;
use super::wide::{fast_two_sum, horner_narrow};
use crate::simd::{Float, Isa};

/// Number of table entries per unit of the argument.
const STEPS: f32 = 8.0;
/// Larger arguments are replaced by this one. Its result rounds to 1, and its nearest table entry is the last.
const LARGEST: f32 = 3.93;
/// Smallest nonzero magnitude that [`serves`] accepts. Far below, the low part of the result underflows.
const TINY: f32 = f32::from_bits((127 - 40) << 23);
/// Assumed bound on the error of hi + lo, relative to hi. The run over all inputs confirms that it suffices.
const UNCERTAINTY: f32 = 3.4e-10;
/// W is `W0(c^2) + c W1(c^2) d + W2(c^2) d^2 + c W3(c^2) d^3 + W4 d^4`. These are the polynomials' coefficients.
const W0: [f32; 2] = [f32::from_bits(0xbeaa_aaaa), f32::from_bits(0x3f2a_aaa2)];
const W1: [f32; 2] = [f32::from_bits(0x3f00_0006), f32::from_bits(0xbeaa_aaae)];
const W2: [f32; 3] = [f32::from_bits(0x3dcc_c803), f32::from_bits(0xbecc_7eea), f32::from_bits(0x3e08_53f8)];
const W3: [f32; 3] = [f32::from_bits(0xbe2a_ae06), f32::from_bits(0x3e63_6bed), f32::from_bits(0xbd35_da80)];
const W4: f32 = f32::from_bits(0xbcb2_061b);
/// Values of erf c, rounded to f32. The next table holds the rounding errors.
#[rustfmt::skip]
const VALUE: [f32; 32] = floats([
    0x0000_0000, 0x3e0f_af0d, 0x3e8d_7aa7, 0x3ece_e869, 0x3f05_3f7b, 0x3f1f_8cb7, 0x3f36_0e4c, 0x3f48_b925,
    0x3f57_bb3d, 0x3f63_6d69, 0x3f6c_432f, 0x3f72_bb46, 0x3f77_52ab, 0x3f7a_7b4a, 0x3f7c_9684, 0x3f7d_f30f,
    0x3f7e_cd71, 0x3f7f_5211, 0x3f7f_a024, 0x3f7f_ccb0, 0x3f7f_e554, 0x3f7f_f28a, 0x3f7f_f968, 0x3f7f_fcdd,
    0x3f7f_fe8d, 0x3f7f_ff5a, 0x3f7f_ffb8, 0x3f7f_ffe2, 0x3f7f_fff4, 0x3f7f_fffb, 0x3f7f_fffe, 0x3f7f_ffff,
]);
#[rustfmt::skip]
const VALUE_LOW: [f32; 32] = floats([
    0x0000_0000, 0x30d7_0ee2, 0x310c_b582, 0x3237_21f4, 0xb1f9_c48b, 0xb1cb_c3b3, 0xb2a6_2f1a, 0xb2ae_4704,
    0x3268_2111, 0x3282_9ec6, 0xb24e_a840, 0x31ed_28ff, 0xb28e_c852, 0xb213_0851, 0xb280_72a9, 0x32ef_4cf7,
    0xb2bd_86a2, 0xb265_34d7, 0xb29f_ce65, 0x32f3_eb32, 0x32f4_c9bf, 0x32bb_dc19, 0xb21f_7585, 0x3204_1d07,
    0x32c4_1360, 0xb122_6cc2, 0xb241_3035, 0xb2e9_2613, 0xb2ef_2a9a, 0x3146_1ed3, 0x31bc_5c79, 0x3292_ced9,
]);
/// Values of erf'(c), which is 2/sqrt(pi) e^(-c^2), rounded to f32. The next table holds the rounding errors.
#[rustfmt::skip]
const SLOPE: [f32; 32] = floats([
    0x3f90_6ebb, 0x3f8e_317d, 0x3f87_ae8b, 0x3f7a_f867, 0x3f60_f7e5, 0x3f43_74b5, 0x3f24_9721, 0x3f06_55b1,
    0x3ed4_88f8, 0x3ea2_f4ce, 0x3e72_3298, 0x3e2e_72cb, 0x3df3_91b9, 0x3da4_cea4, 0x3d58_2a98, 0x3d09_675a,
    0x3ca9_4dcf, 0x3c4a_3127, 0x3bea_0a1d, 0x3b83_48c6, 0x3b0e_c18c, 0x3a96_744c, 0x3a19_b066, 0x3998_29c8,
    0x3912_0475, 0x3887_cf0e, 0x37f4_daf4, 0x3755_f04f, 0x36b5_2cb9, 0x3614_b538, 0x356c_9b8f, 0x34b6_70d5,
]);
#[rustfmt::skip]
const SLOPE_LOW: [f32; 32] = floats([
    0xb37b_d649, 0x31f4_34db, 0x303d_f903, 0xb221_d59e, 0x3213_4a02, 0xb2be_cb46, 0x32d7_8d2c, 0xb0f7_b46d,
    0x3216_fbc2, 0xb151_21bb, 0xb124_692a, 0xb0ee_a93d, 0x30d7_0495, 0xb0e8_6b19, 0x2fc8_8405, 0xb080_0644,
    0x300c_f9a2, 0x2f71_c1f6, 0x2f1d_fe96, 0xaf1c_aa9e, 0xaef0_4090, 0x2e00_9245, 0x2dd2_3db4, 0xac89_1026,
    0xac0b_99b0, 0xac32_2c92, 0x2b50_0ce7, 0x2a91_44b6, 0x28cd_49ed, 0x29f4_1405, 0x27bf_df0d, 0x277f_5ef7,
]);

/// Returns an upper and a lower estimate of erf x, each rounded to f32. x must be accepted by [`serves`]. If the two
/// estimates are equal, they are the correctly rounded result.
#[inline(always)]
pub fn erf<I: Isa>(isa: I, x: I::F32) -> [I::F32; 2] {
    let zero = isa.f32(0.0);
    let a = isa.f32(LARGEST).min(x.abs());
    let shifted = a.mul_add(isa.f32(STEPS), isa.f32(SHIFTER));
    let entry = shifted.to_bits();
    let n = shifted - isa.f32(SHIFTER);
    let c = n * isa.f32(1.0 / STEPS);
    // Exact: c is 0, or a is between c/2 and 2 c (Sterbenz, 1974).
    let d = a - c;

    let square = d * d;
    let square_low = d.mul_add(d, zero - square);
    let minus_c = zero - c;
    let g = minus_c.mul_add(square, d);
    let g_low = minus_c.mul_add(square_low, minus_c.mul_add(square, d - g));
    let c_square = c * c;
    let w = isa.f32(W4).mul_add(d, c * horner_narrow(isa, c_square, &W3));
    let w = w.mul_add(d, horner_narrow(isa, c_square, &W2));
    let w = w.mul_add(d, c * horner_narrow(isa, c_square, &W1));
    let w = w.mul_add(d, horner_narrow(isa, c_square, &W0));
    let g_low = (square * d).mul_add(w, g_low);

    let slope = isa.lookup_32(&SLOPE, entry);
    let term = slope * g;
    let term_low = slope.mul_add(g, zero - term);
    let term_low = isa.lookup_32(&SLOPE_LOW, entry).mul_add(g, slope.mul_add(g_low, term_low));
    let (hi, error) = fast_two_sum(isa.lookup_32(&VALUE, entry), term);
    let lo = error + (term_low + isa.lookup_32(&VALUE_LOW, entry));
    let sign = x.to_bits() & isa.i32(i32::MIN);
    let [above, below] = round(isa, hi, lo, hi, UNCERTAINTY);
    [I::F32::from_bits(above.to_bits() | sign), I::F32::from_bits(below.to_bits() | sign)]
}

/// Returns the lanes in which [`erf`] is valid.
#[inline(always)]
pub fn serves<I: Isa>(isa: I, x: I::F32) -> I::M32 {
    isa.f32(TINY).le(x.abs()) | x.eq(isa.f32(0.0))
}
