// Functions in float-float pairs for f32, with the methods of `src/math/exp_pair.rs`, `exp2_pair.rs` and
// `tanh_pair.rs`. `logistic_pair` has the operations of `share` in `src/math/swiglu.rs`, except for the reciprocal. The
// pair minus its error bound and the pair plus its error bound are rounded. If the two roundings agree and the argument
// is in range, the rounded result is correct. Otherwise the function is computed in f64.
//
// Reciprocals are approximate, with a relative error of at most 3 u, u = 2^-24. Each quotient is corrected by its
// remainder, which leaves a relative error below 12 u^2. The error bounds here cover this error.
#pragma once
#include "approx_instructions.cuh"

// 2^(j/16) rounded to f32, and the relative error of this rounding.
__constant__ const u32 POWERS[16] = {0x3f800000, 0x3f85aac3, 0x3f8b95c2, 0x3f91c3d3, 0x3f9837f0, 0x3f9ef532,
                                     0x3fa5fed7, 0x3fad583f, 0x3fb504f3, 0x3fbd08a4, 0x3fc5672a, 0x3fce248c,
                                     0x3fd744fd, 0x3fe0ccdf, 0x3feac0c7, 0x3ff5257d};
__constant__ const u32 POWERS_LOW[16] = {0x00000000, 0x3346cb6a, 0xb24e0611, 0x334b2482, 0x33092801, 0x331b85f2,
                                         0xb3051aa8, 0xb2006c56, 0x329302ae, 0xb302e5a2, 0x31b3d0e5, 0x31d1daf2,
                                         0xb27ce182, 0xb1b4b0da, 0xb1d290be, 0x31b0a147};

// Returns entry j of the table of powers, minus j << 19. Let j be n % 16. Then 2^(n/16) is entry j with (n - j) << 19
// added to its bits, because its exponent grows by (n - j) / 16. Since j << 19 is already subtracted here, `power_pair`
// adds only n << 19.
DEVICE float power_of(u32 j) { return float_of(POWERS[j] - (j << 19)); }

// Tables in shared memory. Thread j < 16 writes entry j.
struct PairTables {
    float powers[16], lows[16];

    DEVICE void fill() {
        const u32 j = threadIdx.x;
        if (j < 16) {
            powers[j] = power_of(j);
            lows[j] = float_of(POWERS_LOW[j]);
        }
    }
    DEVICE float power(u32 j) const { return powers[j]; }
    DEVICE float low(u32 j) const { return lows[j]; }
};

// Tables like `PairTables`, but in constant memory. These tables suit code that few lanes of a warp run at a time.
struct SeldomPairTables {
    static DEVICE float power(u32 j) { return power_of(j); }
    static DEVICE float low(u32 j) { return float_of(POWERS_LOW[j]); }
};

// A result minus its error bound and plus its error bound, each rounded to f32, and whether the argument is in range.
struct Sides {
    float above, below;
    bool serves;
};

// Bound on an exponential's error, in multiples of `Pair::power`. For arguments beyond `PAIR_LARGEST`, the exponential
// may be subnormal.
const float UNCERTAINTY = 7e-11f, PAIR_LARGEST = 75.0f, PAIR_SHIFTER = 12582912.0f;

struct FloatSum {
    float hi, lo;
};

DEVICE FloatSum fast_two_sum(float a, float b) {
    const float sum = a + b;
    return {sum, b - (sum - a)};
}

DEVICE FloatSum two_sum(float a, float b) {
    const float sum = a + b, part = sum - a;
    return {sum, (a - (sum - part)) + (b - part)};
}

// e^x as a pair, and a power 2^(n/16) close to e^x. The error bound is a multiple of this power.
struct Pair {
    float hi, lo, power;
};

