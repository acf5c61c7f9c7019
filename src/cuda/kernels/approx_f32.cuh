// Intervals that contain the value of a function, for arguments of 16-bit types. If both ends of an interval round to
// the same 16-bit value, then this value is the correctly rounded result, whatever the error of the approximation was.
// Otherwise the caller recomputes the result in f64.
//
// Margins are in units of u = 2^-24, the largest relative error of one f32 operation. A margin is the sum of:
// - the errors of the approximate instructions, at most 5 u for 2^t and 3 u for a reciprocal;
// - the effect of the error of t, the argument of 2^t. If t is a product with log2(e), its relative error is 1.23 u:
//   0.23 u for the constant and 1 u for the product. This error changes 2^t by ln2 * 1.23 u |t|, which is 0.853 u |t|;
// - the error of each further operation, at most 1 u, and the error of a polynomial's fit;
// - 1 u for rounding the ends of the interval, and 1 u more if the margin depends on the argument, because then the
//   factor is rounded too. Constant margins are even numbers of u, so that 1 plus the margin is exact.
// Each function's comment lists the terms of its margin. Arguments have at most 11 significant bits, so their squares
// are exact.
//
// Either end of an interval may be the larger one. A NaN argument gives two NaNs.
#pragma once
#include "approx_instructions.cuh"

struct Interval {
    float from, to;
};

const float LOG2_E = 0x1.715476p+0f, LN2_NEAR = 0x1.62e43p-1f;
const float U = 0x1p-24f;
// 1 - 2 u and 1 + 2 u.
const float BELOW_ONE = 1.0f - 2.0f * U, ABOVE_ONE = 1.0f + 2.0f * U;

template <u32 N>
DEVICE float near_horner(float x, const float (&c)[N]) {
    float sum = c[N - 1];
    for (u32 i = N - 1; i > 0; i--) {
        sum = fmaf(sum, x, c[i - 1]);
    }
    return sum;
}

// Coefficients of ln(1 + e) / e for e from 0 to 1; error 2^-24.9.
__constant__ const float LOG1P_NEAR[9] = {
    0x1.fffffep-1f, -0x1.fffeacp-2f, 0x1.553004p-2f, -0x1.fcc8c4p-3f, 0x1.874a76p-3f,
    -0x1.17d2aep-3f, 0x1.4069bp-4f, -0x1.e3698cp-6f, 0x1.56edaep-8f};
// Coefficients of (ln(1 + x) - x) / x^2 for x from -1/4 to 3/8; error 2^-23.9 of the logarithm.
__constant__ const float LOG1P_AROUND_ZERO[7] = {
    -0x1.000032p-1f, 0x1.555604p-2f, -0x1.ffa826p-3f, 0x1.98e4b4p-3f, -0x1.5ea9c6p-3f, 0x1.3d1aep-3f, -0x1.85d05cp-4f};
// Coefficients of (e^x - 1 - x) / x^2 for |x| <= 0.4; error 2^-24.9 of e^x - 1.
__constant__ const float EXPM1_NEAR[5] = {
    0x1.fffffep-2f, 0x1.55543p-3f, 0x1.55575p-5f, 0x1.1283d4p-7f, 0x1.6bddf8p-10f};
// Coefficients of (tanh a - a) / a^3 in powers of a^2 for a <= 0.55; error 2^-24.6 of tanh a.
__constant__ const float TANH_NEAR[4] = {-0x1.555452p-2f, 0x1.10cef6p-3f, -0x1.af7cccp-5f, 0x1.0d5038p-6f};
// Coefficients of the polynomial P in the formula e^(-a^2/2) * P(r - TAIL_CENTRE) * r, with r = 1 / (a + 3). For a <=
// 14, the formula gives the tail of the normal distribution beyond a; error 2^-24.3.
const float TAIL_CENTRE = 0x1.919192p-3f;
__constant__ const float TAIL_NEAR[9] = {
    0x1.a71af2p-1f, 0x1.c8b476p+1f, 0x1.23215ap+3f, 0x1.059c18p+3f, -0x1.4a5868p+4f,
    -0x1.48353ep+5f, 0x1.6da2a4p+6f, 0x1.26d9cp+7f, -0x1.c01136p+8f};
// Coefficients of the polynomial P in the formula e^(-a^2) * P(r - ERFC_CENTRE) * r, with r = 1 / (a + 2). For a from
// 0.5 to 4.25, the formula gives 1 - erf(a); error 2^-26.4 of erf(a).
const float ERFC_CENTRE = 0x1.1eb852p-2f;
__constant__ const float ERFC_NEAR[5] = {
    0x1.1bae12p+0f, 0x1.82e3c4p+1f, 0x1.29ad52p+2f, 0x1.9ebfcep+0f, -0x1.ab7d2ap+2f};
