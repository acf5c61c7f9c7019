// Derivatives as float-float pairs, and their products with a gradient, for f32. They use the rounding test of
// `pair.cuh`. Let u be 2^-24. An operation on pairs has an error of a few u^2, which is far below the error of the
// exponential.
#pragma once
#include "pair.cuh"

// A derivative. Its error bound is a multiple of `magnitude`. If the derivative is a sum of two terms that may cancel,
// `magnitude` is the sum of the terms' magnitudes. Otherwise, `magnitude` is the derivative's magnitude. `serves` says
// whether x is in range.
struct DerivativePair {
    FloatSum value;
    float magnitude;
    bool serves;
};

DEVICE FloatSum pair_product(FloatSum a, FloatSum b) {
    const float hi = a.hi * b.hi;
    return {hi, fmaf(a.hi, b.hi, 0.0f - hi) + fmaf(a.hi, b.lo, a.lo * b.hi)};
}

// Multiplies a factor by a derivative. The result's `serves` is also false if the product is infinite, or so small that
// its low part could underflow.
DEVICE Sides product_sides(FloatSum factor, DerivativePair derivative) {
    const FloatSum v = pair_product(factor, derivative.value);
    const float scale = fabsf(factor.hi) * derivative.magnitude;
    const bool fits = 0x1p-100f < fabsf(v.hi) && fabsf(v.hi) < INFINITE;
    return sides(v.hi, v.lo, scale, LOGISTIC_UNCERTAINTY, derivative.serves && fits);
}

// Multiplies a gradient by a derivative.
DEVICE Sides gradient_sides(float x, float dy, DerivativePair derivative) {
    const Sides found = product_sides({dy, 0.0f}, derivative);
    const bool is_zero = dy == 0.0f && x == x;
    return {is_zero ? dy : found.above, is_zero ? dy : found.below, is_zero || found.serves};
}

// The numbers t = e^(minus + low), r = 1 / (1 + t) and q = t * r.
struct LogisticPairs {
    FloatSum t, r, q;
};

template <bool HAS_LOW, class Tables>
DEVICE LogisticPairs logistic_pairs(const Tables& tables, float minus, float low) {
    const Pair e = exp_pair<HAS_LOW>(tables, minus, low);
    const FloatSum t = fast_two_sum(e.hi, e.lo), d = fast_two_sum(1.0f, t.hi);
    const float near = fast_reciprocal_ftz(d.hi);
    const FloatSum r = {near, near * (fmaf(0.0f - near, d.hi, 1.0f) - near * (d.lo + t.lo))};
    return {t, r, pair_product(t, r)};
}

DEVICE float clamped(float x, float limit) {
    const float above = -limit > x ? -limit : x;
    return limit < above ? limit : above;
}

template <class Tables>
DEVICE DerivativePair exp_derivative_pair(const Tables& tables, float x) {
    const Pair e = exp_pair<false>(tables, clamped(x, PAIR_LARGEST), 0.0f);
    return {fast_two_sum(e.hi, e.lo), e.power, fabsf(x) < PAIR_LARGEST};
}

// Computes ln2 2^x.
template <class Tables>
DEVICE DerivativePair exp2_derivative_pair(const Tables& tables, float x) {
    const float LARGEST = 108.0f;
    const Pair e = exp2_pair(tables, clamped(x, LARGEST));
    return {pair_product(fast_two_sum(e.hi, e.lo), {0x1.62e43p-1f, -0x1.05c61p-29f}), e.power, fabsf(x) < LARGEST};
}

// Computes 2 / sqrt(pi) e^(-x^2).
template <class Tables>
DEVICE DerivativePair erf_derivative_pair(const Tables& tables, float x) {
    const float LARGEST = 8.5f;
    const float a = clamped(x, LARGEST), square = a * a;
    const Pair e = exp_pair<true>(tables, 0.0f - square, 0.0f - fmaf(a, a, 0.0f - square));
    const FloatSum value = pair_product(fast_two_sum(e.hi, e.lo), {0x1.20dd76p+0f, -0x1.f7ac92p-25f});
    return {value, value.hi, fabsf(x) < LARGEST};
}

// Computes t / (1 + t)^2 times `scale`, a power of two, with t = e^(-|x|).
template <class Tables>
DEVICE DerivativePair logistic_derivative_pair(const Tables& tables, float x, float scale) {
    const LogisticPairs v = logistic_pairs<false>(tables, 0.0f - fabsf(clamped(x, PAIR_LARGEST)), 0.0f);
    const FloatSum value = pair_product(v.q, {v.r.hi * scale, v.r.lo * scale});
    return {value, value.hi, fabsf(x) < PAIR_LARGEST};
}

// Computes the logistic function, which is the derivative of softplus.
template <class Tables>
DEVICE DerivativePair softplus_derivative_pair(const Tables& tables, float x) {
    const FloatSum value = sigmoid_pair(tables, x);
    return {value, value.hi, -PAIR_LARGEST < x};
}

// Computes s + w * s * (1 - s) as s * (1 + w * (1 - s)), with s = 1 / (1 + e^-z). `v` has the pairs for t = e^-|z|.
DEVICE DerivativePair gate_derivative_pair(const LogisticPairs& v, FloatSum w, bool negative, bool serves) {
    const FloatSum s = negative ? v.q : v.r, rest = negative ? v.r : v.q;
    const FloatSum second = pair_product(w, rest), sum = two_sum(1.0f, second.hi);
    const FloatSum value = pair_product(s, {sum.hi, sum.lo + second.lo});
    return {value, s.hi * (1.0f + fabsf(second.hi)), serves};
}

template <class Tables>
DEVICE DerivativePair silu_derivative_pair(const Tables& tables, float x) {
    const float w = clamped(x, PAIR_LARGEST);
    const LogisticPairs v = logistic_pairs<false>(tables, 0.0f - fabsf(w), 0.0f);
    return gate_derivative_pair(v, {w, 0.0f}, x < 0.0f, -PAIR_LARGEST < x);
}

// Computes a (2 sqrt(2/pi) + `coefficient` a^2) for a >= 0.
DEVICE FloatSum cubic_pair(float a, FloatSum coefficient) {
    const float SLOPE = 0x1.988454p+0f, SLOPE_LOW = -0x1.857936p-25f;
    const float square = a * a;
    const FloatSum term = pair_product({square, fmaf(a, a, 0.0f - square)}, coefficient);
    const FloatSum factor = two_sum(SLOPE, term.hi);
    return pair_product({a, 0.0f}, {factor.hi, factor.lo + (term.lo + SLOPE_LOW)});
}

template <class Tables>
DEVICE DerivativePair gelu_tanh_derivative_pair(const Tables& tables, float x) {
    const float LARGEST = 9.0f;
    const float a = fabsf(clamped(x, LARGEST));
    const FloatSum z = cubic_pair(a, {0x1.2444f2p-4f, 0x1.49b16ap-29f});
    // |x| times the derivative of z.
    const FloatSum w = cubic_pair(a, {0x1.b6676cp-3f, -0x1.175e2p-32f});
    const bool negative = x < 0.0f;
    const FloatSum w_of_x = {negative ? 0.0f - w.hi : w.hi, negative ? 0.0f - w.lo : w.lo};
    const LogisticPairs v = logistic_pairs<true>(tables, 0.0f - z.hi, 0.0f - z.lo);
    return gate_derivative_pair(v, w_of_x, negative, -LARGEST < x);
}