// Computes e^(r + r_low) times 2^(n/16). The low bits of `j` hold n. The bits of swiglu depend on the operations of
// this function and of `exp_pair`, which are those of `share` in `src/math/swiglu.rs`.
template <class Tables>
DEVICE Pair power_pair(const Tables& tables, float r, float r_low, float j) {
    const u32 index = bits_of(j) & 15;
    const float w = fmaf(tables.low(index), r, tables.low(index) + r_low);
    const float q = fmaf(fmaf(0x1.5556b4p-5f, r, 0x1.55571ep-3f), r, 0.5f);
    const float v = fmaf(r * r, q, w);
    const float s = float_of(bits_of(tables.power(index)) + (bits_of(j) << 19));
    const float hi = fmaf(s, r, s);
    return {hi, fmaf(s, v, fmaf(s, r, s - hi)), s};
}

// Computes e^(x + low), where `low` is at most about two units in the last place of x.
template <bool HAS_LOW, class Tables>
DEVICE Pair exp_pair(const Tables& tables, float x, float low) {
    const float STEP_HI = 0x1.62e43p-5f, STEP_LO = -0x1.05c61p-33f;
    const float j = fmaf(x, 0x1.715476p+4f, PAIR_SHIFTER);
    const float n = j - PAIR_SHIFTER;
    const float near = fmaf(n, -STEP_HI, x);
    float r = fmaf(n, -STEP_LO, near);
    float r_low = fmaf(n, -STEP_LO, near - r);
    if (HAS_LOW) {
        const FloatSum sum = fast_two_sum(r, r_low + low);
        r = sum.hi, r_low = sum.lo;
    }
    return power_pair(tables, r, r_low, j);
}

DEVICE Sides sides(float hi, float lo, float scale, float uncertainty, bool serves) {
    return {hi + fmaf(scale, uncertainty, lo), hi + fmaf(scale, -uncertainty, lo), serves};
}

template <class Tables>
DEVICE Sides exp_sides(const Tables& tables, float x) {
    const Pair e = exp_pair<false>(tables, x, 0.0f);
    return sides(e.hi, e.lo, e.power, UNCERTAINTY, fabsf(x) < PAIR_LARGEST);
}

// Computes 2^x. The sum x = n/16 + f is exact, and 2^f = e^(f * ln2).
template <class Tables>
DEVICE Pair exp2_pair(const Tables& tables, float x) {
    const float LN2 = 0x1.62e43p-1f, LN2_LOW = -0x1.05c61p-29f;
    const float j = fmaf(x, 16.0f, PAIR_SHIFTER);
    const float f = fmaf(j - PAIR_SHIFTER, -0.0625f, x), r = f * LN2;
    return power_pair(tables, r, fmaf(f, LN2_LOW, fmaf(f, LN2, -0.0f - r)), j);
}

template <class Tables>
DEVICE Sides exp2_sides(const Tables& tables, float x) {
    const float LARGEST = 108.0f;
    const Pair e = exp2_pair(tables, x);
    return sides(e.hi, e.lo, e.power, UNCERTAINTY, fabsf(x) < LARGEST);
}

const float LOGISTIC_UNCERTAINTY = 1.07f * UNCERTAINTY;

// Computes 1 / (1 + t), or t / (1 + t) if `negative`, where t = `e`.
DEVICE FloatSum logistic_pair(Pair e, bool negative) {
    const FloatSum t = fast_two_sum(e.hi, e.lo);
    const FloatSum d = fast_two_sum(1.0f, t.hi);
    const float n = negative ? t.hi : 1.0f, n_low = negative ? t.lo : 0.0f;
    const float reciprocal = fast_reciprocal_ftz(d.hi);
    const float q = n * reciprocal;
    const float rest = fmaf(0.0f - q, d.hi, n) + fmaf(0.0f - q, d.lo + t.lo, n_low);
    return {q, rest * reciprocal};
}

template <class Tables>
DEVICE FloatSum sigmoid_pair(const Tables& tables, float x) {
    // The argument of `exp_pair` is at least -`PAIR_LARGEST`. For x above `PAIR_LARGEST`, the quotient still rounds
    // to 1. For x below -`PAIR_LARGEST`, the callers reject the result.
    const float minus = 0.0f - fabsf(x);
    return logistic_pair(exp_pair<false>(tables, -PAIR_LARGEST > minus ? -PAIR_LARGEST : minus, 0.0f), x < 0.0f);
}

