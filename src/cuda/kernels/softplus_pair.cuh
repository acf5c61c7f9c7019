// Softplus in f64 with reduced precision, as `src/math/softplus_pair.rs` defines it, with the rounding test of
// `pair.cuh`.
#pragma once
#include "wide_pair.cuh"

// Coefficients of atanh(s) / s in powers of s^2.
__constant__ const double ATANH_PAIR[7] = {
    0x1.0000000002ad5p+0, 0x1.555555307b1fap-2, 0x1.9999c2d758fa7p-3, 0x1.2489ad1fd0049p-3,
    0x1.c8cf405b264b5p-4, 0x1.5eaa1fd8c1a18p-4, 0x1.bfb8898caf8cap-4};

// Computes max(x, 0) + ln(1 + e^-|x|), as max(x, 0) + 2 * atanh(t / (2 + t)).
template <class Tables>
DEVICE double softplus_short(const Tables& tables, float x) {
    const float minus = 0.0f - fabsf(x);
    const Pair e = exp_pair<false>(tables, -PAIR_LARGEST > minus ? -PAIR_LARGEST : minus, 0.0f);
    const double t = (double)e.hi + (double)e.lo;
    const double s = t * near_reciprocal_of(t + 2.0);
    return fma(s + s, horner_halves(s * s, ATANH_PAIR), (double)(x > 0.0f ? x : 0.0f));
}

const double SOFTPLUS_UNCERTAINTY = 1.06 * (double)UNCERTAINTY + 4e-12;

template <class Tables>
DEVICE Sides softplus_sides(const Tables& tables, float x) {
    return wide_sides(softplus_short(tables, x), SOFTPLUS_UNCERTAINTY, -PAIR_LARGEST < x && x < INFINITE);
}

template <class Tables>
DEVICE Sides log_sigmoid_sides(const Tables& tables, float x) {
    const Sides v = softplus_sides(tables, -x);
    return {-v.above, -v.below, v.serves};
}
