// Helpers of functions that are computed in f64 with less than full precision. Such functions use the rounding test of
// `pair.cuh`.
#pragma once
#include "pair.cuh"
#include "wide.cuh"

// Evaluates a polynomial as `horner` does, but computes even and odd powers in parallel.
template <u32 N>
DEVICE double horner_halves(double x, const double (&c)[N]) {
    const double square = x * x;
    double halves[2] = {c[N - 1 - (N - 1) % 2], c[N - 2 + (N - 1) % 2]};
    for (u32 i = N - 2; i > 0; i--) {
        halves[(i - 1) % 2] = fma(halves[(i - 1) % 2], square, c[i - 1]);
    }
    return fma(halves[1], x, halves[0]);
}

// Computes 1 / d. One Newton step doubles the number of correct digits of an approximate reciprocal. The relative error
// is below 20 u^2, u = 2^-24.
DEVICE double near_reciprocal_of(double d) {
    const double near = (double)fast_reciprocal_ftz((float)d);
    return fma(fma(0.0 - near, d, 1.0), near, near);
}

// Returns the value plus and minus its error bound, each rounded. The bound is `uncertainty` times the value.
DEVICE Sides wide_sides(double value, double uncertainty, bool serves) {
    return {(float)fma(value, uncertainty, value), (float)fma(value, -uncertainty, value), serves};
}
