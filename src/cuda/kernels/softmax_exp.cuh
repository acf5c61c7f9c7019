// Exponential inside softmax, as `src/math/softmax_exp.rs` defines it, and the fixed-point sum of `src/math/sum.rs`.
#pragma once
#include "common.cuh"

// 2^(j/8) rounded to f32, and the relative error of this rounding. The error is stored as the bits of (2^(j/8) -
// TABLE[j]) / TABLE[j] in f64.
__constant__ const u32 TABLE[8] = {0x3f800000, 0x3f8b95c2, 0x3f9837f0, 0x3fa5fed7,
                                   0x3fb504f3, 0x3fc5672a, 0x3fd744fd, 0x3feac0c7};
__constant__ const u64 TABLE_LOW[8] = {0x0,
                                       0xbe49c0c21188b886,
                                       0x3e6125001a0dd6a1,
                                       0xbe60a3550ceb09dd,
                                       0x3e526055c7ea21e0,
                                       0x3e367a1ca2d673e0,
                                       0xbe4f9c304c9a8f60,
                                       0xbe3a5217ca913fea};

// 8 / ln2 and its reciprocal. They are not `const`, so that instructions read them from memory as operands.
__constant__ double STEPS_OF_ONE = 1.0 / 0x1.62e42fefa39efp-4;
__constant__ double STEP = 0x1.62e42fefa39efp-4;

struct alignas(8) Entry {
    float power, low;
};

// Tables of a row in shared memory. Thread j < 8 writes entry j. One load reads both halves of an entry.
struct Tables {
    Entry entries[8];

    DEVICE Entry of(u32 j) const { return entries[j & 7]; }
};

// Tables of a row in the registers of a warp: lane j holds entry j % 8. A shuffle reads entries for all lanes at once,
// without memory, addresses or barriers.
struct LaneTables {
    Entry own;

    DEVICE Entry of(u32 j) const {
        return {__shfl_sync(0xffffffffu, own.power, j), __shfl_sync(0xffffffffu, own.low, j)};
    }
};

// Computes e^(x - max) for the values of one row.
struct SoftmaxExp {
    float shift, d, shifter, deepest;
    // The value of `d` as an f64. It takes no register in code that does not use it.
    double wide_d;
    bool narrow;

    // Prepares a row with the finite maximum `max` and the minimum `min`.
    DEVICE SoftmaxExp(float max, float min) {
        const double GRID = 50331648.0;           // 1.5 * 2^25; adding it rounds a number to a multiple of 2^-27
        shift = fabsf(max) < 256.0f ? 0.0f : max;
        float m = max - shift;
        double steps = rint((double)m * STEPS_OF_ONE);
        double rest = (double)m - steps * STEP;
        wide_d = (rest + GRID) - GRID;
        d = (float)wide_d;
        shifter = 12582912.0f - (float)steps;
        deepest = m - 104.0f;
        narrow = is_narrow(max, min);
    }

    static DEVICE bool is_narrow(float max, float min) { return fabsf(max) < 256.0f && min >= max - 87.0f; }

    // Fills the tables. `max_low` is the low part of the row's maximum.
    DEVICE void fill(Tables& tables, float max_low = 0.0f) const {
        const u32 j = seldom_thread();
        if (j < 8) {
            tables.entries[j] = entry(j, (double)d + (double)max_low);
        }
    }

    DEVICE LaneTables lane_tables() const { return {entry(threadIdx.x % 8, wide_d)}; }
    // Returns the tables of a row whose maximum has the low part `max_low`.
    DEVICE LaneTables lane_tables(float max_low) const { return {entry(seldom_thread() % 8, wide_d + (double)max_low)}; }

    DEVICE Entry entry(u32 j, double taken) const {
        return {float_of(TABLE[j] - (j << 20) + (narrow ? 0 : 64u << 23)),
                (float)(__longlong_as_double((long long)TABLE_LOW[j]) - taken)};
    }

    // Computes e^(x - max). `NARROW` selects a faster computation with the same bits, for rows that `is_narrow`
    // accepts. If x is -inf, the result is 0; rows that `is_narrow` accepts contain no -inf.
    template <bool NARROW, class T>
    DEVICE float power(const T& tables, float x) const {
        if (NARROW) {
            return within(tables, x, [](float low) { return low; });
        }
        float z = x - shift;
        float clamped = z > deepest ? z : deepest;
        return lowered(within(tables, clamped, [](float low) { return low; }), z);
    }

