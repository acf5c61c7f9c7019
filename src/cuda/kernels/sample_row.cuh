// Row of logits as the sampler's kernels read it, and its lists of candidate tokens.
#pragma once
#include "sample.cuh"

// Sums over the threads of a block. The sums of its warps stay in `partial`.
template <u32 WARPS>
DEVICE u64 sum_of_block(u64 own, u64* partial) {
    __syncthreads();
    return over_block<WARPS>(own, partial, [](u64 own, u32 distance) {
        for (; distance > 0; distance /= 2) {
            own += lane_beside(own, distance);
        }
        return own;
    });
}

// Returns the sum over the threads before this one.
template <u32 WARPS>
DEVICE u64 sum_before(u64 own, u64* partial) {
    const u32 lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
    u64 upto = own;
    for (u32 distance = 1; distance < WARP; distance *= 2) {
        const u64 before = __shfl_sync(0xffffffffu, upto, (lane - distance) % WARP);
        upto += lane >= distance ? before : 0;
    }
    __syncthreads();
    if (lane == WARP - 1) {
        partial[warp] = upto;
    }
    __syncthreads();
    ROLLED
    for (u32 i = 0; i < warp; i++) {
        upto += partial[i];
    }
    return upto - own;
}

// Logits of a row and the tokens that are allowed. Each warp reads a part of neighbouring columns, sixteen bytes at a
// time where the columns are aligned.
template <class S, u32 WARPS>
struct LogitRow {
    typedef typename S::Bits Bits;
    static const u32 COUNT = Vectors<S>::COUNT;
    const Bits* x;
    const u32* allowed;
    const u32 cols;
    // Number of columns before the first aligned one, number of aligned pieces, and number of pieces for each warp.
    u32 head, pieces, share;

    DEVICE LogitRow(const Bits* x, const u32* allowed, u32 cols) : x(x), allowed(allowed), cols(cols) {
        const u32 beyond = (u32)((u64)x % 16) / (u32)sizeof(Bits);
        head = (COUNT - beyond) % COUNT;
        head = head < cols ? head : cols;
        pieces = (cols - head) / COUNT;
        share = (pieces + WARPS - 1) / WARPS;
    }

    // First column of a warp's part.
    DEVICE u32 start(u32 warp) const {
        const u32 piece = warp * share < pieces ? warp * share : pieces;
        return warp == 0 ? 0 : warp == WARPS ? cols : head + piece * COUNT;
    }

    DEVICE float allow(u32 i, float z) const {
        return !allowed || allowed[i / 32] >> (i % 32) & 1 ? z : -INFINITE;
    }
    DEVICE float logit(u32 i) const { return allow(i, S::widen(x[i])); }

    // Calls `f` with the index and the logit of each token of this thread.
    template <class F>
    DEVICE void each(F f) const {
        const u32 warp = threadIdx.x / WARP, lane = threadIdx.x % WARP;
        const uint4* from = (const uint4*)(x + head);
        const u32 end = (warp + 1) * share < pieces ? (warp + 1) * share : pieces;
        u32 piece = warp * share + lane;
        // Two pieces are loaded ahead of the one that is processed.
        uint4 next = {}, second = {};
        if (piece < end) {
            next = from[piece];
        }
        if (piece + WARP < end) {
            second = from[piece + WARP];
        }
        ROLLED
        for (; piece < end; piece += WARP) {
            uint4 words = next;
            next = second;
            if (piece + 2 * WARP < end) {
                second = from[piece + 2 * WARP];
            }
            // Processes one word at a time, so that the code of `f` is not repeated for each element of the piece.
            ROLLED
            for (u32 word = 0; word < 4; word++) {
                const u32 index = head + piece * COUNT + word * (COUNT / 4);
                f(index, allow(index, S::low_of(words.x)));
                if (COUNT == 8) {
                    f(index + 1, allow(index + 1, S::high_of(words.x)));
                }
                words = {words.y, words.z, words.w, 0};
            }
        }
        // The first warp also has the columns before the pieces, and the last warp the columns after the pieces.
        const u32 after = head + pieces * COUNT;
        const u32 single = warp == 0 ? lane : after + lane;
        if (warp == 0 ? single < head : warp == WARPS - 1 && single < cols) {
            f(single, logit(single));
        }
    }
};

// List of candidate tokens in shared memory.
template <u32 WARPS>
struct Candidates {
    SampleShared<WARPS>& shared;
    u32 count;

    DEVICE void clear() {
        __syncthreads();
        if (threadIdx.x == 0) {
            shared.listed = 0;
        }
        __syncthreads();
    }

    DEVICE void add(u32 index, float z) {
        const u32 place = atomicAdd(&shared.listed, 1u);
        if (place < MOST_LISTED) {
            shared.list[place] = (u64)key_of(z) << 32 | ~index;
        }
    }

    // Completes a list that all threads have added to. Returns false if there were too many tokens; the list is then
    // empty.
    DEVICE bool complete() {
        __syncthreads();
        const bool fits = shared.listed <= MOST_LISTED;
        count = fits ? shared.listed : 0;
        sort();
        return fits;
    }

    // Sorts downwards, by a bitonic network.
    DEVICE void sort() {
        u32 size = 1;
        while (size < count) {
            size *= 2;
        }
        for (u32 i = count + threadIdx.x; i < size; i += WARPS * WARP) {
            shared.list[i] = 0;
        }
        ROLLED
        for (u32 run = 2; run <= size; run *= 2) {
            ROLLED
            for (u32 distance = run / 2; distance > 0; distance /= 2) {
                __syncthreads();
                ROLLED
                for (u32 pair = threadIdx.x; pair < size / 2; pair += WARPS * WARP) {
                    const u32 low = pair + (pair & ~(distance - 1)), high = low + distance;
                    const u64 a = shared.list[low], b = shared.list[high];
                    if ((a < b) == ((low & run) == 0)) {
                        shared.list[low] = b;
                        shared.list[high] = a;
                    }
                }
            }
        }
        __syncthreads();
    }

    DEVICE u32 key(u32 place) const { return (u32)(shared.list[place] >> 32); }
    DEVICE float logit(u32 place) const { return logit_of(key(place)); }
    DEVICE u32 index(u32 place) const { return ~(u32)shared.list[place]; }

    // Returns the sum of `of(index, logit)` over the list.
    template <class Term>
    DEVICE u64 sum(Term of) {
        u64 own = 0;
        ROLLED
        for (u32 i = threadIdx.x; i < count; i += WARPS * WARP) {
            own += of(index(i), logit(i));
        }
        return sum_of_block<WARPS>(own, shared.sums);
    }

    // Returns the logit at which the running sum of `of(index, logit)` reaches `needed`. The total must reach `needed`.
    template <class Term>
    DEVICE float reach(u64 needed, Term of) {
        const u32 share = (count + WARPS * WARP - 1) / (WARPS * WARP);
        const u32 from = threadIdx.x * share < count ? threadIdx.x * share : count;
        const u32 to = from + share < count ? from + share : count;
        u64 own = 0;
        ROLLED
        for (u32 i = from; i < to; i++) {
            own += of(index(i), logit(i));
        }
        u64 upto = sum_before<WARPS>(own, shared.sums);
        if (upto < needed && needed <= upto + own) {
            u32 i = from;
            ROLLED
            for (; i < to; i++) {
                upto += of(index(i), logit(i));
                if (upto >= needed) {
                    break;
                }
            }
            shared.digit = key(i);
        }
        __syncthreads();
        return logit_of(shared.digit);
    }
};
