// Attention for decoding: each sequence has one query per head. `src/cpu/attention.rs` defines the same results.
//
// The keys of a sequence are divided into blocks of 256, starting at the first key. Each block is computed
// independently, and the results of the blocks are merged in order. So no result depends on how the blocks are
// distributed.
#pragma once
#include "masked.cuh"
#include "norm.cuh"

// Number of keys in a block, which is also the number of threads.
const u32 KEYS = 256;
// Number of terms in a chain of fused multiply-adds, and number of chains in a block of keys.
const u32 CHAIN = 32, CHAINS = KEYS / CHAIN;
const u32 MOST_FEATURES = 256;
// Offset of a key that is masked, or whose page is not in the cache.
const u64 NOWHERE = ~0ull;

// Pages of keys or values. The strides are in elements.
struct Pages {
    u64 data, page, position, head;
};

struct DecodeArguments {
    u64 q, out;
    u64 q_sequence, q_head, out_sequence, out_head; // Strides, in elements.
    Pages k, v;
    u64 table, table_stride; // Indices of the pages of each sequence.
    u64 lengths;             // Number of keys of each sequence.
    u64 sinks;
    u64 ends, sums;          // Results of blocks: [sequences, heads, slots], and [sequences, heads, slots, of_values]
    u64 guards;              // As in `ScoresArguments`.
    u64 sequences;
    double scale;
    double softcap;          // 0 for none.
    u32 heads, key_heads;    // `heads` is a multiple of `key_heads`.
    u32 features, of_values; // Number of features of keys and of values.
    u32 pages, page_size;    // Number of pages, and number of positions in a page.
    u32 capacity;            // Number of positions in a sequence's pages.
    u32 window;              // Number of keys in the window; 0 for no limit.
    u32 slots;               // Largest number of blocks of keys that a query sees.
    u32 splits;              // Number of thread blocks that share the blocks of keys of a query.
    u32 sink_type;
    u32 in_wide;             // Whether all blocks are computed in f64.
};

// Keys that the query of a sequence sees.
struct KeyRange {
    u32 low, high;
    // Whether the sequence's pages can hold its keys.
    bool fits;

    KeyRange() = default;
    DEVICE KeyRange(const DecodeArguments& a, u64 sequence) : low(0), high(((const u32*)a.lengths)[sequence]) {
        fits = high <= a.capacity;
        low = a.window && high > a.window ? high - a.window : 0;
    }

    DEVICE bool contains(u32 key) const { return low <= key && key < high; }
    DEVICE u32 first_block() const { return low / KEYS; }
    DEVICE u32 end_block() const { return high / KEYS + (high % KEYS ? 1 : 0); }
};

// Largest logit and sum of exponentials of a block of keys. A negative sum means that f32 cannot represent the result,
// so the block is computed in f64.
struct alignas(16) BlockEnd {
    double max, sum;
};

struct alignas(16) Four {
    float v[4];
};

// A page, and a position in it. If the key is masked or its page is not in the cache, `page` is at least the number of
// pages.
struct PagePosition {
    u32 page, position;

    DEVICE PagePosition(const DecodeArguments& a, u64 sequence, u32 key, bool is_visible) : page(a.pages), position(0) {
        if (is_visible) {
            const u32 index = key / a.page_size;
            page = ((const u32*)a.table)[sequence * a.table_stride + index];
            position = key - index * a.page_size;
        }
    }

    // Returns the offset of the position's first feature.
    DEVICE u64 in(const DecodeArguments& a, const Pages& pages, u32 key_head) const {
        return page < a.pages ? page * pages.page + position * pages.position + key_head * pages.head : NOWHERE;
    }
};

// Results of a block of keys in f64. All threads have the same `max` and `sum`. Each thread computes one feature of the
// result: `value`, the weighted sum of this feature over the block's keys.
struct WideBlock {
    // `max` is NaN or +inf if a logit has that value, and -inf if all keys are masked.
    double max, sum, value;
};

struct alignas(8) Grids {
    double multiples[3];
};

struct WideShared {
    u64 at[KEYS];
    // Exponentials, or -1 for masked keys.
    double weights[KEYS];
    double maxima[CHAINS];
    Grids grids[CHAINS];
    u32 nans[CHAINS];
};

DEVICE double logit_of(const DecodeArguments& a, double x) {
    const double z = saturate(x * a.scale, fabs(x));
    return x == -(double)INFINITE ? x : a.softcap > 0.0 ? a.softcap * tanh_of(z / a.softcap) : z;
}

// Returns the dot product of the query and a key, added in chains.
template <class S>
DEVICE double wide_product(const typename S::Bits* query, const typename S::Bits* key, u32 features) {
    double sum = 0.0, chain = 0.0;
    ROLLED
    for (u32 i = 0; i < features; i++) {
        chain = fma((double)S::widen(query[i]), (double)S::widen(key[i]), chain);
        if (i % CHAIN == CHAIN - 1 || i + 1 == features) {
            sum += chain;
            chain = 0.0;
        }
    }
    return sum;
}