    // Computes e^(x + low - max + `shift`); `narrow` must be false. For `low` = 0, the bits are those of `power` at x +
    // `shift`. If x is -inf or NaN, the result is 0 for any `low`.
    template <class T>
    DEVICE float pair(const T& tables, float x, float low) const {
        float mend = x > deepest ? low : 0.0f;
        float clamped = x > deepest ? x : deepest;
        return lowered(within(tables, clamped, [mend](float low) { return low + mend; }), x);
    }

    DEVICE float lowered(float raised, float x) const {
        return raised * (x > deepest ? float_of((127 - 64) << 23) : 0.0f);
    }

    template <class T, class Mend>
    DEVICE float within(const T& tables, float x, Mend mend) const {
        float j = fmaf(x - d, float_of(0x4138aa3b), shifter);
        float n = j - shifter;
        float r = fmaf(n, -float_of(0x3db17218), x);
        const Entry entry = tables.of(bits_of(j));
        r = fmaf(n, -float_of(0xaf82e308), r + mend(entry.low));
        float q = fmaf(fmaf(float_of(0x3d2aad66), r, float_of(0x3e2aae3a)), r, 0.5f);
        float t = fmaf(r * r, q, r);
        float s = float_of(bits_of(entry.power) + (bits_of(j) << 20));
        return fmaf(t, s, s);
    }
};

// Returns whether a fixed-point sum over a row of this length may need more than 64 bits.
DEVICE bool is_long(u32 row_len) { return row_len > 1u << 18; }

// Fixed-point sum for rows that are not long. Each term, an f32 from 0 to 1, is rounded to a multiple of 2^-45, and the
// rounded terms are added without error. Adding f32 constants splits a term into a high and a low part. The bits of the
// parts are then added as integers modulo 2^32. Without the constants' bits, which `collect` subtracts, both sums fit.
struct UnitSum {
    u32 high, low, count;
    u64 units;

    DEVICE UnitSum() : high(0), low(0), count(0), units(0) {}

    // Returns 1.5 times a power of two. Its unit in the last place is the unit of the sum.
    static DEVICE float grid() { return 1.5f / (1 << 22); }

    DEVICE void add(float e) {
        float u = e + 1.0f;
        high += bits_of(u);
        low += bits_of(e + ((1.0f + grid()) - u));
        count += 1;
    }

    // Collects the partial sums. Must be called after at most 511 terms.
    DEVICE void collect() {
        u32 high_sum = high - count * bits_of(1.0f);
        int low_sum = (int)(low - count * bits_of(grid()));
        units += ((u64)high_sum << 22) + (u64)(long long)low_sum;
        high = low = count = 0;
    }
};

// Fixed-point sum for long rows, in units of 2^-48. From 16 to 32, the unit in the last place of an f64 is 2^-48, so
// adding a term to 24 rounds the term to this unit. The sum of a thread's terms fits in 64 bits.
struct LongSum {
    static const u32 count = 0;
    u64 units;

    DEVICE LongSum() : units(0) {}

    DEVICE void add(float e) {
        units += (u64)__double_as_longlong((double)e + 24.0) - (u64)__double_as_longlong(24.0);
    }

    DEVICE void collect() {}
};

// Result of a fixed-point sum. For long rows, `whole` is the integer part and `units` the fraction. For other rows,
// `units` holds the complete sum.
struct Units {
    u64 units;
    u32 whole;
};

// Converts a fixed-point sum to f64.
DEVICE double sum_of_units(const Units& sum, u32 row_len) {
    return is_long(row_len) ? (double)sum.whole + (double)sum.units * 0x1p-48 : (double)sum.units * 0x1p-45;
}

// Subtracts one term from a sum.
DEVICE Units without(const Units& sum, double term, u32 row_len) {
    if (!is_long(row_len)) {
        return {sum.units - (u64)rint(term * 0x1p45), 0};
    }
    const u64 taken = (u64)rint(term * 0x1p48), borrowed = (u64)(sum.units < taken);
    return {sum.units + (borrowed << 48) - taken, sum.whole - (u32)borrowed};
}

// Computes 1 / sum as a float-float pair.
DEVICE void reciprocal(const Units& sum, u32 row_len, float& high, float& low) {
    double v = 1.0 / sum_of_units(sum, row_len);
    high = (float)v;
    low = (float)(v - (double)high);
}
