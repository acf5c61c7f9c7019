// Erf and gelu in f64 with reduced precision, and with the rounding test of `pair.cuh`. `src/math/gelu_pair.rs`
// describes the tail. Below 0.6, erf is x Q(x^2), where `NORMAL_NEAR` has the coefficients of Q (relative error
// 2^-39.62).
#pragma once
#include "wide_pair.cuh"

__constant__ const double NORMAL_NEAR[7] = {
    0x1.20dd750428588p+0, -0x1.812746aa652aap-2, 0x1.ce2f1d93262e4p-4, -0x1.b82bd3e287f39p-6,
    0x1.5639ed163ea77p-8, -0x1.bbceea73d3159p-11, 0x1.b1068ccb22df8p-14};
__constant__ const double NORMAL_FAR[13] = {
    0x1.0982b343ddd03p+0, 0x1.2bcb200efaeb2p+3, 0x1.fdf85366b5a0bp+5, 0x1.41d1e0d92b72dp+8,
    0x1.19de184445fe8p+10, 0x1.0d01a131db546p+11, -0x1.42f468b9604cfp+10, -0x1.151ff6902f2eap+14,
    -0x1.f68ca65e5cc2dp+13, 0x1.fc31e63caa8fp+16, 0x1.9b0376e66996fp+17, -0x1.e3d34e80a206p+19,
    -0x1.919902be38531p+20};

// Computes the tail of the normal distribution beyond `a`. `exponential` is e^(-a^2/2).
DEVICE double tail_by(double a, double exponential) {
    const double d = a + 4.5;
    const double reciprocal = near_reciprocal_of(d);
    return horner_halves(reciprocal - 0x1.2f684bda12f68p-3, NORMAL_FAR) * (reciprocal * exponential);
}

// Computes e^(-`share` * a^2). The factor `share` is a power of two.
template <class Tables>
DEVICE double exponential_of(const Tables& tables, float a, float share) {
    const float square = a * a;
    const float low = fmaf(a, a, 0.0f - square);
    const Pair e = exp_pair<true>(tables, square * -share, low * -share);
    return (double)e.hi + (double)e.lo;
}

const double NORMAL_UNCERTAINTY = 1.06 * (double)UNCERTAINTY + 1e-11;

template <class Tables>
DEVICE Sides gelu_sides(const Tables& tables, float x) {
    const float LARGEST = 9.0f;
    const float a = LARGEST < fabsf(x) ? LARGEST : fabsf(x);
    const double tail = tail_by((double)a, exponential_of(tables, a, 0.5f));
    const double value = (double)x * (x < 0.0f ? tail : 1.0 - tail);
    return wide_sides(value, NORMAL_UNCERTAINTY, -LARGEST < x && x < INFINITE);
}

template <class Tables>
DEVICE Sides erf_sides(const Tables& tables, float x) {
    const float a = 4.25f < fabsf(x) ? 4.25f : fabsf(x);
    const double e = exponential_of(tables, a, 1.0f), wide = (double)a;
    const double near = wide * horner_halves(wide * wide, NORMAL_NEAR);
    const double far = fma(tail_by(wide * 0x1.6a09e667f3bcdp+0, e), -2.0, 1.0);
    const double value = wide < 0.6 ? near : far;
    const double with_sign = wide_of(bits_of_wide(value) | (bits_of_wide((double)x) & SIGN));
    return wide_sides(with_sign, NORMAL_UNCERTAINTY, x == x);
}
