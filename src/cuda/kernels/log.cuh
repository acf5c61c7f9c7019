// The logarithms of `src/math/log.rs`, `log2.rs` and `log1p.rs`.
#pragma once
#include "wide.cuh"

const u64 SQRT_HALF_BITS = 0x3fe6a09e667f3bcd, FRACTION = 0x000fffffffffffff, TWO_52_BITS = 0x4330000000000000;

// Coefficients of (log((1+s)/(1-s))/s - 2) / s^2 in powers of s^2.
__constant__ const double LOG_POLY[8] = {
    0x1.5555555555555p-1, 0x1.9999999999ep-2, 0x1.249249242b31p-2, 0x1.c71c725910e22p-3, 0x1.745cde2f93b07p-3,
    0x1.3b20ac99930e9p-3, 0x1.0f5cb17060c32p-3, 0x1.0f63e9a4579aep-3};

// Splits a positive normal number into 2^k * m, with m from sqrt(1/2) to sqrt(2).
struct Fraction {
    u64 biased;
    double m, k;
};

DEVICE Fraction fraction(double x) {
    const u64 offset = bits_of_wide(x) + (ONE_BITS - SQRT_HALF_BITS);
    const u64 biased = offset >> 52;
    const double k = wide_of(biased | TWO_52_BITS) - (0x1p52 + 1023.0);
    return {biased, wide_of((offset & FRACTION) + SQRT_HALF_BITS), k};
}

// Computes ln(1 + f + low) + k ln2.
template <bool HAS_LOW>
DEVICE Sum log_parts(double f, double low, double k) {
    const double LN2_HI = 0x1.62e42fefa3p-1, LN2_LO = 0x1.3de6af278ece6p-42;
    const double d = f + 2.0;
    const double s = f / d;
    // Remainder of the division f / (2 + f). For `s_low`, it is multiplied by (1 - s) / 2, the reciprocal of 2 + f.
    double rest = fma(0.0 - s, d, f) - s * (f - (d - 2.0));
    if (HAS_LOW) {
        rest = rest + (low - s * low);
    }
    const double s_low = rest * fma(s, -0.5, 0.5);
    const double z = s * s;
    const Sum sum = fast_two_sum(k * LN2_HI, s * 2.0);
    const double small = fma(s * z, horner(z, LOG_POLY), fma(s_low, 2.0, k * LN2_LO));
    return fast_two_sum(sum.hi, sum.lo + small);
}

// Returns the logarithm of any x: `v` for positive finite x, -inf for zeros, +inf for +inf, and NaN for negative
// numbers and NaN.
DEVICE Sum at_the_ends(double x, Sum v) {
    double hi = x == INFINITE ? INFINITE : v.hi;
    hi = x == 0.0 ? -INFINITE : hi;
    return {x >= 0.0 ? hi : NOT_A_NUMBER, v.lo};
}

// Computes ln x for a value of a storage type. Every nonzero value is normal in f64.
DEVICE Sum log_wide(double x) {
    const Fraction at = fraction(x);
    return at_the_ends(x, log_parts<false>(at.m - 1.0, 0.0, at.k));
}

// Computes ln x for any f64, which may be subnormal.
DEVICE Sum log_of_any(double x) {
    const bool is_tiny = x < 0x1p-1022;
    const Fraction at = fraction(is_tiny ? x * 0x1p54 : x);
    return at_the_ends(x, log_parts<false>(at.m - 1.0, 0.0, is_tiny ? at.k - 54.0 : at.k));
}

DEVICE Sum log2_wide(double x) {
    const Fraction at = fraction(x);
    const Sum of_m = product(log_parts<false>(at.m - 1.0, 0.0, 0.0), {0x1.71547652b82fep+0, 0x1.777d0ffda0d24p-56});
    const Sum sum = fast_two_sum(at.k, of_m.hi);
    return at_the_ends(x, {sum.hi, sum.lo + of_m.lo});
}

// Computes ln(1 + x + low) for x + low above -1.
template <bool HAS_LOW>
DEVICE Sum log1p_sum(double x, double low) {
    const Sum sum = two_sum(1.0, x);
    const Fraction at = fraction(sum.hi);
    const double scale = wide_of((2046 - at.biased) << 52);
    const double rest = 1e30 < x ? 0.0 : sum.lo * scale;
    const Sum f = fast_two_sum(at.m - 1.0, rest);
    return log_parts<true>(f.hi, HAS_LOW ? fma(low, scale, f.lo) : f.lo, at.k);
}

DEVICE Sum log1p_wide(double x) {
    Sum v = log1p_sum<false>(x, 0.0);
    if (fabs(x) < 0x1p-54) {
        v = {x, x * x * -0.5};
    }
    double hi = x == INFINITE ? INFINITE : v.hi;
    hi = x == -1.0 ? -INFINITE : hi;
    return {x >= -1.0 ? hi : NOT_A_NUMBER, v.lo};
}
