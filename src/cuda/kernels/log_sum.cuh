// Logarithm of a row's sum of exponentials, as `src/cpu/scores.rs` defines it.
#pragma once
#include "scores.cuh"
#include "wide.cuh"

// Returns the bits of an f64 other than NaN, rounded once to nearest even.
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
    ROLLED
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
        // The sum is at most slightly above 1, so `sum - 1.0` is exact.
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

// Returns a power of two, at most 2^126, that scales up the exponential of the second-largest logit to between 1/2 and
// 1.
DEVICE float finer(double max, double second) {
    // The margin exceeds the error of an exponential, so that no scaled exponential exceeds 1.
    const double steps = (max - second) * 0x1.71547652b82fep0 - 0x1p-20;
    const u32 whole = steps < 126.0 ? steps > 0.0 ? (u32)steps : 0 : 126;
    return float_of((127 + whole) << 23);
}

// Sums the exponentials other than the largest, for rows whose largest exponential dominates the sum. `logit` and
// `power` compute an element's logit and exponential.
template <bool MAY_BE_LONG, class S, template <class> class By, u32 WARPS, u32 HELD, class T, class Logit, class Power>
DEVICE double rest_of(Held<S, By, WARPS, HELD>& row, u32 row_len, T max, double* seconds, Parts* units, Logit logit,
                      Power power) {
    T own = -(T)INFINITE;
    row.each([&](u32 column, const float* x) {
        for (u32 i = 0; i < By<S>::COUNT; i++) {
            const T z = logit(column + i, x[i]);
            own = z < max && z > own ? z : own;
        }
    });
    const float factor = finer((double)max, largest_of_block<WARPS>((double)own, seconds));
    const Units rest = sum_exps<WARPS, MAY_BE_LONG>(row_len, units, [&](auto& sum) {
        row.each([&](u32 column, const float* x) {
            for (u32 i = 0; i < By<S>::COUNT; i++) {
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

template <bool NARROW, bool MAY_BE_LONG, class S, template <class> class By, u32 WARPS, u32 HELD>
DEVICE Units sum_of_powers(Held<S, By, WARPS, HELD>& held, const SoftmaxExp& exp, u32 row_len,
                           LogSumShared<S, WARPS>& shared) {
    return sum_exps<WARPS, MAY_BE_LONG>(row_len, shared.units, [&](auto& sum) {
        held.each([&](u32, const float* x) {
            for (u32 i = 0; i < By<S>::COUNT; i++) {
                sum.add(exp.power<NARROW>(shared.tables, x[i]));
            }
            if (HELD == 0 && sum.count >= 256) {
                sum.collect();
            }
        });
    });
}

// Returns ln of the sum of e^(x - max) over a row. `found` holds the row's extremes. The maximum must be finite.
template <class S, template <class> class By, u32 WARPS, u32 HELD>
DEVICE double log_sum(Held<S, By, WARPS, HELD>& held, const typename S::Bits* row, u32 cols, const Extremes& found,
                      LogSumShared<S, WARPS>& shared) {
    const bool MAY_BE_LONG = HELD == 0;
    SoftmaxExp exp(found.max, found.min);
    exp.narrow = exp.narrow && !(MAY_BE_LONG && is_long(cols));
    exp.fill(shared.tables);
    __syncthreads();
    // Rare rows (long ones, or those with a wide range or a dominant exponential) are read from memory again, so that
    // the code for them needs no further registers.
    Held<S, Rolled, WARPS, 0> again(row, cols);
    const Units units = exp.narrow ? sum_of_powers<true, false>(held, exp, cols, shared)
                                   : sum_of_powers<false, MAY_BE_LONG>(again, exp, cols, shared);
    const bool max_dominated = is_max_dominated(units, cols);
    double rest = 0.0;
    if (max_dominated) {
        exp.narrow = false;
        __syncthreads();
        exp.fill(shared.tables);
        __syncthreads();
        const auto logit = [](u32, float x) { return x; };
        const auto power = [&](u32, float x) { return exp.power<false>(shared.tables, x); };
        rest = rest_of<MAY_BE_LONG>(again, cols, found.max, shared.seconds, shared.units, logit, power);
    }
    return log_of_sum({units, max_dominated, rest}, cols);
}
