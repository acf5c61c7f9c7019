//! Gelu in pairs of f32, with the rounding test of [`super::exp_pair`]. Lanes that fail the test are computed in f64, by
//! [`super::gelu`]. A run over all 2^32 inputs showed that every lane that passes has the same bits as the f64
//! computation.
//!
//! Let a be |x|. The tail, the probability that a normal variable exceeds a, is e^(-a^2/2) R(a). For x below zero, gelu
//! is x times the tail. Above zero, it is x times 1 minus the tail.
//!
//! With AVX-512, R is computed by [`Polynomials`], which have an error of 2^-32.9 relative to R, apart from rounding.
//! With other instruction sets, R is P(1/(a + 9/2)) / (a + 9/2) in f64. P is a polynomial with a relative error of
//! 2^-36.89.

use super::exp_pair::{Pair, exp_of_sum, floats, round};
use super::polynomials::{self, Polynomials};
use super::wide::{fast_two_sum, horner_halves};
use crate::simd::{Float, Isa, Select};

/// Larger magnitudes are replaced by this one. There, 1 minus the tail rounds to 1 in f32.
const LARGEST: f32 = 9.0;
/// [`serves`] refuses nonzero magnitudes up to this one. Far below it, the low part of the result underflows.
const TINY: f32 = f32::from_bits((127 - 60) << 23);
/// Assumed bound on the error of hi + lo, relative to hi, for x below zero. The run over all inputs confirms that this
/// bound and the smaller bounds suffice.
const UNCERTAINTY: f32 = 8.4e-10;
/// Factor for the bound if x is above zero.
const ABOVE_ZERO: f32 = 0.32;
/// Factor for the bound if the tail is computed without tables.
const WITHOUT_TABLES: f32 = 0.15;
/// Pole of the polynomial's argument, 1/(a + 9/2).
const POLE: f32 = 4.5;
const CENTRE: f64 = f64::from_bits(0x3fc2_f684_bda1_2f68);
const FAR: [f64; 13] = [
    f64::from_bits(0x3ff0_982b_343d_dd03),
    f64::from_bits(0x4022_bcb2_00ef_aeb2),
    f64::from_bits(0x404f_df85_366b_5a0b),
    f64::from_bits(0x4074_1d1e_0d92_b72d),
    f64::from_bits(0x4091_9de1_8444_5fe8),
    f64::from_bits(0x40a0_d01a_131d_b546),
    f64::from_bits(0xc094_2f46_8b96_04cf),
    f64::from_bits(0xc0d1_51ff_6902_f2ea),
    f64::from_bits(0xc0cf_68ca_65e5_cc2d),
    f64::from_bits(0x40ff_c31e_63ca_a8f0),
    f64::from_bits(0x4109_b037_6e66_996f),
    f64::from_bits(0xc12e_3d34_e80a_2060),
    f64::from_bits(0xc139_1990_2be3_8531),
];
/// R(a).
#[rustfmt::skip]
const RATIO: Polynomials = Polynomials {
    value: floats([
        0x3e85_ed97, 0x3e6c_4c6f, 0x3e52_b82b, 0x3e3d_ad5f, 0x3e2c_22ee, 0x3e1d_56ef, 0x3e10_b929, 0x3e05_dcb4,
        0x3df8_dc4e, 0x3dd9_cb7d, 0x3dc1_5a5e, 0x3dad_ad67, 0x3d9d_87de, 0x3d90_0fd5, 0x3d84_ab04, 0x3d75_d2ff,
        0x3d64_f090, 0x3d49_34b9, 0x3d33_665c, 0x3d21_d1c5, 0x3d13_5a68, 0x3d07_3ee7, 0x3cf9_eee1, 0x3ce8_43d7,
        0x3f00_0000, 0x3ee8_5796, 0x3ed3_fc04, 0x3ec2_5b83, 0x3eb3_013d, 0x3ea5_8ef1, 0x3e99_b812, 0x3e8f_3e17,
    ]),
    value_low: floats([
        0x2f6e_2690, 0x2f9a_7230, 0xb152_0a7e, 0xb1cf_f3ee, 0x31ad_1735, 0xafe6_c36f, 0x30c5_909b, 0x31cd_ffe6,
        0x300b_a091, 0xb041_951f, 0xb0e6_c6be, 0xb145_063a, 0x3134_93bd, 0xb15a_968c, 0x3147_aac1, 0x3035_b614,
        0x30e4_f37f, 0x2fbd_fc1a, 0xb00b_e2ea, 0x30e4_99ef, 0xafcc_354e, 0xb0e2_7c0d, 0x2fbd_4953, 0xb012_25b7,
        0x0000_0000, 0xb1c1_8dc3, 0x30b4_8446, 0xb09d_481e, 0x3254_bd28, 0xb259_9b5d, 0xb204_34bd, 0xb259_372b,
    ]),
    slope: floats([
        0xbe0c_a925, 0xbde2_4991, 0xbdb8_e026, 0xbd99_29db, 0xbd80_7ced, 0xbd5a_02e6, 0xbd3a_d5b2, 0xbd21_958d,
        0xbd0c_e779, 0xbcdb_01c5, 0xbcae_7cbe, 0xbc8d_f163, 0xbc6b_0a76, 0xbc45_8cab, 0xbc28_3461, 0xbc10_d749,
        0xbbfb_eacf, 0xbbc3_5c22, 0xbb9b_c092, 0xbb7d_f968, 0xbb52_ed61, 0xbb31_e7e4, 0xbb18_0954, 0xbb03_66df,
        0xbecc_422a, 0xbeaf_3737, 0xbe97_4329, 0xbe83_5fd9, 0xbe65_8316, 0xbe49_91a7, 0xbe31_f039, 0xbe1d_d7ac,
    ]),
    slope_low: floats([
        0xb15d_e3cd, 0x3005_c641, 0xb046_8418, 0xb14e_2ee6, 0xb081_de7d, 0xb057_fe26, 0x2dfe_1195, 0x30ef_2e7b,
        0x30e4_fd86, 0xb006_76ba, 0x3072_3f85, 0x2fa4_6837, 0x2f94_f124, 0x2fcd_77f6, 0xaede_2870, 0xaf51_549b,
        0x2f3e_c193, 0x2ef7_7e66, 0x2f6a_0f65, 0x2d81_e8a7, 0x2da5_85c6, 0xae68_9026, 0xade6_33d4, 0xae78_c17c,
        0x3242_bd10, 0x315a_6910, 0x3248_31c4, 0x327b_4da6, 0x3133_f503, 0x31f5_78d6, 0x31bf_3ba9, 0x3189_4594,
    ]),
    others: [
        floats([
            0x3d7e_6411, 0x3d3d_bce9, 0x3d10_201c, 0x3cde_a2fa, 0x3cae_9805, 0x3c8a_d536, 0x3c5f_9ccf, 0x3c36_2f1e,
            0x3c16_0465, 0x3bd1_4f82, 0x3b96_ed02, 0x3b5f_dd77, 0x3b2a_154d, 0x3b03_f1f5, 0x3ad0_7772, 0x3aa7_5284,
            0x3a88_31b9, 0x3a3b_12eb, 0x3a05_b704, 0x39c5_791f, 0x3995_cd51, 0x3968_7db2, 0x3937_ee20, 0x3913_f403,
            0x3e80_0000, 0x3e52_70af, 0x3e2e_2b3a, 0x3e11_1792, 0x3df3_40f0, 0x3dcd_22d9, 0x3dad_fbf9, 0x3d94_5f77,
        ]),
        floats([
            0xbccd_805b, 0xbc8f_99f2, 0xbc4c_c01e, 0xbc14_b171, 0xbbdb_af83, 0xbba4_dd68, 0xbb7b_13a6, 0xbb41_c624,
            0xbb17_6ba1, 0xbabf_40dc, 0xba7b_5249, 0xba2a_dde8, 0xb9ef_537b, 0xb9ab_ffb5, 0xb97c_e63f, 0xb93d_afd3,
            0xb910_d31a, 0xb8b0_c446, 0xb863_1c8c, 0xb818_2a9f, 0xb7d3_2d6a, 0xb796_efc3, 0xb75d_4897, 0xb725_c99f,
            0xbe08_2c1a, 0xbdd8_158d, 0xbdac_a7aa, 0xbd8a_e490, 0xbd60_ee75, 0xbd37_4902, 0xbd16_424e, 0xbcf7_cfbd,
        ]),
        floats([
            0x3c17_a52c, 0x3bc7_f945, 0x3b86_b00f, 0x3b39_0f56, 0x3b01_8076, 0x3ab8_6298, 0x3a85_6100, 0x3a43_db83,
            0x3a11_d1f6, 0x39a7_da28, 0x394a_1e02, 0x38fd_1d93, 0x38a4_086c, 0x385b_21da, 0x3816_55ae, 0x37d3_3a01,
            0x3797_95ae, 0x3724_e5af, 0x36be_da40, 0x3668_768b, 0x3613_c098, 0x35c2_beea, 0x3584_6316, 0x3538_e3f8,
            0x3d7f_fe65, 0x3d44_ef54, 0x3d18_9643, 0x3cee_196b, 0x3cbb_0550, 0x3c93_dc07, 0x3c6b_4635, 0x3c3c_5409,
        ]),
        floats([
            0xbb4f_77bc, 0xbb02_0b68, 0xbaa6_4a08, 0xba59_1ba5, 0xba10_8583, 0xb9c3_f4e8, 0xb987_24c0, 0xb93d_6b92,
            0xb906_94fb, 0xb88e_912e, 0xb81d_f80b, 0xb7b6_d8d7, 0xb75b_f680, 0xb708_e789, 0xb6af_acc7, 0xb667_9f54,
            0xb61c_2edc, 0xb598_a9ad, 0xb51f_60ec, 0xb4b0_a1f4, 0xb44d_d470, 0xb3fa_4eba, 0xb39d_e13e, 0xb34d_987a,
            0xbcd9_7c86, 0xbca3_2690, 0xbc75_eacd, 0xbc3a_a609, 0xbc0e_a3a9, 0xbbdb_787a, 0xbba9_f03e, 0xbb84_69cc,
        ]),
        floats([
            0x3a7b_b163, 0x3a1e_c849, 0x39c1_8600, 0x3971_03f7, 0x3919_2ad2, 0x38c6_7225, 0x3882_e549, 0x382f_a2d8,
            0x37dd_53c6, 0x3769_43a3, 0x36ee_f1c9, 0x3680_52d9, 0x360f_c424, 0x35a7_3cc0, 0x3549_3121, 0x34f9_73ca,
            0x3491_017a, 0x340a_f7d2, 0x3383_4047, 0x3304_a6ed, 0x328d_f46c, 0x321f_8008, 0x31ba_e6e2, 0x3163_27be,
            0x3c1f_7313, 0x3bf9_2b4d, 0x3bb7_181b, 0x3b87_8158, 0x3b49_f87f, 0x3b17_8a9a, 0x3ae4_e925, 0x3aae_0092,
        ]),
    ],
};

