// What softmax, log_softmax and logsumexp share: a row's extremes, the sum of its exponentials, and rows that have
// neither.
#pragma once
#include "softmax_exp.cuh"

struct ScoresArguments {
    u64 x;       // [rows, cols]
    u64 y;       // [rows, cols], or of logsumexp [rows].
    u64 met;     // [4]: rows with NaN, with +inf and without a logit are added, the first without one is taken; or 0.
    u64 rows;
    u32 cols;    // Of logsumexp 0 too.
    u32 uniform; // Whether rows without a logit become what 1 / cols is in the place of softmax.
};

struct Extremes {
    // NaN if there is one.
    float max;
    float min;

    DEVICE bool is_nan() const { return max != max; }
    DEVICE bool is_live() const { return fabsf(max) < INFINITE; }
    DEVICE bool is_masked() const { return max == -INFINITE; }
};

template <class S, template <class> class By, u32 WARPS, u32 HELD>
DEVICE Extremes extremes(Held<S, By, WARPS, HELD>& held, Extremes* partial) {
    Extremes own = {-INFINITE, INFINITE};
    held.each_at_once([&](u32, const float* x) {
        for (u32 i = 0; i < By<S>::COUNT; i++) {
            own.max = max_or_nan(own.max, x[i]);
            own.min = fminf(own.min, x[i]);
        }
    });
    return over_block<WARPS>(own, partial, [](Extremes own, u32 distance) {
        for (; distance > 0; distance /= 2) {
            own.max = max_or_nan(own.max, lane_beside(own.max, distance));
            own.min = fminf(own.min, lane_beside(own.min, distance));
        }
        return own;
    });
}

// The integer sum of a block, which has no order, so that the bits do not depend on the number of threads.
template <u32 WARPS>
DEVICE u64 total(u64 units, u64* partial) {
    return over_block<WARPS>(units, partial, [](u64 own, u32 distance) {
        for (; distance > 0; distance /= 2) {
            own += lane_beside(own, distance);
        }
        return own;
    });
}

// Adds a row that is not live to the four integers at `met`, if there are any: rows with NaN, with +inf and without a
// logit, and the first of the latter.
DEVICE void meet(u64 met, u64 row, bool nan, bool is_masked) {
    if (met && threadIdx.x == 0) {
        u64* counts = (u64*)met;
        atomicAdd(counts + (nan ? 0 : is_masked ? 2 : 1), (u64)1);
        if (is_masked) {
            atomicMin(counts + 3, row);
        }
    }
}
