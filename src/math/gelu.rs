//! The Gaussian error linear unit as the sum of two f64.
//!
//! Gelu is x F(x), where F is the normal distribution function. P and Q are polynomials. From -1 to 1, F(x) is 1/2 + x
//! P(x^2), with a relative error of 2^-62.12. Let the tail be e^(-x^2/2) Q(1/(|x| + 3)) / (|x| + 3), whose relative
//! error is 2^-57.39. F(x) is the tail for x below -1, and 1 minus the tail for x above 1.

use super::derivative;
use super::exp::exp_below_one;
use super::normal::{Polynomial, Tail, odd};
use super::wide::{Wide, fast_two_sum, product, two_sum};
use crate::element::Element;
use crate::simd::{Float, Isa, Select};

const EDGE: f64 = 1.0;
/// 1 / sqrt(2 pi).
const DENSITY: [f64; 2] = [f64::from_bits(0x3fd9_8845_33d4_3651), f64::from_bits(0xbc7c_bc0d_30eb_fd15)];
const NEAR: Polynomial<13> = Polynomial {
    coefficients: [
        f64::from_bits(0x3fd9_8845_33d4_3651),
        f64::from_bits(0xbfb1_0583_77e2_cee0),
        f64::from_bits(0x3f84_6d04_2976_91da),
        f64::from_bits(0xbf53_7403_f6ba_10f3),
        f64::from_bits(0x3f1e_42b0_d521_6630),
        f64::from_bits(0xbee3_ce8f_ac13_d7df),
        f64::from_bits(0x3ea6_58a2_16ec_2da4),
        f64::from_bits(0xbe66_2226_8a73_ae4b),
        f64::from_bits(0x3e23_8788_3706_95ca),
        f64::from_bits(0xbddf_0fec_54be_7152),
        f64::from_bits(0x3d96_738d_2719_6a62),
        f64::from_bits(0xbd4d_35ed_66f3_bed2),
        f64::from_bits(0x3cfd_1761_06e9_f1d0),
    ],
    low: [f64::from_bits(0xbc7c_bc0d_b7ed_d213), f64::from_bits(0xbc57_7fd8_f003_02cb)],
};
const TAIL: Tail<24> = Tail {
    share: 0.5,
    pole: 3.0,
    centre: f64::from_bits(0x3fc1_7477_4e53_aff5),
    far: Polynomial {
        coefficients: [
            f64::from_bits(0x3fe4_99f9_89ac_86b3),
            f64::from_bits(0x4004_ab2b_83c9_69a2),
            f64::from_bits(0x401d_2c88_59e7_61e6),
            f64::from_bits(0x4026_ac85_38fc_f0cc),
            f64::from_bits(0xc013_f5f9_6013_1058),
            f64::from_bits(0xc04c_6807_adda_a308),
            f64::from_bits(0xc034_d73d_fff1_6680),
            f64::from_bits(0x4074_c2c9_6144_8379),
            f64::from_bits(0x4062_9644_8039_fde6),
            f64::from_bits(0xc0a3_50d8_5455_1a29),
            f64::from_bits(0x4078_2434_09a0_8f6c),
            f64::from_bits(0x40d3_fe60_2dd1_54db),
            f64::from_bits(0xc0db_1dc9_d4fd_b3d1),
            f64::from_bits(0xc102_a502_44b0_c662),
            f64::from_bits(0x4120_23f9_02ef_0429),
            f64::from_bits(0x4121_8693_46ac_f7ea),
            f64::from_bits(0xc15a_52ff_7987_6307),
            f64::from_bits(0x4161_ac8e_fa56_a7c5),
            f64::from_bits(0x418c_ae16_0803_c43f),
            f64::from_bits(0xc1ae_a3a2_0f9e_11ea),
            f64::from_bits(0xc1aa_269f_959f_707e),
            f64::from_bits(0x41e8_2c18_2327_6d61),
            f64::from_bits(0xc1cf_8782_0851_a966),
            f64::from_bits(0xc212_47e5_6268_c93d),
        ],
        low: [f64::from_bits(0xbc8f_44e5_1920_7414), f64::from_bits(0xbca2_92af_bc23_f4e3)],
    },
};