/// Returns R(a), for `a` from 0 to [`LARGEST`], as two f32.
#[inline(always)]
fn ratio<I: Isa>(isa: I, a: I::F32) -> (I::F32, I::F32) {
    if polynomials::are_fast(isa) {
        return RATIO.at(isa, a);
    }
    let d = isa.widen(a) + isa.f64(f64::from(POLE));
    let reciprocal = isa.f64(1.0) / d;
    let ratio = horner_halves(isa, reciprocal - isa.f64(CENTRE), &FAR) * reciprocal;
    let hi = isa.narrow(ratio);
    (hi, isa.narrow(ratio - isa.widen(hi)))
}

/// Returns the probability that a normal variable exceeds `a`, for `a` from 0 to [`LARGEST`], as two f32.
#[inline(always)]
fn tail<I: Isa>(isa: I, a: I::F32) -> (I::F32, I::F32) {
    let minus_zero = isa.f32(-0.0);
    let minus_half = a * isa.f32(-0.5);
    let square = a * minus_half;
    let square_low = a.mul_add(minus_half, minus_zero - square);
    let Pair { hi, lo, .. } = exp_of_sum(isa, square, square_low);
    let (ratio, ratio_low) = ratio(isa, a);
    let tail = hi * ratio;
    (tail, lo.mul_add(ratio, hi.mul_add(ratio_low, hi.mul_add(ratio, minus_zero - tail))))
}

