// The logistic function and functions composed from it, as `src/math/sigmoid.rs`, `gelu_tanh.rs`, `tanh.rs` and
// `softplus.rs` define them.
#pragma once
#include "exp.cuh"
#include "log.cuh"

// At this argument, sigmoid and silu have both reached zero in f32 and in narrower types.
const double LOWEST = EXP_MIN - 10.0;

// Computes 1 / (1 + t), or t / (1 + t) if `negative`, with t = e^(minus + low) and `minus` <= 0.
DEVICE Wide logistic(double minus, double low, bool negative) {
    minus = larger(LOWEST, minus);
    const Wide t = normalised(exp_parts(minus, low));
    const Sum plain = below_one(t, minus);
    const Sum d = fast_two_sum(1.0, plain.hi);
    const double d_low = d.lo + plain.lo;
    const double n = negative ? t.hi : 1.0, n_low = negative ? t.lo : 0.0;
    const double reciprocal = 1.0 / d.hi;
    const double q = n * reciprocal;
    const double rest = fma(0.0 - q, d.hi, n) + fma(0.0 - q, d_low, n_low);
    return {q, rest * reciprocal, negative ? t.exponent : 0};
}

DEVICE Wide sigmoid_wide(double x) { return logistic(0.0 - fabs(x), 0.0, x < 0.0); }

// Multiplies x by `share`, whose value is (hi + lo) * 2^exponent.
DEVICE Wide times(double x, Wide share) {
    const double hi = x * share.hi;
    double lo = fma(x, share.hi, 0.0 - hi) + x * share.lo;
    // At +inf the computed error would be inf - inf, which is NaN, so the error is set to 0. A zero keeps its sign.
    lo = lo != lo ? 0.0 : lo;
    return {hi, x == 0.0 ? x : lo, share.exponent};
}

DEVICE Wide silu_wide(double x) {
    x = larger(LOWEST, x);
    return times(x, sigmoid_wide(x));
}

// Beyond this limit, gelu_tanh equals 0 or x.
const double GELU_TANH_LARGEST = 50.0;

// Computes a (2 sqrt(2/pi) + `coefficient` a^2) for a >= 0.
DEVICE Sum cubic_of(double a, Sum coefficient) {
    const double SLOPE = 0x1.9884533d43651p+0, SLOPE_LOW = -0x1.cbc0d30ebfd15p-54;
    const Sum cubic = product(square(a), coefficient);
    const bool above = SLOPE < cubic.hi;
    const Sum factor = fast_two_sum(above ? cubic.hi : SLOPE, above ? SLOPE : cubic.hi);
    return product({a, 0.0}, {factor.hi, factor.lo + (cubic.lo + SLOPE_LOW)});
}

// Computes twice the argument of tanh in gelu_tanh. The coefficient is 0.044715 * 2 * sqrt(2/pi).
DEVICE Sum gelu_tanh_argument(double a) { return cubic_of(a, {0x1.2444f2a4d8b4bp-4, -0x1.6c843a29d1c7p-61}); }

// Computes x * (1 + tanh(sqrt(2/pi) * (x + 0.044715 * x^3))) / 2, as x times the logistic function of twice tanh's
// argument.
DEVICE Wide gelu_tanh_wide(double x) {
    x = larger(-GELU_TANH_LARGEST, x);
    const Sum z = gelu_tanh_argument(smaller(GELU_TANH_LARGEST, fabs(x)));
    return times(x, logistic(-z.hi, -z.lo, x < 0.0));
}

DEVICE Sum tanh_wide(double x) {
    // For |x| > 20 the result rounds to 1.
    const Wide v = expm1_parts(smaller(20.0, fabs(x)) * -2.0);
    const Sum t = fast_two_sum(v.hi, v.lo);
    const Sum d = fast_two_sum(2.0, t.hi);
    const Sum q = quotient({-t.hi, -t.lo}, {d.hi, d.lo + t.lo}, 1.0 / d.hi);
    const double sign = sign_of(x);
    return {x == 0.0 ? x : q.hi * sign, x == 0.0 ? x : q.lo * sign};
}

// Computes max(x, 0) + ln(1 + e^-|x|).
DEVICE Sum softplus_wide(double x) {
    const double minus = larger(LOWEST, 0.0 - fabs(x));
    const Sum t = below_one(normalised(exp_parts(minus, 0.0)), minus);
    const Sum log = log1p_sum<true>(t.hi, t.lo);
    const Sum sum = two_sum(larger(x, 0.0), log.hi);
    const double lo = sum.lo + log.lo;
    // At +inf the computed error would be inf - inf, which is NaN, so the error is set to 0.
    return {sum.hi, lo != lo ? 0.0 : lo};
}

DEVICE Sum log_sigmoid_wide(double x) {
    const Sum v = softplus_wide(-x);
    return {-v.hi, -v.lo};
}

// Computes ln(e^a + e^b) as the larger argument plus ln(1 + e^-|a - b|).
DEVICE Sum log_add_exp_wide(double a, double b) {
    const bool above = a < b;
    const double high = above ? b : a, low = above ? a : b;
    const Sum difference = two_sum(low, -high);
    const double minus = larger(LOWEST, difference.hi);
    // For arguments far apart, the error of the difference may be NaN. The error does not matter there, so it is set to
    // 0.
    const double rest = difference.hi < LOWEST ? 0.0 : difference.lo;
    const Sum t = below_one(normalised(exp_parts(minus, rest)), minus);
    const Sum log = log1p_sum<true>(t.hi, t.lo);
    const Sum sum = two_sum(high, log.hi);
    // If the sum is infinite, its error is set to 0. If both arguments are the same infinity, the result is that
    // infinity.
    const bool equal = a == b && fabs(a) == INFINITE;
    return {equal ? a : sum.hi, !equal && fabs(sum.hi) < INFINITE ? sum.lo + log.lo : 0.0};
}
