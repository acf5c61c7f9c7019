// The exponential functions of `src/math/exp.rs`, `exp2.rs` and `expm1.rs`.
#pragma once
#include "wide.cuh"

// For arguments beyond these limits, exponentials are infinite or zero in f32 and in narrower types.
const double EXP_MAX = 88.72283172607422, EXP_MIN = -103.97207641601562;

// Coefficients of (e^r - 1 - r) / r^2.
__constant__ const double EXP_POLY[11] = {
    0.5, 0x1.555555555555cp-3, 0x1.555555555555ep-5, 0x1.111111110ebb2p-7, 0x1.6c16c16c1357p-10,
    0x1.a01a01b3bb2b6p-13, 0x1.a01a01b45ab8cp-16, 0x1.71ddef93b9d4ep-19, 0x1.27e4bf291af05p-22,
    0x1.af6cccf1977c3p-26, 0x1.1f9df719b67acp-29};
// Coefficients of (e^r - 1 - r - r^2/2) / r^3.
__constant__ const double EXPM1_POLY[10] = {
    0x1.5555555555559p-3, 0x1.5555555555559p-5, 0x1.111111110f6dcp-7, 0x1.6c16c16c14a77p-10,
    0x1.a01a01afd5a1fp-13, 0x1.a01a01af6770dp-16, 0x1.71ddf87641f5ap-19, 0x1.27e4c7bd1e0a4p-22,
    0x1.af5e884456715p-26, 0x1.1f92ca3298802p-29};

// Reduced argument r of x, with x = n * ln2 + r + low. `low` is the rounding error of r.
struct Reduced {
    double r, low;
    u64 n;
};

DEVICE Reduced reduced(double x) {
    const double LN2_HI = 0x1.62e42fefa38p-1, LN2_LO = 0x1.ef35793c7673p-45;
    const double shifted = fma(x, 0x1.71547652b82fep+0, SHIFTER);
    const double n = shifted - SHIFTER;
    const double near = fma(n, -LN2_HI, x);
    const double r = fma(n, -LN2_LO, near);
    return {r, fma(n, -LN2_LO, near - r), bits_of_wide(shifted) - bits_of_wide(SHIFTER)};
}

// Computes e^(x + low), with the power of two as a separate exponent. |x| must be at most about 2^20.
DEVICE Wide exp_parts(double x, double low) {
    const Reduced at = reduced(x);
    const double rest = fma(at.r * at.r, horner(at.r, EXP_POLY), at.low);
    const Sum sum = fast_two_sum(1.0, at.r);
    return {sum.hi, fma(low, sum.hi + rest, sum.lo + rest), at.n};
}

// Sets the exponent to 0 if x is NaN, so that the NaN keeps its bits.
DEVICE Wide without_nan(double x, Wide power) { return {power.hi, power.lo, x != x ? 0 : power.exponent}; }

DEVICE Wide exp_wide(double x) {
    return without_nan(x, exp_parts(smaller(EXP_MAX + 1.0, larger(EXP_MIN - 1.0, x)), 0.0));
}

// Converts `power`, which is e^x for x <= 0, to a pair without an exponent. If x is below -690, the result is 0.
DEVICE Sum below_one(Wide power, double x) {
    const double scale = x < -690.0 ? 0.0 : power_of_two(power.exponent);
    return {power.hi * scale, power.lo * scale};
}

// The natural logarithm of 2.
const double LN2_WIDE = 0x1.62e42fefa39efp-1, LN2_WIDE_LOW = 0x1.abc9e3b39803fp-56;

// Computes 2^x, with the power of two as a separate exponent. |x| must be at most a few thousand.
DEVICE Wide exp2_parts(double x) {
    const double shifted = x + SHIFTER;
    const double f = x - (shifted - SHIFTER);
    const double r = f * LN2_WIDE;
    const double r_low = fma(f, LN2_WIDE_LOW, fma(f, LN2_WIDE, -r));
    const Sum squared = square(r);
    const Sum one = fast_two_sum(1.0, r);
    const double small = fma(r_low, one.hi, squared.lo * 0.5);
    const double rest = fma(squared.hi * r, horner<1>(r, EXP_POLY), small);
    const Sum sum = fast_two_sum(one.hi, squared.hi * 0.5);
    const u64 n = bits_of_wide(shifted) - bits_of_wide(SHIFTER);
    return {sum.hi, one.lo + sum.lo + rest, n};
}

DEVICE Wide exp2_wide(double x) { return without_nan(x, exp2_parts(within(x, 200.0))); }

// Computes e^x - 1 for x >= -40.
DEVICE Wide expm1_parts(double x) {
    const Reduced at = reduced(x);
    const Sum squared = square(at.r);
    const Sum sum = fast_two_sum(at.r, squared.hi * 0.5);
    const double cube = fma(squared.hi * at.r, horner(at.r, EXPM1_POLY), fma(at.low, sum.hi, at.low));
    const double low = fma(squared.lo, 0.5, cube) + sum.lo;
    // For x above 42, subtracting 1 does not change the result.
    const bool is_high = 42.0 < x;
    const double power = is_high ? 1.0 : power_of_two(at.n);
    const Sum whole = two_sum(power, is_high ? 0.0 : -1.0);
    const Sum result = fast_two_sum(whole.hi, sum.hi * power);
    return {result.hi, result.lo + fma(low, power, whole.lo), is_high ? at.n : 0};
}

DEVICE Wide expm1_wide(double x) {
    const Wide v = expm1_parts(smaller(EXP_MAX + 1.0, larger(-40.0, x)));
    // A zero keeps its sign.
    return {x == 0.0 ? x : v.hi, x == 0.0 ? x : v.lo, v.exponent};
}
