// Logarithms in float-float pairs, as `src/math/log_pair.rs` and `log2_pair.rs` define them, with the rounding test of
// `pair.cuh`.
#pragma once
#include "pair.cuh"

// Values of c, one for each eighth of the binade from 0.71875 to 1.4375. For each m in the eighth, c is about 1 / m.
__constant__ const u32 RECIPROCALS[8] = {0x3faa8000, 0x3f9d8000, 0x3f928000, 0x3f888000,
                                         0x3f800000, 0x3f640000, 0x3f4d0000, 0x3f3a0000};
// -ln c, and -log2 c. Each is the sum of a multiple of 2^-16 and a remainder.
__constant__ const u32 LOGS_HIGH[8] = {0xbe92cc00, 0xbe546000, 0xbe0a3c00, 0xbd83b000,
                                       0x00000000, 0x3ded3800, 0x3e638000, 0x3ea38c00};
__constant__ const u32 LOGS_LOW[8] = {0x36ff7904, 0x36181bbf, 0xb5308ce8, 0x36cf94ce,
                                      0x00000000, 0x361d8e11, 0xb50721fe, 0x365c271c};
__constant__ const u32 LOGS2_HIGH[8] = {0xbed3c800, 0xbe993200, 0xbe477000, 0xbdbdf800,
                                        0x00000000, 0x3e2b2000, 0x3ea41c00, 0x3eebf400};
__constant__ const u32 LOGS2_LOW[8] = {0x36f5c842, 0x35d3929b, 0x36d45f2b, 0x358b4a3b,
                                       0x00000000, 0xb68f5801, 0xb6d0cb51, 0xb69faa1e};
// Coefficients of (ln(1 + r) - r + r^2/2) / r^3, and of (log2(1 + r) - (r - r^2/2) / ln2) / r^3.
__constant__ const u32 LOG_PAIR_POLY[5] = {0x3eaaaaab, 0xbe7fffd8, 0x3e4ccc70, 0xbe2b4b32, 0x3e131119};
__constant__ const u32 LOG2_PAIR_POLY[5] = {0x3ef6384f, 0xbeb8aa1e, 0x3e93bb1f, 0xbe771fe6, 0x3e542c2b};

// Bound on the error, relative to the logarithm.
const float LOG_UNCERTAINTY = 3.5e-10f;

// Tables in shared memory. Thread j < 8 writes entry j.
template <bool IS_BINARY>
struct LogTables {
    float reciprocals[8], highs[8], lows[8];

    DEVICE void fill() {
        const u32 j = threadIdx.x;
        if (j < 8) {
            reciprocals[j] = float_of(RECIPROCALS[j]);
            highs[j] = float_of(IS_BINARY ? LOGS2_HIGH[j] : LOGS_HIGH[j]);
            lows[j] = float_of(IS_BINARY ? LOGS2_LOW[j] : LOGS_LOW[j]);
        }
    }
    DEVICE float reciprocal(u32 j) const { return reciprocals[j]; }
    DEVICE float high(u32 j) const { return highs[j]; }
    DEVICE float low(u32 j) const { return lows[j]; }
};

// Tables like `LogTables`, but in constant memory. These tables suit code that few lanes of a warp run at a time.
template <bool IS_BINARY>
struct SeldomLogTables {
    static DEVICE float reciprocal(u32 j) { return float_of(RECIPROCALS[j]); }
    static DEVICE float high(u32 j) { return float_of(IS_BINARY ? LOGS2_HIGH[j] : LOGS_HIGH[j]); }
    static DEVICE float low(u32 j) { return float_of(IS_BINARY ? LOGS2_LOW[j] : LOGS_LOW[j]); }
};

DEVICE float log_pair_poly(float r, const u32 (&c)[5]) {
    float sum = float_of(c[4]);
    for (u32 i = 4; i > 0; i--) {
        sum = fmaf(sum, r, float_of(c[i - 1]));
    }
    return sum;
}

// Parts of a positive normal number 2^k * (1 + r + low) / c, with c from the table, and r^2 with its rounding error.
struct LogParts {
    float k, r, low, square, square_low;
    u32 index;
};

template <class Tables>
DEVICE LogParts log_parts(const Tables& tables, float x) {
    const u32 BASE = 0x3f380000, ONE = 0x3f800000, TWO_23 = 0x4b000000;
    const u32 offset = bits_of(x) + (ONE - BASE);
    const float k = float_of(offset >> 23 | TWO_23) - (0x1p23f + 127.0f);
    const float m = float_of((offset & 0x007fffff) + BASE);
    const u32 index = offset >> 20 & 7;
    const float c = tables.reciprocal(index), product = m * c;
    const float r = product - 1.0f, square = r * r;
    return {k, r, fmaf(m, c, 0.0f - product), square, fmaf(r, r, 0.0f - square), index};
}

// Adds and subtracts the error bound of a logarithm. If x is not positive and finite, the result is -inf, +inf or NaN.
DEVICE Sides log_bounds(float x, float hi, float lo) {
    const Sides found = sides(hi, lo, fabsf(hi), LOG_UNCERTAINTY, true);
    const bool is_positive = 0.0f < x && x < INFINITE;
    const float end = x == 0.0f ? -INFINITE : x == INFINITE ? x : float_of(F32::NOT_A_NUMBER);
    return {is_positive ? found.above : end, is_positive ? found.below : end, !is_positive || 0x1p-126f <= x};
}

template <class Tables>
DEVICE Sides log_sides(const Tables& tables, float x) {
    const float LN2_HIGH = 0x1.62e4p-1f, LN2_LOW = 0x1.7f7d1cp-20f;
    const LogParts at = log_parts(tables, x);
    const FloatSum sum = fast_two_sum(fmaf(at.k, LN2_HIGH, tables.high(at.index)), at.r);
    const float hi = fmaf(-0.5f, at.square, sum.hi);
    const float hi_low = fmaf(-0.5f, at.square, sum.hi - hi);
    const float q = log_pair_poly(at.r, LOG_PAIR_POLY);
    const float derivative = (at.square - at.r) + 1.0f;
    const float table = fmaf(at.k, LN2_LOW, tables.low(at.index));
    const float small = fmaf(-0.5f, at.square_low, fmaf(at.low, derivative, table));
    return log_bounds(x, hi, fmaf(at.square * at.r, q, small + (sum.lo + hi_low)));
}

template <class Tables>
DEVICE Sides log2_sides(const Tables& tables, float x) {
    const float FACTOR = 0x1.715476p+0f, FACTOR_LOW = 0x1.4ae0cp-26f;
    const LogParts at = log_parts(tables, x);
    const float product = at.r * FACTOR;
    const float product_low = fmaf(at.r, FACTOR_LOW, fmaf(at.r, FACTOR, 0.0f - product));
    const FloatSum sum = fast_two_sum(at.k + tables.high(at.index), product);
    const float hi = fmaf(FACTOR * -0.5f, at.square, sum.hi);
    const float hi_low = fmaf(FACTOR * -0.5f, at.square, sum.hi - hi);
    const float q = fmaf(log_pair_poly(at.r, LOG2_PAIR_POLY), at.r, FACTOR_LOW * -0.5f);
    const float derivative = fmaf(at.square - at.r, FACTOR, FACTOR);
    const float part = fmaf(at.low, derivative, product_low + tables.low(at.index));
    const float small = fmaf(FACTOR * -0.5f, at.square_low, part);
    return log_bounds(x, hi, fmaf(at.square, q, small + (sum.lo + hi_low)));
}
