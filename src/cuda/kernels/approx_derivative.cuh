// Intervals that contain the derivative of a function, and intervals that contain the product of the derivative and a
// gradient, for 16-bit types. `approx_f32.cuh` lists the terms of a margin. Here 1 u is added for the product with the
// gradient.
//
// Unlike in `approx_f32.cuh`, `from` is the end nearer to zero. Therefore `times_factor` can flush the product of
// `from` and the gradient to zero, and round the product of the other end away from zero. If zero is inside an
// interval, the ends have opposite signs. An end is 0 only if the derivative has underflowed, and then the other end is
// not 0.
#pragma once
#include "approx_f32.cuh"

// Returns v if `by` is positive, and -v if `by` is negative.
DEVICE float with_flipped_sign(float v, float by) { return float_of(bits_of(v) ^ (bits_of(by) & 0x80000000)); }

// Multiplies a derivative by an exact factor. If the product is subnormal in f32, its relative error may be larger. One
// end of the interval then becomes zero, and the other end is rounded away from zero. In f16, both ends round to zero
// anyway.
template <class S>
DEVICE Interval times_factor(float factor, Interval derivative) {
    const float from = product_ftz(factor, derivative.from);
    float to = factor * derivative.to;
    if (HasSmallNumbers<S>::VALUE) {
        to = with_flipped_sign(product_up(fabsf(factor), fabsf(derivative.to)),
                               with_flipped_sign(factor, derivative.to));
    }
    return {from, to};
}

// Multiplies a gradient by a derivative.
template <class S>
DEVICE Interval times_gradient(float x, float dy, Interval derivative) {
    const Interval product = times_factor<S>(dy, derivative);
    // A zero gradient stays zero with its sign, however large the derivative is.
    const bool is_zero = dy == 0.0f && x == x;
    return {is_zero ? dy : product.from, is_zero ? dy : product.to};
}

// Interval around a positive value. If an instruction flushed the value to zero, the exact value must be at most
// `flushed_below`.
DEVICE Interval around_positive(float v, const Factors& by, float flushed_below) {
    return {product_ftz(v, by.below), fmaf(v, by.above, flushed_below)};
}

// Interval around a value that has the absolute error `error`. If an instruction flushed the value to zero, the exact
// magnitude must be at most `flushed_below`.
DEVICE Interval around_any(float v, float error, float flushed_below) {
    return {with_flipped_sign(fabsf(v) - error, v), with_flipped_sign(fabsf(v) + (error + flushed_below), v)};
}

// If an exponential overflows in f32, the exponential and its product with ln2 are above this number.
const float BELOW_OVERFLOW = 0x1p127f;

// Interval around e^x. The margin is 5 u for the power of two, and 3 u for the ends and the product with the gradient.
DEVICE Interval near_exp_derivative(float x) {
    const float t = x * LOG2_E;
    const Interval v = around_positive(fast_exp2_ftz(t), Factors(8.25f, 0.875f, size_of(t)), 0x1p-125f);
    return {min_or_nan(v.from, BELOW_OVERFLOW), v.to};
}

// Interval around ln2 * 2^x. The margin is 5 u for the power of two, 1 u each for ln2 and the product, and 3 u for the
// ends and the product with the gradient.
DEVICE Interval near_exp2_derivative(float x) {
    const Interval v = around_positive(fast_exp2_ftz(x) * LN2_NEAR, Factors(10.25f, 0.0f, 0.0f), 0x1p-125f);
    return {min_or_nan(v.from, BELOW_OVERFLOW), v.to};
}

// Interval around (2 / sqrt(pi)) * e^(-x^2). The margin is 5 u for the power of two, 1 u for the constant, 1 u for the
// product, and 3 u for rounding the ends of the interval and for the caller's product with the gradient.
DEVICE Interval near_erf_derivative(float x) {
    const float t = x * x * -LOG2_E;
    return around_positive(fast_exp2_ftz(t) * 0x1.20dd76p+0f, Factors(10.25f, 0.875f, size_of(t)), 0x1p-124f);
}

// Interval around `scale` * e / (1 + e)^2 with e = 2^t, for t <= 0. `scale` is a power of two up to 4. The margin is 5
// u for e, 8 u for the squared reciprocal, 2 u for products, and 3 u for rounding the ends of the interval and for the
// caller's product with the gradient. The 8 u are 1 u for the sum and 3 u for the instruction, doubled by squaring. The
// error of e also changes the denominator, but this only reduces the error of the result.
DEVICE Interval near_logistic_derivative(float t, float scale) {
    const float e = fast_exp2_ftz(t), r = fast_reciprocal_ftz(1.0f + e);
    return around_positive(r * r * scale * e, Factors(18.25f, 0.875f, size_of(t)), 0x1p-123f);
}

DEVICE Interval near_sigmoid_derivative(float x) { return near_logistic_derivative(fabsf(x) * -LOG2_E, 1.0f); }
DEVICE Interval near_tanh_derivative(float x) { return near_logistic_derivative(fabsf(x) * (-2.0f * LOG2_E), 4.0f); }

