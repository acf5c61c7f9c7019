// How RMSNorm multiplies rows, as `src/cpu/rms_norm.rs` does it.
#pragma once
#include "norm.cuh"

// Whether weights leave rows room in f32: results of f32 have low parts, which are not to vanish where the results do not.
template <class S, u32 COUNT, u32 WARPS>
DEVICE bool leave_room(const Operand& weight, u32 cols, Magnitudes* partial) {
    const bool is_f32 = sizeof(typename S::Bits) == 4;
    const float least = is_f32 ? 0x1p-25f : 0.0f, most = is_f32 ? 0x1p60f : 256.0f;
    return weight.is_within<S, COUNT, WARPS>(cols, least, most, partial);
}

// Whether a row of f32 of these magnitudes keeps its low parts.
DEVICE bool keeps_low_parts(const Magnitudes& found, u32 cols, double scale) {
    return (double)found.smallest(cols % 64 != 0) * scale >= 0x1p-90;
}

// A number of a row that has room in f32. The scale is a sum of two f32.
template <class S>
DEVICE u32 scaled_narrow(float x, float high, float low, float weight) {
    const float n = x * high;
    const float rest = fmaf(x, low, fmaf(x, high, -n));
    return S::narrow(sizeof(typename S::Bits) == 4 ? fmaf(n, weight, rest * weight) : n * weight);
}

// Of any row. `before_weight` says that it is rounded before the weight multiplies it, too.
template <class S>
DEVICE u32 scaled_wide(float x, double scale, double weight, bool before_weight) {
    double n = (double)x * scale;
    if (before_weight) {
        n = (double)S::widen(narrow_wide<S>(n));
    }
    return narrow_wide<S>(n * weight);
}
