// Logarithm of the sum of exponentials of a row at any address.
#pragma once
#include "block_scores.cuh"
#include "log_sum.cuh"

struct LogRowShared {
    Keys extremes[MOST_WARPS];
    Parts units[MOST_WARPS];
    double seconds[MOST_WARPS];
    double log_sum;
    Tables tables;
};

// Sums the exponentials e^(x - max) of a row. `found` has the row's minimum and maximum, which must be finite. Long
// rows, and rows with a wide range or a dominant exponential, are read from memory again, so that the code for these
// rows needs no further registers.
template <class S, u32 HELD, u32 BATCH>
DEVICE Powers powers_of(BlockRow<S, HELD, BATCH>& row, const Extremes& found, LogRowShared& shared) {
    const u32 cols = row.parts.cols;
    SoftmaxExp exp(found.max, found.min);
    const bool fast = is_fast(found, cols);
    Units units;
    if (fast) {
        const auto drop = [](u32, const float*, const u32 (&)[4]) {};
        const u32 fill = negligible_word<S>(found.max);
        units = fast_sum<false>(row, exp, exp.lane_tables(), fill, shared.units, drop, [](float) {});
        if (!is_max_dominated(units, cols)) {
            return {units, false, 0.0};
        }
    }
    exp.narrow = false;
    exp.fill(shared.tables);
    __syncthreads();
    EdgedRow<S, MOST_WARPS> again(row.row, cols);
    if (!fast) {
        units = sum_exps<MOST_WARPS, true>(cols, shared.units, [&](auto& sum) {
            again.each([&](u32, const auto& x) {
                for (u32 i = 0; i < length_of(x); i++) {
                    sum.add(exp.power<false>(shared.tables, x[i]));
                }
                if (sum.count >= 256) {
                    sum.collect();
                }
            });
        });
        __syncthreads();
    }
    const bool max_dominated = is_max_dominated(units, cols);
    double rest = 0.0;
    if (max_dominated) {
        const auto logit = [](u32, float x) { return x; };
        const auto power = [&](u32, float x) { return exp.power<false>(shared.tables, x); };
        rest = rest_of<true>(again, cols, found.max, shared.seconds, shared.units, logit, power);
    }
    return {units, max_dominated, rest};
}