// Coefficients of erf(a) / a in powers of a^2 for a <= 0.5; error 2^-29.4.
__constant__ const float ERF_NEAR_ZERO[5] = {
    0x1.20dd74p+0f, -0x1.812732p-2f, 0x1.ce24f8p-4f, -0x1.b663c4p-6f, 0x1.3532bep-8f};

template <class S>
struct HasSmallNumbers {
    static const bool VALUE = false;
};
// A bf16 number may be subnormal as an f32, but an f16 number cannot.
template <>
struct HasSmallNumbers<BF16> {
    static const bool VALUE = true;
};

// Returns a bound on the magnitude of a result that an instruction with `.ftz` replaced by zero. Returns 0 if such a
// result rounds to zero in the 16-bit type anyway. In f16, every such result rounds to zero. In bf16, it rounds to zero
// if `rounds_to_zero` is true.
template <class S>
DEVICE float flushed(bool rounds_to_zero) {
    return HasSmallNumbers<S>::VALUE && !rounds_to_zero ? 0x1p-125f : 0.0f;
}

// Returns `v` times 1 - m and 1 + m, with m = `margin` u.
DEVICE Interval around(float v, float margin) { return {v * (1.0f - margin * U), v * (1.0f + margin * U)}; }

// Factors 1 - m and 1 + m, with m = (`margin` + `slope` * `size`) u. `size` must be below 2^12.
struct Factors {
    float below, above;
    DEVICE Factors(float margin, float slope, float size)
        : below(fmaf(size, -slope * U, 1.0f - margin * U)), above(fmaf(size, slope * U, 1.0f + margin * U)) {}
};

// Returns |t|, for an error that is proportional to |t|. The result is limited to 256, because 2^t is zero or infinite
// for larger |t|.
DEVICE float size_of(float t) { return fminf(fabsf(t), 256.0f); }

// Interval around e^x = 2^t. The margin is 5 u for the power of two, 2 u for rounding the ends of the interval, and
// `slope` u |t| for the error of t. `slope` must be at least 0.853.
template <class S>
DEVICE Interval near_exp(float x, float slope = 0.875f) {
    const float t = x * LOG2_E, v = fast_exp2_ftz(t);
    const Factors by(7.25f, slope, size_of(t));
    return {v * by.below, fmaf(v, by.above, flushed<S>(x < -94.0f))};
}

// Interval around 2^x. The margin is 5 u for the power of two and 1 u for the ends of the interval.
template <class S>
DEVICE Interval near_exp2(float x) {
    const float v = fast_exp2_ftz(x);
    return {v * (1.0f - 6.0f * U), fmaf(v, 1.0f + 6.0f * U, flushed<S>(x < -134.0f))};
}

// Interval around e^x - 1. Near zero, the value is computed as x * (1 + x * P), with a polynomial P. The margin is the
// sum of the errors: 0.6 u each for P and for x * P, and 1 u each for the sum, the product and the ends of the
// interval. Elsewhere, the ends of the interval around e^x move by 2 u for the rounding of the difference.
template <class S>
DEVICE Interval near_expm1(float x) {
    const Interval small = around(x * fmaf(x, near_horner(x, EXPM1_NEAR), 1.0f), 6.0f);
    const float t = x * LOG2_E, v = fast_exp2_ftz(t);
    const Factors by(8.25f, 0.875f, size_of(t));
    const bool is_small = fabsf(x) < 0.4f;
    return {is_small ? small.from : fmaf(v, by.below, -ABOVE_ONE), is_small ? small.to : fmaf(v, by.above, -BELOW_ONE)};
}

// Interval around a logarithm of x, which is `scale` times the base-2 logarithm. On both sides, the interval extends by
// `margin` u times the larger of 1 and the base-2 logarithm's magnitude. If x is 1, both ends are 0.
DEVICE Interval log_interval(float log2, float scale, float margin, bool is_one) {
    const float size = fminf(fmaxf(fabsf(log2), 1.0f), 256.0f);
    const float v = is_one ? 0.0f : log2 * scale, by = is_one ? 0.0f : margin * U;
    return {fmaf(size, -by, v), fmaf(size, by, v)};
}

// Interval around ln x. `margin` is in units of u. The default exceeds the sum of two bounds: 4 ln2 for the base-2
// logarithm, and 2.05 ln2 for the product and the ends of the interval. If x equals `one`, both ends are 0. A caller
// that clamps x passes 0 for `one` if the exact argument is never 1.
DEVICE Interval near_log(float x, float margin = 4.5f, float one = 1.0f) {
    return log_interval(fast_log2(x), LN2_NEAR, margin, x == one);
}

