// Extremes and sums of exponentials of rows at any address.
#pragma once
#include "block_row.cuh"
#include "scores.cuh"

// Number of warps in the largest block. The number of warps of a smaller block is also a power of two.
const u32 MOST_WARPS = 32;

template <class S, u32 HELD, u32 BATCH>
DEVICE Extremes extremes(BlockRow<S, HELD, BATCH>& row, Keys* partial) {
    u32 max = S::INFINITE_WORD | S::SIGNS, min = S::INFINITE_WORD;
    const auto add = [&](u32, const u32 (&words)[4]) {
        for (u32 w = 0; w < 4; w++) {
            max = S::largest(max, words[w]);
            min = S::smallest(min, words[w]);
        }
    };
    // The pieces in registers are compared last. Otherwise the code compares some of these pieces before it starts the
    // other loads.
    row.await_rest();
    row.each_behind(0, [&](u32 offset, bool is_there, const u32 (&words)[4]) {
        if (is_there) {
            add(offset, words);
        }
    });
    row.each_held(add);
    float own_max = max_or_nan(S::low_of(max), S::high_of(max)), own_min = fminf(S::low_of(min), S::high_of(min));
    if (row.parts.has_edge()) {
        own_max = max_or_nan(own_max, row.edge);
        own_min = fminf(own_min, row.edge);
    }
    return extremes_of<MOST_WARPS>(own_max, own_min, partial);
}

// Finds the extremes of a row in memory.
template <class S, u32 WARPS>
DEVICE Extremes extremes(const EdgedRow<S, WARPS>& row, Keys* partial) {
    float max = -INFINITE, min = INFINITE;
    row.each([&](u32, const auto& x) {
        for (u32 i = 0; i < length_of(x); i++) {
            max = max_or_nan(max, x[i]);
            min = fminf(min, x[i]);
        }
    });
    return extremes_of<WARPS>(max, min, partial);
}

// Returns whether `fast_sum<false>` can sum a row's exponentials.
DEVICE bool is_fast(const Extremes& found, u32 row_len) {
    return SoftmaxExp::is_narrow(found.max, found.min) && !is_long(row_len);
}

// Returns a word of values that are far below the maximum. Their exponentials are too small to change a fixed-point
// sum.
template <class S>
DEVICE u32 negligible_word(float max) {
    const u32 bits = S::narrow(max - 60.0f);
    return sizeof(typename S::Bits) == 2 ? bits << 16 | bits : bits;
}

// Sums the exponentials of a row whose values have a narrow range. The row may be long only if `MAY_BE_LONG`. `keep` is
// called with the index and the exponentials of each of the thread's pieces in registers, and `keep_edge` with the
// exponential of the thread's edge element. Threads that lack a piece or an edge element add negligible exponentials.
template <bool MAY_BE_LONG, class S, u32 HELD, u32 BATCH, class Keep, class KeepEdge>
DEVICE Units fast_sum(BlockRow<S, HELD, BATCH>& row, const SoftmaxExp& exp, const LaneTables& tables, u32 fill,
                      Parts* partial, Keep keep, KeepEdge keep_edge) {
    // A length of 0 stands for any row that is not long.
    const u32 COUNT = row.COUNT, len = MAY_BE_LONG ? row.parts.cols : 0;
    UnitSum sum;
    const auto add = [&](const u32 (&words)[4], float* e) {
        row.widen(words, e);
        for (u32 i = 0; i < COUNT; i++) {
            e[i] = exp.power<true>(tables, e[i]);
        }
        add_terms<COUNT>(sum, e, len);
    };
    row.each_behind(fill, [&](u32, bool, const u32 (&words)[4]) {
        float e[COUNT];
        add(words, e);
        if (sum.count >= 256) {
            sum.collect();
        }
    });
    row.fill_missing(fill);
    row.each_of_warp([&](u32 offset, u32 (&words)[4]) {
        float e[COUNT];
        add(words, e);
        keep(offset / row.OF_WARP, e, words);
    });
    if (row.parts.inner < row.parts.cols && threadIdx.x < WARP) {
        const float e = exp.power<true>(tables, row.edge);
        add_terms<1>(sum, &e, len);
        keep_edge(e);
    }
    sum.collect();
    return total<MOST_WARPS>(sum.units, partial).units_of(len);
}
