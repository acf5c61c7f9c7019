// Logarithm of a row's sum of exponentials, as `src/cpu/scores.rs` defines it.
#pragma once
#include "scores.cuh"
#include "wide.cuh"

// Rounds an f64 once, to nearest even, and returns the bits of the result. The f64 must not be NaN.
template <class S>
DEVICE u32 narrow_once(double v) {
    const float near = (float)v;
    if (sizeof(typename S::Bits) == 4) {
        return S::narrow(near);
    }
    // Rounds to odd: the last bit records whether bits were lost. The next rounding is then correct.
    const u32 bits = bits_of(near);
    const bool is_inexact = (double)near != v && bits % 2 == 0;
    const bool is_beyond = fabs((double)near) > fabs(v);
    return S::narrow(float_of(is_inexact ? bits + (is_beyond ? -1 : 1) : bits));
}

__constant__ const u64 LOG_POLY[8] = {0x3fe5555555555555, 0x3fd9999999999e00, 0x3fd249249242b310, 0x3fcc71c725910e22,
                                      0x3fc745cde2f93b07, 0x3fc3b20ac99930e9, 0x3fc0f5cb17060c32, 0x3fc0f63e9a4579ae};

// Computes ln x as a pair, for normal x, as `src/math/log.rs` defines it.
DEVICE void log_parts(double x, double& high, double& low) {
    const u64 ONE = 0x3ff0000000000000, SQRT_HALF = 0x3fe6a09e667f3bcd, FRACTION = 0x000fffffffffffff;
    const u64 offset = bits_of_wide(x) + (ONE - SQRT_HALF);
    const double k = (double)((int)(offset >> 52) - 1023);
    const double f = wide_of((offset & FRACTION) + SQRT_HALF) - 1.0;
    const double d = f + 2.0;
    const double s = f / d;
    const double rest = fma(0.0 - s, d, f) - s * (f - (d - 2.0));
    const double s_low = rest * fma(s, -0.5, 0.5);
    const double z = s * s;
    double r = wide_of(LOG_POLY[7]);
    UNROLLED
    for (u32 i = 7; i > 0; i--) {
        r = fma(r, z, wide_of(LOG_POLY[i - 1]));
    }
    const double large = k * wide_of(0x3fe62e42fefa3000), doubled = s * 2.0;
    const double sum = large + doubled;
    const double error = doubled - (sum - large);
    const double small = fma(s * z, r, fma(s_low, 2.0, k * wide_of(0x3d53de6af278ece6)));
    high = sum + (error + small);
    low = (error + small) - (high - sum);
}

// Returns whether the largest term dominates the sum. The fixed-point sum then has too few digits of the other terms.
DEVICE bool is_max_dominated(const Units& sum, u32 row_len) {
    const u32 unit_bits = is_long(row_len) ? 48 : 45;
    // A sum of 3 or more is never dominated by its largest term. For a smaller sum, the shift below does not overflow.
    const u64 above_one = sum.units + ((u64)sum.whole << 48) - ((u64)1 << unit_bits);
    return sum.whole < 3 && above_one < (u64)row_len << (unit_bits - 21);
}

// Fixed-point sum of a row's exponentials. If the largest exponential dominates the sum, `rest` is the sum of the other
// exponentials.
struct Powers {
    Units units;
    bool max_dominated;
    double rest;
};

// Returns ln of the sum.
DEVICE double log_of_sum(const Powers& powers, u32 row_len) {
    double sum = sum_of_units(powers.units, row_len), error = 0.0;
    if (powers.max_dominated) {
        // The sum is 1 or slightly more, so `sum - 1.0` is exact.
        sum = 1.0 + powers.rest;
        error = (powers.rest - (sum - 1.0)) / sum;
    }
    double high, low;
    log_parts(sum, high, low);
    return high + (low + error);
}

template <class S, u32 WARPS>
struct LogSumShared {
    Keys extremes[WARPS];
    Parts units[WARPS];
    double seconds[WARPS];
    Tables tables;
};

// Returns the power of two, from 1 to 2^126, that scales the exponential of the second-largest logit to between about
// 1/2 and 1. If 2^126 is too small for this, returns 2^126.
DEVICE float finer(double max, double second) {
    // The margin exceeds the error of an exponential, so that no scaled exponential exceeds 1.
    const double steps = (max - second) * 0x1.71547652b82fep0 - 0x1p-20;
    const u32 whole = steps < 126.0 ? steps > 0.0 ? (u32)steps : 0 : 126;
    return float_of((127 + whole) << 23);
}

// Sums the exponentials other than the largest, for rows whose largest exponential dominates the sum. `logit` and
// `power` compute an element's logit and exponential.
template <bool MAY_BE_LONG, class Row, class T, class Logit, class Power>
DEVICE double rest_of(Row& row, u32 row_len, T max, double* seconds, Parts* units, Logit logit, Power power) {
    T own = -(T)INFINITE;
    row.each([&](u32 column, const auto& x) {
        for (u32 i = 0; i < length_of(x); i++) {
            const T z = logit(column + i, x[i]);
            own = z < max && z > own ? z : own;
        }
    });
    const float factor = finer((double)max, largest_of_block<Row::BLOCK_WARPS>((double)own, seconds));
    const Units rest = sum_exps<Row::BLOCK_WARPS, MAY_BE_LONG>(row_len, units, [&](auto& sum) {
        row.each([&](u32 column, const auto& x) {
            for (u32 i = 0; i < length_of(x); i++) {
                const float e = power(column + i, x[i]);
                sum.add(e == 1.0f ? 0.0f : e * factor);
            }
            if (sum.count >= 256) {
                sum.collect();
            }
        });
    });
    return sum_of_units(rest, row_len) / (double)factor;
}