/// Computes x times the normal distribution function, for any x.
#[inline(always)]
pub fn gelu<I: Isa, E: Element>(isa: I, x: I::F64) -> Wide<I> {
    let zero = isa.f64(0.0);
    // Magnitude of x above which x times the tail is zero in type `E`.
    let largest = if E::IS_F64 { 40.0 } else { 20.0 };
    let a = isa.f64(largest).min(x.abs());
    let x = isa.f64(-largest).max(x);
    let small = isa.f64(EDGE).min(isa.f64(-EDGE).max(x));
    let (near, near_low) = odd(isa, small, &NEAR);
    let (near, error) = fast_two_sum(isa.f64(0.5), near);
    let near_low = near_low + error;
    let (tail, power) = TAIL.eval(isa, a);
    let (t, t_low) = exp_below_one(isa, &tail, power);
    let (above, error) = fast_two_sum(isa.f64(1.0), isa.f64(-0.0) - t);
    let negative = x.lt(zero);
    let far = I::F64::select(negative, tail.hi, above);
    let far_low = I::F64::select(negative, tail.lo, error - t_low);
    let is_near = a.lt(isa.f64(EDGE));
    let share = (I::F64::select(is_near, near, far), I::F64::select(is_near, near_low, far_low));
    let (hi, lo) = product(isa, (x, zero), share);
    // At +inf the computed error is infinity - infinity, which is NaN, so it is set to 0. A zero keeps its sign.
    let lo = I::F64::select(lo.is_nan(), zero, lo);
    let lo = I::F64::select(x.eq(zero), x, lo);
    let none = zero.to_bits();
    let is_tail = x.le(isa.f64(-EDGE));
    let exponent = match tail.exponent {
        Some(n) => I::I64::select(is_tail, n, none),
        None => none,
    };
    Wide { hi, lo, exponent: Some(exponent) }
}

/// Computes the derivative of gelu, for any x: the normal distribution function plus x times the normal density.
///
/// For x below -1, both terms have the factor e^(-x^2/2). For x above 1, the derivative is 1 minus the derivative at
/// -x.
#[inline(always)]
pub fn gelu_derivative<I: Isa, E: Element>(isa: I, x: I::F64) -> Wide<I> {
    let (zero, minus) = (isa.f64(0.0), isa.f64(-0.0));
    let x = derivative::within(isa, x, (2.0 * derivative::far::<E>()).sqrt());
    let a = x.abs();
    let (scaled, e, power) = TAIL.factors(isa, a);
    let density = (isa.f64(DENSITY[0]), isa.f64(DENSITY[1]));

    // For x below -1, the tail is `scaled` * e^(-x^2/2), and the derivative is (`scaled` - a * DENSITY) * e^(-x^2/2).
    let (second, second_low) = product(isa, (minus - a, zero), density);
    let (rest, error) = two_sum(scaled.0, second);
    let (t_hi, t_low) = product(isa, (rest, error + (scaled.1 + second_low)), (e.hi, e.lo));
    let plain = exp_below_one(isa, &Wide { hi: t_hi, lo: t_low, exponent: e.exponent }, power);
    let (above, error) = two_sum(isa.f64(1.0), minus - plain.0);
    let above_low = error - plain.1;

    // Near zero, the derivative is 1/2, plus the density's integral from 0 to x, plus x times the density. For x below
    // zero, the last two terms cancel part of the 1/2.
    let small = derivative::within(isa, x, EDGE);
    let (integral, integral_low) = odd(isa, small, &NEAR);
    let (term, term_low) = product(isa, (small, zero), density);
    let (term, term_low) = product(isa, (term, term_low), exp_below_one(isa, &e, power));
    let (half, half_error) = two_sum(isa.f64(0.5), integral);
    let (near, error) = two_sum(half, term);
    let near_low = error + (half_error + (integral_low + term_low));

    let is_near = a.lt(isa.f64(EDGE));
    let is_tail = x.le(isa.f64(-EDGE));
    let far = (I::F64::select(is_tail, t_hi, above), I::F64::select(is_tail, t_low, above_low));
    let hi = I::F64::select(is_near, near, far.0);
    let lo = I::F64::select(is_near, near_low, far.1);
    Wide { hi, lo, exponent: derivative::only_where(isa, is_tail, e.exponent) }
}
