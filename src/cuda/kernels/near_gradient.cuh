// Gradients of a 16-bit type, computed in f32. Each is the f64 expression of `src/cpu/scores_backward.rs`, rounded
// once.
//
// An f32 approximation g of the expression has a known relative error. If both ends of the interval g * (1 +- MARGIN)
// round to the same 16-bit number, the expression rounds to that number too. The ends round differently for about one
// f16 element in 1,000, and for one bf16 element in 8,000. These elements are computed in f64.
//
// A formula in f32 is a class with these members:
// - `MARGIN`: more than the relative error of an approximation, plus 2^-24 for the rounding of an end of the interval;
// - `of`: returns the approximation, and lowers `least` to the element's measure, for example the magnitude of a
//   difference, if that is smaller;
// - `enough`: the smallest measure for which the error bound holds. It is NaN if the bound holds for no element, so
//   that `least >= enough` is false.
#pragma once
#include "log_sum.cuh"

// Returns 2^exponent, a normal number.
DEVICE float power_of_two(int exponent) { return float_of((u32)(127 + exponent) << 23); }

// Returns a number n such that all exponentials of the row are at least 2^-n. The number is from 1 to 127 if
// `SoftmaxExp::is_narrow` accepts the row.
DEVICE u32 binades(const Extremes& found) { return (u32)((found.max - found.min) * 1.4427f) + 1; }

// 2^LEAST_RECIPROCAL is below the reciprocal of any sum of exponentials. A sum is at most the row length, which is at
// most 2^21.
const int LEAST_RECIPROCAL = -22;
// The relative errors in `MARGIN` hold for approximations of at least 2^LEAST_NEAR. A subnormal term adds an error of
// at most 2^-150, which is 2^-28 of such an approximation.
const int LEAST_NEAR = -122;

// Rounds the approximate gradients of one piece, and stores the results in `words`. Returns a bit mask of the elements
// whose rounding is not certain.
template <class S, class Near>
DEVICE u32 round_near(const Near& near, const float* e, const u32* dy, u32* words) {
    float least = INFINITE;
    u32 differences[4];
    for (u32 w = 0; w < 4; w++) {
        const float low = near.of(e[2 * w], S::low_of(dy[w]), least);
        const float high = near.of(e[2 * w + 1], S::high_of(dy[w]), least);
        words[w] = S::narrow_two(fmaf(low, Near::MARGIN, low), fmaf(high, Near::MARGIN, high));
        differences[w] = words[w] ^ S::narrow_two(fmaf(low, -Near::MARGIN, low), fmaf(high, -Near::MARGIN, high));
    }
    const bool is_near = least >= near.enough;
    if (is_near && (differences[0] | differences[1] | differences[2] | differences[3]) == 0) {
        return 0;
    }
    u32 mask = is_near ? 0 : 0xff;
    for (u32 w = 0; w < 4; w++) {
        mask |= (differences[w] << 16 ? 1u : 0u) << (2 * w) | (differences[w] >> 16 ? 2u : 0u) << (2 * w);
    }
    return mask;
}

// Loads a piece of 16 bytes.
template <class S>
DEVICE void load_words(const typename S::Bits* from, u32* words) {
    const uint4 v = *(const uint4*)from;
    words[0] = v.x, words[1] = v.y, words[2] = v.z, words[3] = v.w;
}

// Calls `f` with the index, the exponential and the incoming gradient of each element in the mask. Registers cannot be
// indexed, so the elements move one place at a time to the first registers, from which `f` gets them.
template <class S, class F>
DEVICE void each_in_mask(u32 mask, const float* e, const u32* dy, F f) {
    float powers[8];
    u32 words[4] = {dy[0], dy[1], dy[2], dy[3]};
    for (u32 i = 0; i < 8; i++) {
        powers[i] = e[i];
    }
    ROLLED
    for (u32 at = 0; mask >> at != 0; at++) {
        if (mask >> at & 1) {
            f(at, powers[0], S::low_of(words[0]));
        }
        for (u32 i = 0; i < 7; i++) {
            powers[i] = powers[i + 1];
        }
        for (u32 w = 0; w < 4; w++) {
            words[w] = words[w] >> 16 | (w < 3 ? words[w + 1] << 16 : 0);
        }
    }
}