// Computes e^(z - max). The exponent includes the rounding error of the difference.
DEVICE double wide_power(double z, double max) {
    const double least = -746.1332191019411;
    const double difference = z - max, part = difference - z;
    const double error = (z - (difference - part)) - (max + part);
    const double within = difference > least ? difference : least;
    const Wide power = exp_parts(within, within == difference ? error : 0.0);
    const long long n = (long long)power.exponent, half = n >> 1;
    return (power.hi + power.lo) * power_of_two(half) * power_of_two(n - half);
}

// Computes a block of keys in f64, as `src/cpu/attention/wide.rs` defines it. All threads of the block make this call.
template <class S>
DEVICE WideBlock wide_block(const DecodeArguments& a, u64 sequence, u32 head, u32 block, const KeyRange& range, WideShared& shared) {
    typedef typename S::Bits Bits;
    const u32 key = block * KEYS + threadIdx.x, key_head = head / (a.heads / a.key_heads);
    const bool is_visible = range.contains(key);
    const PagePosition position(a, sequence, key, is_visible);
    const u64 at = position.in(a, a.k, key_head);
    double z = -(double)INFINITE;
    if (at != NOWHERE) {
        const Bits* query = (const Bits*)a.q + sequence * a.q_sequence + head * a.q_head;
        z = logit_of(a, wide_product<S>(query, (const Bits*)a.k.data + at, a.features));
    }
    // A visible key whose page is not in the cache counts as NaN.
    const u32 own_nan = z != z || (is_visible && at == NOWHERE);
    __syncthreads();
    const u32 is_nan = over_block<CHAINS>(own_nan, shared.nans, [](u32 own, u32 distance) {
        for (; distance > 0; distance /= 2) {
            own |= lane_beside(own, distance);
        }
        return own;
    });
    const double max = largest_of_block<CHAINS>(own_nan ? -(double)INFINITE : z, shared.maxima);
    if (is_nan || !(fabs(max) < (double)INFINITE)) {
        return {is_nan ? NOT_A_NUMBER : max, 0.0, 0.0};
    }
    const bool is_masked = z == -(double)INFINITE;
    const double weight = is_masked ? 0.0 : wide_power(z, max);
    shared.at[threadIdx.x] = position.in(a, a.v, key_head);
    shared.weights[threadIdx.x] = is_masked ? -1.0 : weight;
    // Splits the term into multiples of 2^-31, 2^-62 and 2^-93, whose sums are exact.
    Grids own;
    double rest = weight;
    UNROLLED
    for (u32 i = 0; i < 3; i++) {
        const double shifter = 1.5 * power_of_two(52 - 31 * (i + 1));
        own.multiples[i] = (rest + shifter) - shifter;
        rest -= own.multiples[i];
    }
    const Grids grids = over_block<CHAINS>(own, shared.grids, [](Grids own, u32 distance) {
        for (; distance > 0; distance /= 2) {
            for (u32 i = 0; i < 3; i++) {
                own.multiples[i] += lane_beside(own.multiples[i], distance);
            }
        }
        return own;
    });
    const double low = grids.multiples[1] + grids.multiples[2], sum = grids.multiples[0] + low;
    double value = 0.0, chain = 0.0;
    if (threadIdx.x < a.of_values) {
        ROLLED
        for (u32 i = 0; i < KEYS; i++) {
            if (i % CHAIN == 0) {
                value += chain;
                chain = 0.0;
            }
            if (shared.weights[i] >= 0.0) {
                const u32 bits = ((const Bits*)a.v.data)[shared.at[i] + threadIdx.x];
                chain = fma(shared.weights[i], (double)S::widen(bits), chain);
            }
        }
    }
    return {max, sum + (low - (sum - grids.multiples[0])), value + chain};
}

// Computes e^x for x <= 0, as `term` of `src/math/exp.rs` does.
DEVICE double merge_weight(double x) {
    const Reduced at = reduced(x > -700.0 ? x : -700.0);
    const double square = at.r * at.r;
    double low = EXP_POLY[9], high = EXP_POLY[10];
    UNROLLED
    for (u32 pair = 4; pair > 0; pair--) {
        low = fma(low, square, EXP_POLY[2 * pair - 1]);
        high = fma(high, square, EXP_POLY[2 * pair]);
    }
    const double rest = fma(low, at.r, fma(high, square, EXP_POLY[0]));
    const double power = fma(square, rest, at.r) + 1.0;
    return x >= -700.0 ? wide_of(bits_of_wide(power) + (at.n << 52)) : 0.0;
}
