// Lists the tokens with the largest logits of a row. The largest logit of each group of columns shows which groups to
// read.
#pragma once
#include "sample_parts.cuh"

// Returns the largest logit of this thread's groups.
template <u32 THREADS, class S>
DEVICE float largest_of_groups(const LogitRow<S>& logits, SampleWork& work) {
    const float* groups = work.groups();
    float own = -INFINITE;
    for (u32 group = threadIdx.x; group < logits.steps * logits.GROUPS; group += THREADS) {
        own = fmaxf(own, groups[group]);
    }
    return own;
}

// Each thread passes `own_top`, the largest logit of its groups. Returns a value that the `own_top` of at least k
// threads reaches. Usually, only slightly more than k threads reach it.
template <u32 WARPS>
DEVICE float reached_by_threads(SampleShared<WARPS>& shared, float own_top, u32 k) {
    u32* const keys = shared.bins;
    __syncthreads();
    keys[threadIdx.x] = key_of(own_top);
    __syncthreads();
    if (threadIdx.x < WARP) {
        const u32 EACH = WARPS, MOST_MORE = 16;
        u32 own[EACH], found = 0;
        for (u32 i = 0; i < EACH; i++) {
            own[i] = keys[threadIdx.x + i * WARP];
        }
        ROLLED
        for (u32 bit = 1u << 31; bit > 0; bit >>= 1) {
            u32 count = 0;
            for (u32 i = 0; i < EACH; i++) {
                count += own[i] >= (found | bit);
            }
            count = sum_of_warp(count);
            found |= count >= k ? bit : 0;
            if (count >= k && count <= k + MOST_MORE) {
                break;
            }
        }
        if (threadIdx.x == 0) {
            shared.digit = found;
        }
    }
    __syncthreads();
    return logit_of(shared.digit);
}

// Lists the tokens whose logit is at least `from`. Reads only groups of columns that have such a token. Returns false
// if there are too many groups or tokens.
template <class S, u32 WARPS>
DEVICE bool list_of_groups(const LogitRow<S>& logits, SampleWork& work, Candidates<WARPS>& list, float from) {
    SampleShared<WARPS>& shared = list.shared;
    u32* const found = shared.bins;
    const float* tops = work.groups();
    list.clear();
    ROLLED
    for (u32 group = threadIdx.x; group < logits.steps * logits.GROUPS; group += WARPS * WARP) {
        if (tops[group] >= from) {
            const u32 place = atomicAdd(&shared.listed, 1u);
            if (place < BINS) {
                found[place] = group;
            }
        }
    }
    __syncthreads();
    const u32 count = shared.listed;
    if (count > BINS) {
        return false;
    }
    list.clear();
    ROLLED
    for (u32 i = threadIdx.x / logits.GROUP; i < count; i += WARPS * WARP / logits.GROUP) {
        const u32 piece = found[i] * logits.GROUP + threadIdx.x % logits.GROUP;
        uint4 words = logits.read(piece);
        words = logits.allowed ? logits.masked(piece, words) : words;
        ROLLED
        for (u32 word = 0; word < 4; word++) {
            const u32 index = logits.column(piece) + word * (logits.COUNT / 4);
            if (S::low_of(words.x) >= from) {
                list.add(index, S::low_of(words.x));
            }
            if (logits.COUNT == 8 && S::high_of(words.x) >= from) {
                list.add(index + 1, S::high_of(words.x));
            }
            words = {words.y, words.z, words.w, 0};
        }
    }
    return list.complete();
}
