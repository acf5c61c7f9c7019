//! The error function as the sum of two f64.
//!
//! P and Q are polynomials. For 0 <= x < 3/4, erf x is `x * P(x^2)`, with a relative error of 2^-59.12. For larger x,
//! erf x is `1 - e^(-x^2) * Q(1 / (x + 2)) / (x + 2)`. The relative error of the second term is 2^-59.47.

use super::exp::exp_below_one;
use super::normal::{Polynomial, Tail, odd};
use super::wide::{Wide, fast_two_sum};
use crate::simd::{Float, Isa, Select};

const EDGE: f64 = 0.75;
/// Argument beyond which the result rounds to 1.
const LARGEST: f64 = 7.0;
const NEAR: Polynomial<13> = Polynomial {
    coefficients: [
        f64::from_bits(0x3ff2_0dd7_5042_9b6d),
        f64::from_bits(0xbfd8_1274_6b03_79e7),
        f64::from_bits(0x3fbc_e2f2_1a04_2be1),
        f64::from_bits(0xbf9b_82ce_3128_8b15),
        f64::from_bits(0x3f75_65bc_d0e6_922c),
        f64::from_bits(0xbf4c_02db_3ffc_d30f),
        f64::from_bits(0x3f1f_9a32_6dda_1cfa),
        f64::from_bits(0xbeef_4d25_7a98_27eb),
        f64::from_bits(0x3ebb_9e64_6d15_176b),
        f64::from_bits(0xbe85_f6a1_ac5a_6168),
        f64::from_bits(0x3e4f_bb85_ccba_e91d),
        f64::from_bits(0xbe14_8b4a_e655_9744),
        f64::from_bits(0x3dd3_fd60_aa4f_79d6),
    ],
    low: [f64::from_bits(0x3c71_ae33_da53_1f07), f64::from_bits(0x3c6f_00b3_45cc_99b3)],
};
const TAIL: Tail<22> = Tail {
    share: 1.0,
    pole: 2.0,
    centre: f64::from_bits(0x3fce_626c_d471_c586),
    far: Polynomial {
        coefficients: [
            f64::from_bits(0x3fef_9a68_a6cb_497b),
            f64::from_bits(0x4005_186d_3920_5a38),
            f64::from_bits(0x4011_8331_6dde_0680),
            f64::from_bits(0x4004_cb41_a329_4f50),
            f64::from_bits(0xc014_3c3e_34d5_cffb),
            f64::from_bits(0xc01e_2b9d_78ab_72b5),
            f64::from_bits(0x4026_82e7_df2b_78de),
            f64::from_bits(0x4032_0441_ba05_adf1),
            f64::from_bits(0xc044_a6d1_9c71_b117),
            f64::from_bits(0xc03d_344a_5fdf_ff85),
            f64::from_bits(0x4064_dd7b_7731_a667),
            f64::from_bits(0xc052_a55a_f3fa_1488),
            f64::from_bits(0xc080_ef6b_6b7a_2525),
            f64::from_bits(0x4090_90b8_92ad_0ea2),
            f64::from_bits(0x4082_c20e_2d27_517b),
            f64::from_bits(0xc0b5_c7f4_38dd_68ca),
            f64::from_bits(0x40bd_2357_85de_c32e),
            f64::from_bits(0x40c6_2beb_166d_3e31),
            f64::from_bits(0xc0ec_f497_3cec_2366),
            f64::from_bits(0x40ef_019c_3083_3786),
            f64::from_bits(0x4105_b99d_e135_8c87),
            f64::from_bits(0xc11e_e1f9_e4df_bd02),
        ],
        low: [f64::from_bits(0x3c81_3db8_51a0_d348), f64::from_bits(0xbc9c_c903_348b_2929)],
    },
};

/// Computes erf x, for any x.
#[inline(always)]
pub fn erf<I: Isa>(isa: I, x: I::F64) -> Wide<I> {
    let zero = isa.f64(0.0);
    let a = isa.f64(LARGEST).min(x.abs());
    let (near, near_low) = odd(isa, a, &NEAR);
    let (tail, power) = TAIL.eval(isa, a);
    let (t, t_low) = exp_below_one(isa, &tail, power);
    let (far, error) = fast_two_sum(isa.f64(1.0), isa.f64(-0.0) - t);
    let is_near = a.lt(isa.f64(EDGE));
    let hi = I::F64::select(is_near, near, far);
    let lo = I::F64::select(is_near, near_low, error - t_low);
    // `sign` is 1 or -1, with the sign of x. For x = -0, `sign` is -1.
    let sign = I::F64::from_bits((x.to_bits() & isa.i64(i64::MIN)) | isa.f64(1.0).to_bits());
    Wide { hi: hi * sign, lo: I::F64::select(x.eq(zero), x, lo * sign), exponent: None }
}