// Returns an interval around the logistic function of x. The interval contains the value even if an instruction flushed
// the value to zero, because callers may multiply the interval by a large factor. `further` u are added to the margin.
DEVICE Interval near_share(float x, float further) {
    const float t = max_or_nan(x, -200.0f) * -LOG2_E;
    const float v = fast_reciprocal_ftz(1.0f + fast_exp2_ftz(t));
    return around_positive(v, Factors(11.25f + further, 0.875f, fmaxf(t, 0.0f)), 0x1p-125f);
}

DEVICE Interval near_softplus_derivative(float x) { return near_share(x, 1.0f); }

// Approximations of r = 1 / (1 + e) and q = e * r, with e = 2^t for t <= 0. The error of r is 2.5 u for e, 1 u for the
// sum and 3 u for the reciprocal, plus at most 1 u for the error of t. The error of q is 5 u for e, 4 u for r and 1 u
// for the product, plus the effect of the error of t.
struct NearLogistic {
    float t, r, q;

    DEVICE NearLogistic(float t) : t(t) {
        const float e = fast_exp2_ftz(t);
        r = fast_reciprocal_ftz(1.0f + e);
        q = e * r;
    }
};

// Interval around s + w * s * (1 - s) with s = 1 / (1 + e^-z). `v.t` is -|z| * log2(e). Unless 2^t is flushed to zero,
// |w| must be below 256. The error of t has an effect of at most `slope` u |t|. The relative error of w is at most
// `further` u.
//
// s is `v.r` and 1 - s is `v.q`, or the reverse. The first term has the relative error of s. The second term has the
// relative errors of s, 1 - s and w. Rounding adds 1 u each for the sum, the product with s and the end of the
// interval, and 1 u for the product with the gradient. The sum of the magnitudes of the two terms bounds the value, so
// all errors are relative to this sum.
DEVICE Interval near_gate_derivative(const NearLogistic& v, float w, bool negative, float slope, float further) {
    const float s = negative ? v.q : v.r, rest = negative ? v.r : v.q;
    const float margin = fmaf(size_of(v.t), slope * U, (21.75f + further) * U);
    return around_any(s * fmaf(w, rest, 1.0f), s * fmaf(fabsf(w), rest, 1.0f) * margin, 0x1p-118f);
}

DEVICE Interval near_silu_derivative(float x) {
    x = min_or_nan(max_or_nan(x, -200.0f), 200.0f);
    return near_gate_derivative(NearLogistic(fabsf(x) * -LOG2_E), x, x < 0.0f, 0.875f, 0.0f);
}

// Interval around the derivative of gelu_tanh. Here z = 2 * sqrt(2/pi) * (x + 0.044715 * x^3) and w = x * dz/dx. The
// relative errors of t and w are 3 u each, as in `near_gelu_tanh`. The error of t changes 2^t by 3 ln2 u |t|, which is
// 2.08 u |t|.
DEVICE Interval near_gelu_tanh_derivative(float x) {
    const float SLOPE = 0x1.26aec2p+1f, CUBIC = 0x1.a5a7dp-4f, SLOPE_OF_W = 0x1.988454p+0f, CUBIC_OF_W = 0x1.b6676cp-3f;
    x = min_or_nan(max_or_nan(x, -20.0f), 20.0f);
    const float square = x * x, t = fabsf(x) * -fmaf(square, CUBIC, SLOPE);
    const float w = x * fmaf(square, CUBIC_OF_W, SLOPE_OF_W);
    return near_gate_derivative(NearLogistic(t), w, x < 0.0f, 2.125f, 3.0f);
}

// Interval around the normal distribution function plus x times the density. With a = |x|, the value is e^(-a^2/2) * h
// for negative x, and 1 minus this product for other x. Here h = tail - a / sqrt(2 pi), and `tail` is the
// distribution's tail divided by the exponential. The margin is the sum of these bounds. As in `near_gelu`: 5 u for
// the exponential, 9 u for the reciprocal, 5 u for the polynomial P and 1 u for the product of P and the reciprocal. In
// addition: 1 u for h, 1 u for the product of h and the exponential, and 2 u for rounding the ends. 1 minus the product
// is below 1.13, so 3 roundings add less than 3.5 u.
DEVICE Interval near_gelu_derivative(float x) {
    const float DENSITY = 0x1.988454p-2f;
    x = min_or_nan(max_or_nan(x, -14.0f), 14.0f);
    const float a = fabsf(x), t = a * a * (-0.5f * LOG2_E), e = fast_exp2_ftz(t);
    const float reciprocal = fast_reciprocal_ftz(a + 3.0f);
    const float tail = near_horner(reciprocal - TAIL_CENTRE, TAIL_NEAR) * reciprocal;
    const float value = e * fmaf(a, -DENSITY, tail), terms = e * fmaf(a, DENSITY, tail);
    const float error = terms * fmaf(size_of(t), 0.875f * U, 24.25f * U);
    return x < 0.0f ? around_any(value, error, 0x1p-123f) : around_any(1.0f - value, error + 3.5f * U, 0.0f);
}