// Interval around the base-2 logarithm of x. The margin is 4 u for the instruction and 1 u for the ends of the
// interval.
DEVICE Interval near_log2(float x) { return log_interval(fast_log2(x), 1.0f, 5.25f, x == 1.0f); }

// Interval around ln(1 + x). Near zero, the value is computed as x * (1 + x * P), with a polynomial P. The margin is
// 0.7 u for the fit, 0.6 u each for P and for x * P, and 1 u each for the sum, the product and the ends of the
// interval. Elsewhere, the margin is the margin of ln x plus 1 u for the rounding of 1 + x.
DEVICE Interval near_log1p(float x) {
    const Interval small = around(x * fmaf(x, near_horner(x, LOG1P_AROUND_ZERO), 1.0f), 6.0f);
    const Interval large = log_interval(fast_log2(1.0f + x), LN2_NEAR, 5.5f, false);
    const bool is_small = -0.25f <= x && x <= 0.375f;
    return {is_small ? small.from : large.from, is_small ? small.to : large.to};
}

// Interval around the logistic function, 1 / (1 + 2^t), for t below 1,000. `slope` u |t| bounds the effect of the error
// of t. The margin is the sum of this bound, 5 u for 2^t, 1 u for the sum, 3 u for the reciprocal, 2 u for the ends of
// the interval, and `further` u. For negative t, 2^t is at most half of the sum, so only half of the error of 2^t
// counts. The error of t then adds at most 0.4 `slope` u.
template <class S>
DEVICE Interval near_logistic(float t, float slope, float further, bool rounds_to_zero) {
    const float v = fast_reciprocal_ftz(1.0f + fast_exp2_ftz(t));
    const Factors by(11.25f + further, slope, fmaxf(t, 0.0f));
    return {v * by.below, fmaf(v, by.above, flushed<S>(rounds_to_zero))};
}

template <class S>
DEVICE Interval near_sigmoid(float x) {
    return near_logistic<S>(max_or_nan(x, -200.0f) * -LOG2_E, 0.875f, 0.0f, x < -94.0f);
}

// Multiplies x by an interval around a factor from 0 to 1. A product that is subnormal in f32 may have a larger
// relative error, so `from` becomes zero, and `to` is rounded up. For negative x, rounding up may move `to` toward zero
// by one unit. The result could be wrong only if `to` then rounds to zero in the 16-bit type, as `from` does. But zero
// is then the correct result, because the factor is below 1/2.
DEVICE Interval times_share(float x, Interval share) {
    return {product_ftz(x, share.from), product_up(x, share.to)};
}

// Interval around silu(x), which is x times the logistic function of x. The product adds 1 u to the margin.
template <class S>
DEVICE Interval near_silu(float x) {
    x = max_or_nan(x, -200.0f);
    return times_share(x, near_logistic<S>(x * -LOG2_E, 0.875f, 1.0f, x < -100.0f));
}

// Interval around gelu_tanh(x), which is x times the logistic function of z = 2 * sqrt(2/pi) * (x + 0.044715 * x^3).
// Let t be the argument of 2^t. The relative error of t is 3 u: 1 u for the two constants, 1 u for their sum and 1 u
// for the product. This error changes 2^t by 3 ln2 u |t|, which is 2.08 u |t|.
template <class S>
DEVICE Interval near_gelu_tanh(float x) {
    const float SLOPE = -0x1.26aec2p+1f, CUBIC = -0x1.a5a7dp-4f;
    x = max_or_nan(x, -20.0f);
    return times_share(x, near_logistic<S>(x * fmaf(x * x, CUBIC, SLOPE), 2.125f, 1.0f, x < -10.5f));
}

// Interval around gelu(x), which is x times the normal distribution function. P is the polynomial of `TAIL_NEAR`. The
// margin of the tail is 5 u for the power of two, 9 u for the reciprocal, 5 u for P, 2 u for products, and 3 u for the
// ends of the interval. The error of the reciprocal itself is 4 u; P multiplies it by at most 2.2.
template <class S>
DEVICE Interval near_gelu(float x) {
    x = max_or_nan(x, -14.0f);
    const float a = fminf(fabsf(x), 14.0f), t = a * a * (-0.5f * LOG2_E);
    const float reciprocal = fast_reciprocal_ftz(a + 3.0f);
    const float tail = near_horner(reciprocal - TAIL_CENTRE, TAIL_NEAR) * (reciprocal * fast_exp2_ftz(t));
    const Factors by(24.25f, -0.875f, t);
    // The factor is the tail for negative x, and 1 minus the tail for other x.
    const bool is_negative = x < 0.0f;
    const float low = flushed<S>(x < -13.7f), signed_tail = is_negative ? tail : -tail;
    const float from = fmaf(signed_tail, by.below, is_negative ? -low : ABOVE_ONE);
    const float to = fmaf(signed_tail, by.above, is_negative ? low : BELOW_ONE);
    // `times_share` rounds up the product of x and the second end of its interval. For positive x, this must be the
    // larger end, which is `from`.
    return times_share(x, {to, from});
}

