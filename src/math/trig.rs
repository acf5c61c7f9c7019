//! Sine and cosine of one number in f64, within 1 ULP, for every finite argument.
//!
//! The reduction by pi/2 is computed in integers: the argument's 53 bits are multiplied by the 192 bits of 2/pi that
//! affect the result (Payne and Hanek, 1983). The remainder has 128 bits after the binary point. Two polynomials on
//! `|r| <= pi/4` give the results. Only additions and multiplications are used, so every machine gives the same bits.

use super::power::Pair;

/// Bits of 2/pi after the binary point.
const TWO_OVER_PI: [u64; 20] = [
    0xa2f9_836e_4e44_1529,
    0xfc27_57d1_f534_ddc0,
    0xdb62_9599_3c43_9041,
    0xfe51_63ab_debb_c561,
    0xb724_6e3a_424d_d2e0,
    0x0649_2eea_09d1_921c,
    0xfe1d_eb1c_b129_a73e,
    0xe882_35f5_2ebb_4484,
    0xe99c_7026_b45f_7e41,
    0x3991_d639_8353_39f4,
    0x9c84_5f8b_bdf9_283b,
    0x1ff8_97ff_de05_980f,
    0xef2f_118b_5a0a_6d1f,
    0x6d36_7ecf_27cb_09b7,
    0x4f46_3f66_9e5f_ea2d,
    0x7527_bac7_ebe5_f17b,
    0x3d07_39f7_8a52_92ea,
    0x6bfb_5fb1_1f8d_5d08,
    0x5603_3046_fc7b_6bab,
    0xf0cf_bc20_9af4_361d,
];
const HALF_PI: f64 = f64::from_bits(0x3ff9_21fb_5444_2d18);
const HALF_PI_LOW: f64 = f64::from_bits(0x3c91_a626_3314_5c07);
/// Coefficients of (sin r - r) / r^3 in powers of r^2; error 2^-57.2.
const SIN: [f64; 6] = [
    f64::from_bits(0xbfc5_5555_5555_5549),
    f64::from_bits(0x3f81_1111_1110_f87a),
    f64::from_bits(0xbf2a_01a0_19c1_1990),
    f64::from_bits(0x3ec7_1de3_577b_65ee),
    f64::from_bits(0xbe5a_e5e6_63a6_459e),
    f64::from_bits(0x3de5_d930_0f03_97f2),
];
/// Coefficients of (cos r - 1 + r^2/2) / r^4 in powers of r^2; error 2^-60.
const COS: [f64; 6] = [
    f64::from_bits(0x3fa5_5555_5555_554c),
    f64::from_bits(0xbf56_c16c_16c1_517e),
    f64::from_bits(0x3efa_01a0_19cb_1bd8),
    f64::from_bits(0xbe92_7e4f_809f_07b0),
    f64::from_bits(0x3e21_ee9e_be91_3ef4),
    f64::from_bits(0xbda8_fae9_c69b_38f2),
];

/// Returns sine and cosine, each as an f64 and its rounding error. Sine and cosine are NaN if x is not finite.
pub fn sin_cos(x: f64) -> (Pair, Pair) {
    if !x.is_finite() {
        return (f64::NAN.into(), f64::NAN.into());
    }
    let (quadrant, r, low) = if x.abs() <= HALF_PI / 2.0 { (0, x, 0.0) } else { reduce(x) };
    let z = r * r;
    let s = sum(r, r * z * polynomial(&SIN, z) + low);
    let half = 0.5 * z;
    let w = 1.0 - half;
    let c = sum(w, ((1.0 - w) - half) + (z * z * polynomial(&COS, z) - r * low));
    match quadrant {
        0 => (s, c),
        1 => (c, -s),
        2 => (-s, -c),
        _ => (-c, s),
    }
}

/// Returns a + b with its rounding error. |b| must be at most |a|.
fn sum(a: f64, b: f64) -> Pair {
    Pair(a + b, b - ((a + b) - a))
}

fn polynomial(coefficients: &[f64; 6], z: f64) -> f64 {
    coefficients.iter().rev().fold(0.0, |sum, c| sum * z + c)
}

/// Returns the quadrant modulo 4, and r = x - quadrant * pi/2 as two f64, with |r| <= pi/4.
fn reduce(x: f64) -> (u64, f64, f64) {
    let bits = x.abs().to_bits();
    let exponent = (bits >> 52) as i32 - 1075;
    let mantissa = u128::from(bits & ((1 << 52) - 1) | 1 << 52);
    // Compute x * 2/pi modulo 4, in units of 2^-190, from 192 bits of 2/pi. Higher bits would add multiples of 4.
    let [w2, w1, w0] = window(exponent - 2);
    let low = mantissa * u128::from(w0);
    let mid = mantissa * u128::from(w1) + (low >> 64);
    let high = (mantissa * u128::from(w2) + (mid >> 64)) as u64;
    let (mid, low) = (mid as u64, low as u64);
    let fraction = u128::from(high << 2 | mid >> 62) << 64 | u128::from(mid << 2 | low >> 62);
    // The fraction is read as a signed number in [-1/2, 1/2). If this number is negative, the quadrant is one higher.
    let fraction = fraction as i128;
    let quadrant = (high >> 62).wrapping_add(u64::from(fraction < 0));
    let near = fraction as f64;
    let rest = (fraction - near as i128) as f64;
    const UNIT: f64 = 1.0 / (1u128 << 127) as f64 / 2.0;
    let (near, rest) = (near * UNIT, rest * UNIT);
    let (r, error) = product(near, HALF_PI);
    let low = error + (near * HALF_PI_LOW + rest * HALF_PI);
    let (r, low) = (r + low, low - ((r + low) - r));
    if x < 0.0 { (quadrant.wrapping_neg() & 3, -r, -low) } else { (quadrant & 3, r, low) }
}

/// Returns 192 bits of 2/pi, from bit `start` after the binary point. Bits before the point are zeros.
fn window(start: i32) -> [u64; 3] {
    let word = |index: i32| usize::try_from(index).map_or(0, |i| TWO_OVER_PI[i]);
    let (index, shift) = (start.div_euclid(64), start.rem_euclid(64));
    [0, 1, 2].map(|k| {
        let pair = u128::from(word(index + k)) << 64 | u128::from(word(index + k + 1));
        (pair << shift >> 64) as u64
    })
}

/// Returns a * b and its rounding error, without a fused instruction (Dekker, 1971).
fn product(a: f64, b: f64) -> (f64, f64) {
    let split = |v: f64| {
        let c = v * 134_217_729.0;
        let high = c - (c - v);
        (high, v - high)
    };
    let p = a * b;
    let ((ah, al), (bh, bl)) = (split(a), split(b));
    (p, ((ah * bh - p) + ah * bl + al * bh) + al * bl)
}
