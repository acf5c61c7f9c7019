// Definitions shared by softmax, log_softmax and logsumexp: a row's extremes, the sum of its exponentials, and rows
// without a finite result.
#pragma once
#include "softmax_exp.cuh"
#include "register_row.cuh"

struct ScoresArguments {
    u64 x;       // [rows, cols]
    u64 y;       // [rows, cols], or [rows] for logsumexp
    u64 guards;  // [4]: counts of rows with NaN, with +inf and fully masked, and the first fully masked row; or 0
    u64 rows;
    u32 cols;    // May be 0 for logsumexp only.
    float uniform; // 1 / cols if softmax gives fully masked rows that value, else 0
};

struct Extremes {
    // NaN if the row contains a NaN.
    float max;
    float min;

    DEVICE bool is_nan() const { return max != max; }
    DEVICE bool is_live() const { return fabsf(max) < INFINITE; }
    DEVICE bool is_masked() const { return max == -INFINITE; }
};

// `key_of` maps a float to an integer with the same order, in which NaN is the largest. `of_key` maps it back.
DEVICE int key_of(float v) {
    const int bits = (int)bits_of(v);
    return bits ^ (bits >> 31 & 0x7fffffff);
}
DEVICE float of_key(int key) { return float_of((u32)(key ^ (key >> 31 & 0x7fffffff))); }

struct alignas(8) Keys {
    int max, min;
    // Pads `Keys` to the size of `Parts`, so that element i of an array of `Keys` has the offset of element i of an
    // array of `Parts`.
    int unused[2];

    DEVICE Keys of_warp() const { return {largest_of_warp(max), smallest_of_warp(min), {}}; }
};

template <u32 WARPS>
DEVICE Extremes extremes_of(float max, float min, Keys* partial) {
    const Keys own = {key_of(max), key_of(min), {}};
    const Keys found = over_block<WARPS>(own, partial, [](const Keys& own, u32) { return own.of_warp(); });
    return {of_key(found.max), of_key(found.min)};
}

template <class S, template <class> class By, u32 WARPS, u32 HELD>
DEVICE Extremes extremes(Held<S, By, WARPS, HELD>& held, Keys* partial) {
    float max = -INFINITE, min = INFINITE;
    held.each([&](u32, const float* x) {
        for (u32 i = 0; i < By<S>::COUNT; i++) {
            max = max_or_nan(max, x[i]);
            min = fminf(min, x[i]);
        }
    });
    return extremes_of<WARPS>(max, min, partial);
}

// Finds the extremes with one operation per word. For a 16-bit type, a word has two values.
template <class S, u32 WARPS, u32 HELD>
DEVICE Extremes extremes(const RegisterRow<S, WARPS, HELD>& row, Keys* partial) {
    u32 max = S::INFINITE_WORD | S::SIGNS, min = S::INFINITE_WORD;
    row.each([&](bool is_there, u32 piece) {
        if (is_there) {
            for (u32 w = 0; w < row.WORDS; w++) {
                max = S::largest(max, row.words[piece][w]);
                min = S::smallest(min, row.words[piece][w]);
            }
        }
    });
    return extremes_of<WARPS>(max_or_nan(S::low_of(max), S::high_of(max)), fminf(S::low_of(min), S::high_of(min)), partial);
}

// A 64-bit integer in three parts. Each part is so short that the sum of 1024 threads' parts fits in 32 bits.
struct alignas(8) Parts {
    static const u32 BITS = 22, MASK = (1u << BITS) - 1;
    u32 low, middle, high;

    static DEVICE Parts of(u64 v) { return {(u32)v & MASK, (u32)(v >> BITS) & MASK, (u32)(v >> (2 * BITS))}; }
    DEVICE Parts of_warp() const { return {sum_of_warp(low), sum_of_warp(middle), sum_of_warp(high)}; }
    DEVICE u64 whole() const { return low + ((u64)middle << BITS) + ((u64)high << (2 * BITS)); }

    // Converts the parts of a sum to `Units`. The sum is in units of 2^-48 and may need more than 64 bits. Its part
    // `high` is in units of 2^-4.
    DEVICE Units long_units() const {
        const u64 units = Parts{low, middle, high & 15}.whole();
        return {units & (((u64)1 << 48) - 1), (high >> 4) + (u32)(units >> 48)};
    }

    // Converts the parts of a sum over a row of this length to `Units`.
    DEVICE Units units_of(u32 row_len) const { return is_long(row_len) ? long_units() : Units{whole(), 0}; }
};

// Sums integers over a block. Integer sums are exact in any order, so the bits do not depend on the number of threads.
template <u32 WARPS>
DEVICE Parts total(u64 units, Parts* partial) {
    const Parts own = Parts::of(units).of_warp();
    if (WARPS == 1) {
        return own;
    }
    const u32 lane = threadIdx.x % WARP;
    if (lane == 0) {
        partial[threadIdx.x / WARP] = own;
    }
    __syncthreads();
    Parts others = {};
    if (lane < blockDim.x / WARP) {
        others = partial[lane];
    }
    return others.of_warp();
}

// Computes the fixed-point sum of a row's exponentials. Every thread gets the result. `each` adds the thread's terms to
// its argument.
template <u32 WARPS, bool MAY_BE_LONG, class Each>
DEVICE Units sum_exps(u32 row_len, Parts* partial, Each each) {
    if (MAY_BE_LONG && is_long(row_len)) {
        LongSum sum;
        each(sum);
        return total<WARPS>(sum.units, partial).long_units();
    }
    UnitSum sum;
    each(sum);
    sum.collect();
    return {total<WARPS>(sum.units, partial).whole(), 0};
}

// Adds `N` terms to a thread's fixed-point sum over a row of any length. If the row is long, `sum.units` is in the
// units of `LongSum`.
template <u32 N>
DEVICE void add_terms(UnitSum& sum, const float* terms, u32 row_len) {
    if (is_long(row_len)) {
        LongSum of_terms;
        for (u32 i = 0; i < N; i++) {
            of_terms.add(terms[i]);
        }
        sum.units += of_terms.units;
    } else {
        for (u32 i = 0; i < N; i++) {
            sum.add(terms[i]);
        }
    }
}

// Counts a row without a finite maximum in the four integers at `guards`, if that address is not 0. The first three
// integers count the rows with NaN, the rows with +inf and the fully masked rows. The fourth is the index of the first
// fully masked row.
DEVICE void count_guards(u64 guards, u64 row, bool nan, bool is_masked) {
    if (guards && seldom_thread() == 0) {
        u64* counts = (u64*)guards;
        atomicAdd(counts + (nan ? 0 : is_masked ? 2 : 1), (u64)1);
        if (is_masked) {
            atomicMin(counts + 3, row);
        }
    }
}
