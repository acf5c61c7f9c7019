// Multiplication of rows by RMSNorm's factor and weights, as in `src/cpu/rms_norm.rs`.
#pragma once
#include "norm.cuh"

// Limits for the weights' magnitudes. If all weights are within these limits, rows may be computed in f32. In an f32
// row, the product of a nonzero weight and a normalised value of at least 2^-90 is at least 2^-115. A subnormal low part
// then changes the product by at most a relative 2^-35.
const float LEAST_F32_WEIGHT = 0x1p-25f, LARGEST_F32_WEIGHT = 0x1p60f, LARGEST_WEIGHT = 256.0f;

// Checks whether the weights' magnitudes allow f32. A barrier must follow.
template <class S, u32 COUNT, class Values>
DEVICE void check_weights(OperandRange& range, const Values& weight, u32 cols) {
    const bool IS_F32 = sizeof(typename S::Bits) == 4;
    const float least = IS_F32 ? LEAST_F32_WEIGHT : 0.0f, most = IS_F32 ? LARGEST_F32_WEIGHT : LARGEST_WEIGHT;
    range.check<S, COUNT>(weight, cols, least, most);
}

// Returns whether the nonzero normalised values are at least 2^-90, for an f32 row of these magnitudes.
DEVICE bool keeps_low_parts(const Magnitudes& found, u32 cols, double scale) {
    return (double)found.smallest(cols % 64 != 0) * scale >= 0x1p-90;
}

// Scales one element of a row. All results of the row must be in the range of f32. The scale is a float-float pair.
template <class S>
DEVICE float scaled(float x, float high, float low, float weight) {
    const float n = x * high;
    const float rest = fmaf(x, low, fmaf(x, high, -n));
    return sizeof(typename S::Bits) == 4 ? fmaf(n, weight, rest * weight) : n * weight;
}
template <class S>
DEVICE u32 scaled_narrow(float x, float high, float low, float weight) {
    return S::narrow(scaled<S>(x, high, low, weight));
}

// Scales one element of any row. With `before_weight`, the normalised element is rounded before the weight multiplies
// it, and the product is rounded again.
template <class S>
DEVICE u32 scaled_wide(float x, double scale, double weight, bool before_weight) {
    double n = (double)x * scale;
    if (before_weight) {
        n = (double)S::widen(narrow_wide<S>(n));
    }
    return narrow_wide<S>(n * weight);
}