DEVICE float with_sign(float magnitude, float x) { return float_of(bits_of(magnitude) | (bits_of(x) & 0x80000000)); }

// Interval around tanh x. Near zero, the margin is 2.5 u for the sum of a and its correction, and 1 u for the ends of
// the interval. Elsewhere, tanh a is 1 - 2r, with r = 1 / (1 + e^2a). The relative error of r is 5 u for the power of
// two, 1 u for the sum and 3 u for the reciprocal. The error of the exponent changes 2r by at most 0.7 u.
DEVICE Interval near_tanh(float x) {
    const float a = fabsf(x), square = a * a;
    const Interval small = around(fmaf(a * square, near_horner(square, TANH_NEAR), a), 4.0f);
    const float r = fast_reciprocal_ftz(1.0f + fast_exp2_ftz(a * (2.0f * LOG2_E)));
    const bool is_small = a < 0.55f;
    const float from = is_small ? small.from : fmaf(r, -2.0f - 18.5f * U, BELOW_ONE);
    const float to = is_small ? small.to : fmaf(r, -2.0f + 18.5f * U, ABOVE_ONE);
    return {with_sign(from, x), with_sign(to, x)};
}

// Interval around the error function. Near zero, the margin is 2 u for the polynomial, and 1 u each for the product and
// the ends of the interval. Elsewhere, the function is 1 minus a tail. P is the polynomial of `ERFC_NEAR`. The margin
// of the tail is 5 u for the power of two, 8 u for the reciprocal (4 u, which P at most doubles), 4 u for P, 2 u for
// products and 1 u for the factor.
DEVICE Interval near_erf(float x) {
    const float a = min_or_nan(fabsf(x), 4.25f), square = a * a;
    const float small = a * near_horner(square, ERF_NEAR_ZERO);
    const float t = square * -LOG2_E, reciprocal = fast_reciprocal_ftz(a + 2.0f);
    const float tail = near_horner(reciprocal - ERFC_CENTRE, ERFC_NEAR) * (reciprocal * fast_exp2_ftz(t));
    const Factors by(20.25f, -0.875f, t);
    const bool is_small = a < 0.5f;
    // If `small` is subnormal, its error may be half the smallest subnormal. `low` is 0 then, and `high` is rounded up,
    // so that the interval contains the exact value.
    const float low = product_ftz(small, 1.0f - 6.0f * U), high = product_up(small, 1.0f + 6.0f * U);
    const float from = is_small ? low : fmaf(tail, -by.above, BELOW_ONE);
    const float to = is_small ? high : fmaf(tail, -by.below, ABOVE_ONE);
    return {with_sign(from, x), with_sign(to, x)};
}

// Interval around max(x, 0) + ln(1 + e^-|x|). The margin is 5 u for the exponential, 3.5 u for the polynomial and its
// fit, 1 u for the product, 1 u for the sum, and 2 u for the ends of the interval.
template <class S>
DEVICE Interval near_softplus(float x) {
    const float t = fabsf(x) * -LOG2_E, e = fast_exp2_ftz(t);
    const float v = fmaf(e, near_horner(e, LOG1P_NEAR), fmaxf(x, 0.0f));
    const Factors by(12.75f, 0.875f, size_of(t));
    return {v * by.below, fmaf(v, by.above, flushed<S>(x < -94.0f))};
}

template <class S>
DEVICE Interval near_log_sigmoid(float x) {
    const Interval v = near_softplus<S>(-x);
    return {-v.from, -v.to};
}

// Intervals around the square root and its reciprocal. The margins are 2 u and 2.2 u for the instructions, and 1 u for
// the ends of the intervals.
DEVICE Interval near_sqrt(float x) { return around(fast_sqrt(x), 4.0f); }
DEVICE Interval near_rsqrt(float x) { return around(fast_rsqrt(x), 4.0f); }

// Interval around 1 / x. The margin is 3 u for the instruction, 1 u for the ends of the interval, and a reserve of 2 u.
// For |x| above 2^125, the result v may be subnormal in f32, so the interval is from 0 to 2 v.
template <class S>
DEVICE Interval near_reciprocal(float x) {
    const float v = fast_reciprocal(x);
    const bool is_subnormal = HasSmallNumbers<S>::VALUE && fabsf(x) > 0x1p125f;
    return {v * (is_subnormal ? 0.0f : 1.0f - 6.0f * U), v * (is_subnormal ? 2.0f : 1.0f + 6.0f * U)};
}
