// Merging of the results of blocks of keys.
#pragma once
#include "attention_decode.cuh"

// Number of blocks of keys whose results a thread loads at a time. While the thread merges these results, it loads the
// next ones.
const u32 LOADED = 16;

struct MergeShared {
    WideShared wide;
    BlockEnd ends[KEYS];
    double factors[KEYS];
    // For each warp, the largest logit of its threads' blocks of keys.
    double maxima[CHAINS];
    u32 is_larger[KEYS];
    u32 narrow;
};

// Each thread passes `own`, the largest logit of its block of keys. Returns the largest of `max` and the values of
// `own` in all threads before this one.
DEVICE double largest_before(double own, double max, double (&maxima)[CHAINS]) {
    const u32 lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
    double upto = own;
    for (u32 distance = 1; distance < WARP; distance *= 2) {
        const double before = __shfl_sync(0xffffffffu, upto, (lane - distance) % WARP);
        upto = lane >= distance ? larger(before, upto) : upto;
    }
    if (lane == WARP - 1) {
        maxima[warp] = upto;
    }
    const double before = __shfl_sync(0xffffffffu, upto, (lane - 1) % WARP);
    double largest = lane > 0 ? larger(before, max) : max;
    __syncthreads();
    for (u32 i = 0; i < CHAINS; i++) {
        largest = i < warp ? larger(maxima[i], largest) : largest;
    }
    return largest;
}

// Merges the results of a row's blocks of keys in order, and stores the row. Each thread computes one feature.
template <class S>
DEVICE void merge_row(const DecodeArguments& a, u64 row, MergeShared& shared) {
    const u64 sequence = row / a.heads;
    const u32 head = (u32)(row % a.heads);
    const KeyRange range(a, sequence);
    float sink_value[1];
    const Operand sinks = {a.sinks, a.sink_type, -INFINITE};
    sinks.load<F32, 1>(head, sink_value);
    double max = (double)sink_value[0], sum = sink_value[0] == -INFINITE ? 0.0 : 1.0, out = 0.0;
    bool is_nan = !range.fits || sink_value[0] != sink_value[0], is_infinite = sink_value[0] == INFINITE;
    const u32 first = range.first_block(), blocks = range.fits ? range.end_block() - first : 0;
    const u64 slots = row * a.slots;
    const auto merge = [&](bool is_larger, double factor, double end_sum, double value) {
        sum = fma(is_larger ? sum : end_sum, factor, is_larger ? end_sum : sum);
        out = fma(is_larger ? out : value, factor, is_larger ? value : out);
    };
    u32 at = 0;
    ROLLED
    while (at < blocks) {
        const u32 count = blocks - at < KEYS ? blocks - at : KEYS;
        __syncthreads();
        BlockEnd own = {-(double)INFINITE, 0.0};
        if (threadIdx.x < count) {
            own = ((const BlockEnd*)a.ends)[slots + at + threadIdx.x];
        }
        shared.ends[threadIdx.x] = own;
        if (threadIdx.x == 0) {
            shared.narrow = count;
        }
        __syncthreads();
        if (own.sum < 0.0) {
            atomicMin(&shared.narrow, threadIdx.x);
        }
        __syncthreads();
        const u32 narrow = shared.narrow;
        // Finds a factor for each block. Block `narrow` is the first one that must be computed in f64. Only the factors
        // of earlier blocks are used.
        const double before = largest_before(own.max, max, shared.maxima);
        const bool is_larger = own.max > before;
        shared.factors[threadIdx.x] = merge_weight(is_larger ? before - own.max : own.max - before);
        shared.is_larger[threadIdx.x] = is_larger;
        __syncthreads();
        const auto load = [&](float (&values)[LOADED], u32 i) {
            UNROLLED
            for (u32 j = 0; j < LOADED; j++) {
                const bool is_there = i + j < narrow && threadIdx.x < a.of_values;
                values[j] = is_there ? ((const float*)a.sums)[(slots + at + i + j) * a.of_values + threadIdx.x] : 0.0f;
            }
        };
        float values[LOADED], next[LOADED];
        load(values, 0);
        ROLLED
        for (u32 i = 0; i < narrow; i += LOADED) {
            load(next, i + LOADED);
            UNROLLED
            for (u32 j = 0; j < LOADED; j++) {
                if (i + j < narrow) {
                    merge(shared.is_larger[i + j], shared.factors[i + j], shared.ends[i + j].sum, (double)values[j]);
                    max = larger(shared.ends[i + j].max, max);
                }
                values[j] = next[j];
            }
        }
        at += narrow;
        if (narrow < count) {
            const WideBlock wide = wide_block<S>(a, sequence, head, first + at, range, shared.wide);
            is_nan = is_nan || wide.max != wide.max;
            is_infinite = is_infinite || wide.max == (double)INFINITE;
            if (fabs(wide.max) < (double)INFINITE) {
                const bool is_larger = wide.max > max;
                merge(is_larger, merge_weight(is_larger ? max - wide.max : wide.max - max), wide.sum, wide.value);
                max = larger(wide.max, max);
            }
            at += 1;
        }
    }
    const bool is_masked = !is_nan && !is_infinite && max == -(double)INFINITE;
    if (is_nan || is_infinite || is_masked) {
        count_guards(a.guards, row, is_nan, is_masked);
    }
    if (threadIdx.x < a.of_values) {
        const double most = 0x1.fffffffffffffp1023, mean = out / sum;
        const double clamped = fabs(out) <= most ? larger(smaller(mean, most), -most) : mean;
        const u32 bits = store_wide<S>(is_nan || is_infinite ? NOT_A_NUMBER : is_masked ? 0.0 : clamped);
        typename S::Bits* to = (typename S::Bits*)a.out + sequence * a.out_sequence + head * a.out_head;
        to[threadIdx.x] = (typename S::Bits)bits;
    }
}

template <class S>
DEVICE void attention_merge(const DecodeArguments& a) {
    __shared__ MergeShared shared;
    ROLLED
    for (u64 row = blockIdx.x; row < a.sequences * a.heads; row += gridDim.x) {
        merge_row<S>(a, row, shared);
    }
}
