// Logits that are products of score and scale, for masked rows of log_softmax, logsumexp and the gradients. As in
// `src/cpu/scores.rs`, the logits of a row are computed in f32 if f32 represents all of them exactly, and otherwise in
// f64.
#pragma once
#include "masked_row.cuh"

// Exponentials of logits that f32 does not represent. The logits are products of score and scale, computed in f64.
struct WideProductLogits {
    const double scale, max;
    const SoftmaxExp exp;
    const LaneTables tables;

    DEVICE WideProductLogits(double scale, double max)
        : scale(scale), max(max), exp(0.0f, -INFINITE), tables(exp.lane_tables(0.0f)) {}

    DEVICE float power(float x) const {
        const double difference = (double)x * scale - max, clamped = difference > -104.0 ? difference : -104.0;
        const float high = (float)clamped, rest = (float)(clamped - (double)high);
        return exp.within(tables, high, [&](float low) { return low + rest; }) * SCALED_DOWN;
    }

    // Returns the bits of (z - max) - log_sum.
    template <class S>
    DEVICE u32 log_bits(float x, double log_sum) const {
        return narrow_once<S>(((double)x * scale - max) - log_sum);
    }
};

// Computes (z - max) - log_sum for a logit that is an f32 value. For results of 16-bit types, both subtractions are in
// f32, because their roundings do not change such a result. For f32, both are in f64.
template <class S>
DEVICE u32 log_softmax_bits(float z, float max, double log_sum) {
    if (sizeof(typename S::Bits) == 2) {
        return S::narrow((z - max) - (float)log_sum);
    }
    return S::narrow((float)(((double)z - (double)max) - log_sum));
}

struct ExactProductLogits : ExactLogits {
    const float max;

    DEVICE ExactProductLogits(float scale, float max) : ExactLogits(scale, max), max(max) {}

    DEVICE float power(float x) const { return ExactLogits::power(x, 0.0f); }

    template <class S>
    DEVICE u32 log_bits(float x, double log_sum) const {
        return log_softmax_bits<S>(x * scale, max, log_sum);
    }
};

// Calls `f` with the logits of a row without a bias, and returns the result of `f`. Returns false if the row must be
// read one element at a time. `score` is the largest score, and finite.
template <class Row, class F>
DEVICE bool with_products(const MaskedArguments& a, Row& row, float score, int* partial, F f) {
    const float scale = (float)a.scale;
    // If the scale is a power of two, all products are checked. With another scale, almost no product is an f32 value,
    // and a single product that is not an f32 value makes the row inexact. So only the first element of each piece is
    // checked. If all checked products are f32 values, the row is read one element at a time.
    const u32 checked = a.logits == EXACT ? Row::COUNT : a.logits == PRODUCTS ? 1 : 0;
    bool is_exact = true;
    if (checked > 0) {
        const float back = 1.0f / scale;
        row.each([&](u32, u32, const auto& x, const float*) {
            const double z = (double)x.at(0) * a.scale;
            is_exact = is_exact && (double)(float)z == z;
            UNROLLED
            for (u32 e = 1; e < Row::COUNT; e++) {
                is_exact = is_exact && (checked == 1 || x.at(e) * scale * back == x.at(e));
            }
        });
        __syncthreads();
        is_exact = Row::of_block(is_exact ? 0.0f : 1.0f, partial) == 0.0f;
    }
    if (checked != 1 && is_exact) {
        return f(ExactProductLogits(scale, score * scale));
    }
    if (checked == 1 && !is_exact) {
        return f(WideProductLogits(a.scale, (double)score * a.scale));
    }
    return false;
}
