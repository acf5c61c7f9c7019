// Rows of scores at any address that are read 16 bytes at a time.
#pragma once
#include "block_scores.cuh"
#include "unaligned_row.cuh"

// Finds the extremes of a row at any address.
template <u32 WARPS, class S>
DEVICE Extremes extremes(const typename S::Bits* row, const Division<S>& parts, Keys* partial) {
    const u32 BATCH = 4, stride = blockDim.x * parts.COUNT;
    u32 max = S::INFINITE_WORD | S::SIGNS, min = S::INFINITE_WORD;
    const typename S::Bits* const inner = row + parts.head;
    ROLLED
    for (u32 first = threadIdx.x * parts.COUNT; first < parts.inner; first += BATCH * stride) {
        // All loads of a batch start before the first result is used.
        uint4 batch[BATCH];
        UNROLLED
        for (u32 i = 0; i < BATCH; i++) {
            const u32 at = first + i * stride;
            if (at < parts.inner) {
                batch[i] = *(const uint4*)(inner + at);
            }
        }
        UNROLLED
        for (u32 i = 0; i < BATCH; i++) {
            const u32 words[4] = {batch[i].x, batch[i].y, batch[i].z, batch[i].w};
            for (u32 w = 0; w < 4 && first + i * stride < parts.inner; w++) {
                max = S::largest(max, words[w]);
                min = S::smallest(min, words[w]);
            }
        }
    }
    float own_max = max_or_nan(S::low_of(max), S::high_of(max)), own_min = fminf(S::low_of(min), S::high_of(min));
    if (parts.has_edge()) {
        const float edge = S::widen(row[parts.edge()]);
        own_max = max_or_nan(own_max, edge);
        own_min = fminf(own_min, edge);
    }
    return extremes_of<WARPS>(own_max, own_min, partial);
}

// Computes the exponentials of a piece of 16 bytes. All lanes of a warp make this call together.
template <class S>
DEVICE void powers_of(const SoftmaxExp& exp, const LaneTables& tables, const u32* words, float* e) {
    const u32 IN_WORD = Vectors<S>::COUNT / 4;
    for (u32 w = 0; w < 4; w++) {
        e[IN_WORD * w] = exp.power<true>(tables, S::low_of(words[w]));
        if (IN_WORD == 2) {
            e[2 * w + 1] = exp.power<true>(tables, S::high_of(words[w]));
        }
    }
}

// Computes the exponential of the thread's edge element. All lanes of a warp make this call together. If the thread has
// no edge element, the result has no meaning.
template <class S>
DEVICE float power_of_edge(const SoftmaxExp& exp, const LaneTables& tables, const typename S::Bits* row,
                           const Division<S>& parts) {
    return exp.power<true>(tables, parts.has_edge() ? S::widen(row[parts.edge()]) : 0.0f);
}