/// Returns an upper and a lower estimate of x (1 + erf(x / sqrt(2))) / 2, each rounded to f32. x must be accepted by
/// [`serves`]. If the two estimates are equal, they are the correctly rounded result.
#[inline(always)]
pub fn gelu<I: Isa>(isa: I, x: I::F32) -> [I::F32; 2] {
    let zero = isa.f32(0.0);
    let a = x.abs();
    let (tail, tail_low) = tail(isa, isa.f32(LARGEST).min(a));
    // For x below zero, the product of a and -tail is the product of x and the tail.
    let (negative, one) = (x.lt(zero), isa.f32(1.0));
    let (share, error) = fast_two_sum(I::F32::select(negative, zero, one), isa.f32(-0.0) - tail);
    let hi = a * share;
    let lo = a.mul_add(error - tail_low, a.mul_add(share, isa.f32(-0.0) - hi));
    let bound = if polynomials::are_fast(isa) {
        I::F32::select(negative, one, isa.f32(ABOVE_ZERO))
    } else {
        isa.f32(WITHOUT_TABLES)
    };
    let [above, below] = round(isa, hi, lo, hi.abs() * bound, UNCERTAINTY);
    // A zero is returned unchanged, because adding the low part would lose the sign of -0.
    let is_zero = x.eq(zero);
    [I::F32::select(is_zero, x, above), I::F32::select(is_zero, x, below)]
}

/// Returns the lanes in which [`gelu`] is valid.
#[inline(always)]
pub fn serves<I: Isa>(isa: I, x: I::F32) -> I::M32 {
    isa.f32(-LARGEST).lt(x) & x.lt(isa.f32(f32::INFINITY)) & (isa.f32(TINY).lt(x.abs()) | x.eq(isa.f32(0.0)))
}