template <class Tables>
DEVICE Sides sigmoid_sides(const Tables& tables, float x) {
    const FloatSum q = sigmoid_pair(tables, x);
    return sides(q.hi, q.lo, q.hi, LOGISTIC_UNCERTAINTY, -PAIR_LARGEST < x);
}

// Multiplies x by a pair. The result's `serves` is false if x is infinite, NaN or at most -`PAIR_LARGEST`. It is also
// false if x is so small that the low part of the product could underflow.
DEVICE Sides times_sides(float x, FloatSum q, bool serves) {
    const float hi = x * q.hi;
    const float lo = fmaf(x, q.lo, fmaf(x, q.hi, 0.0f - hi));
    const bool is_zero = x == 0.0f;
    const Sides found = sides(hi, lo, fabsf(hi), LOGISTIC_UNCERTAINTY, serves);
    const bool fits = -PAIR_LARGEST < x && x < INFINITE && (0x1p-60f < fabsf(x) || is_zero);
    // If x is a zero, the result is x itself, because adding the low part would lose the sign of -0.
    return {is_zero ? x : found.above, is_zero ? x : found.below, serves && fits};
}

template <class Tables>
DEVICE Sides silu_sides(const Tables& tables, float x) { return times_sides(x, sigmoid_pair(tables, x), true); }

template <class Tables>
DEVICE Sides gelu_tanh_sides(const Tables& tables, float x) {
    const float LARGEST = 9.0f;
    const float SLOPE = 0x1.988454p+0f, SLOPE_LOW = -0x1.857936p-25f;
    const float CUBIC = 0x1.2444f2p-4f, CUBIC_LOW = 0x1.49b16ap-29f;
    const float a = LARGEST < fabsf(x) ? LARGEST : fabsf(x);
    const float square = a * a;
    const float square_low = fmaf(a, a, 0.0f - square);
    const float term = square * CUBIC;
    const float term_low = fmaf(square, CUBIC, 0.0f - term) + fmaf(square_low, CUBIC, square * CUBIC_LOW);
    const FloatSum factor = two_sum(SLOPE, term);
    const float factor_low = factor.lo + (term_low + SLOPE_LOW);
    const float minus = (0.0f - a) * factor.hi;
    const float minus_low = fmaf(0.0f - a, factor.hi, 0.0f - minus) - a * factor_low;
    const FloatSum q = logistic_pair(exp_pair<true>(tables, minus, minus_low), x < 0.0f);
    return times_sides(x, q, -LARGEST < x);
}

// Coefficients of (tanh x - x) / x^3 in powers of x^2.
__constant__ const float TANH_POLY[4] = {-0x1.555556p-2f, 0x1.11111p-3f, -0x1.ba1952p-5f, 0x1.636b2cp-6f};

template <class Tables>
DEVICE Sides tanh_sides(const Tables& tables, float x) {
    const float NEAR = 4.0f / 16777216.0f, FAR = 0.57f * UNCERTAINTY;
    const float a = 12.0f < fabsf(x) ? 12.0f : fabsf(x);
    const Pair e = exp_pair<false>(tables, a * -2.0f, 0.0f);
    const FloatSum t = fast_two_sum(e.hi, e.lo);
    const FloatSum d = fast_two_sum(1.0f, t.hi), n = fast_two_sum(1.0f, 0.0f - t.hi);
    const float reciprocal = fast_reciprocal_ftz(d.hi);
    const float q = n.hi * reciprocal;
    const float minus = 0.0f - q;
    const float rest = fmaf(minus, d.hi, n.hi) + fmaf(minus, d.lo + t.lo, n.lo - t.lo);
    const float square = a * a;
    float poly = TANH_POLY[3];
    for (u32 i = 3; i > 0; i--) {
        poly = fmaf(poly, square, TANH_POLY[i - 1]);
    }
    const float cube = a * square * poly;
    const bool is_near = a < 0.1f;
    const float hi = is_near ? a : q, lo = is_near ? cube : rest * reciprocal;
    const float margin = is_near ? cube * NEAR : FAR;
    const u32 sign = bits_of(x) & 0x80000000;
    return {float_of(bits_of(hi + (lo + margin)) | sign), float_of(bits_of(hi + (lo - margin)) | sign), x == x};
}
