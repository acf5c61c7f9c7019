// Rows with masks, scale and softcap: definitions shared by softmax, log_softmax and logsumexp, as in `src/mask.rs`,
// `src/cpu/scores.rs` and `src/cpu/scores_masked.rs`.
//
// This file computes logits in f64, anew at each use. This suits every row. `masked_row.cuh` has faster methods.
#pragma once
#include "exp.cuh"
#include "log_sum.cuh"

// Maximum number of mask parts of one kind (`PARTS`), and of axes before the last (`AXES`).
const u32 PARTS = 2;
const u32 AXES = 7;

// Part of a mask: flags, a bias, or lengths. Strides of broadcast axes are 0.
struct MaskOperand {
    u64 data;
    u64 strides[AXES];
    u32 step; // Stride of a column.
    u32 type; // Type of a bias: 0 f32, 1 f16, 2 bf16, 3 f64.
};

// Methods by which softmax computes the logits of a call. WIDE computes them in f64. PRODUCTS multiplies scores by the
// scale and adds at most one bias. EXACT is for calls without a bias whose scale is a power of two. PLAIN is for calls
// without a bias whose scale is 1.
const u32 WIDE = 0, PRODUCTS = 1, EXACT = 2, PLAIN = 3;

struct MaskedArguments {
    u64 x;       // [rows, cols]
    u64 y;       // [rows, cols], or [rows]
    u64 guards;  // As in `ScoresArguments`.
    u32 rows, cols;
    u32 uniform;
    u32 logits;  // `WIDE`, `PRODUCTS`, `EXACT` or `PLAIN`.
    double scale;
    double softcap;                // 0 for none.
    u32 dims[AXES];                // Sizes of the `axes` axes before the last.
    u32 axes;
    u32 keeps, biases, lengths;    // Number of parts of each kind.
    u32 causal;
    long long offset;              // Position of the first query.
    long long window;              // Number of keys in the window; 0 for no limit.
    MaskOperand keep[PARTS], bias[PARTS], length[PARTS];
};

// Mask of a row. `HAS_BIAS` is false in kernels for masks without a bias.
template <bool HAS_BIAS>
struct RowMask {
    const u32 keeps, biases;
    // Column range that holds every unmasked column.
    u32 low, high;
    const unsigned char* keep[PARTS];
    u32 keep_step[PARTS];
    u64 bias[PARTS];
    u32 bias_step[PARTS], bias_type[PARTS];

    // Creates a mask that masks nothing.
    DEVICE RowMask(u32 cols) : keeps(0), biases(0), low(0), high(cols) {}

    DEVICE RowMask(const MaskedArguments& a, u32 row) : keeps(a.keeps), biases(HAS_BIAS ? a.biases : 0), low(0), high(a.cols) {
        UNROLLED
        for (u32 p = 0; p < PARTS; p++) {
            keep_step[p] = a.keep[p].step;
            bias_step[p] = a.bias[p].step;
            bias_type[p] = a.bias[p].type;
            if (p < a.lengths) {
                const u64 length = ((const u64*)a.length[p].data)[start_of(a, a.length[p], row)];
                high = length < high ? (u32)length : high;
            }
            if (p < keeps) {
                keep[p] = (const unsigned char*)a.keep[p].data + start_of(a, a.keep[p], row);
                // If all columns share one flag, the flag keeps or masks the whole row. `high` is set to 0 to mask it.
                if (keep_step[p] == 0 && high > 0) {
                    high = *keep[p] != 0 ? high : 0;
                }
            }
            if (p < biases) {
                bias[p] = a.bias[p].data + start_of(a, a.bias[p], row) * (bias_type[p] == 0 ? 4 : bias_type[p] == 3 ? 8 : 2);
            }
        }
        const long long query = a.axes > 1 ? row % a.dims[a.axes - 1] : row, behind = a.offset + query + 1;
        if (a.causal) {
            high = behind < (long long)high ? behind < 0 ? 0 : (u32)behind : high;
        }
        if (a.window && behind > a.window) {
            low = behind - a.window < (long long)high ? (u32)(behind - a.window) : high;
        }
    }

    // Returns the index of a row's first element in the data of a mask part.
    static DEVICE u64 start_of(const MaskedArguments& a, const MaskOperand& part, u32 row) {
        u64 start = 0;
        ROLLED
        for (u32 axis = a.axes; axis > 1; axis--) {
            const u32 rest = row / a.dims[axis - 1];
            start += (row - rest * a.dims[axis - 1]) * part.strides[axis - 1];
            row = rest;
        }
        return start + row * part.strides[0];
    }

    DEVICE bool is_within(u32 column) const { return low <= column && column < high; }

    DEVICE bool keeps_at(u32 p, u32 column) const { return keep[p][(u64)column * keep_step[p]] != 0; }

    DEVICE bool keeps_at(u32 column) const {
        bool is_kept = true;
        UNROLLED
        for (u32 p = 0; p < PARTS; p++) {
            if (p < keeps) {
                is_kept = is_kept && keeps_at(p, column);
            }
        }
        return is_kept;
    }

    // Returns the bias of a part at a column.
    DEVICE double bias_at(u32 p, u32 column) const {
        const u64 at = (u64)column * bias_step[p];
        switch (bias_type[p]) {
        case 0:
            return (double)((const float*)bias[p])[at];
        case 1:
            return (double)F16::widen(((const u16*)bias[p])[at]);
        case 2:
            return (double)BF16::widen(((const u16*)bias[p])[at]);
        default:
            return ((const double*)bias[p])[at];
        }
    }
};

// Clamps `value` to the finite range if `from` is finite. `from` is the magnitude of the number from which `value` was
// computed.
DEVICE double saturate(double value, double from) {
    const double most = 0x1.fffffffffffffp1023;
    const double clamped = value > most ? most : value < -most ? -most : value;
    return from < (double)INFINITE ? clamped : value;
}

// Computes tanh x, as `src/math/tanh.rs` defines it.
DEVICE double tanh_of(double x) {
    const double magnitude = fabs(x);
    // Computes e^y - 1 for y = -2 |x|. A NaN is kept.
    const Reduced y = reduced((20.0 < magnitude ? 20.0 : magnitude) * -2.0);
    const double rest = fma(y.r * y.r, horner(y.r, EXP_POLY), y.low);
    const double power = power_of_two(y.n);
    const Sum whole = fast_two_sum(power - 1.0, y.r * power);
    const double t = whole.hi + (whole.lo + rest * power);
    const double value = (0.0 - t) / (t + 2.0);
    return wide_of(bits_of_wide(value) | (bits_of_wide(x) & SIGN));
}

// Computes e^x for x <= 0, as `src/math/exp.rs` defines it for f64.
DEVICE double exp_of(double x) {
    const double least = -746.1332191019411;
    const Wide power = exp_parts(x > least ? x : least, 0.0);
    // Multiplies by 2^n in two steps. Only the second step rounds.
    const long long n = (long long)power.exponent, half = n >> 1;
    return (power.hi + power.lo) * power_of_two(half) * power_of_two(n - half);
}

// Logits of a row in f64. Masked ones are -inf.
template <class S, bool HAS_BIAS>
struct WideLogits {
    const RowMask<HAS_BIAS>& mask;
    const double scale, softcap;

    DEVICE double scaled(float x) const { return saturate((double)x * scale, fabs((double)x)); }

    // Returns the derivative of a logit with respect to its score. With v = score * scale / softcap, the derivative is
    // scale * (1 - tanh^2 v), and 1 - tanh^2 v = 4 * e / (1 + e)^2 with e = e^(-2|v|).
    DEVICE double derivative(float x) const {
        if (!(softcap > 0.0)) {
            return scale;
        }
        const double e = exp_of(fabs(scaled(x) / softcap) * -2.0), one = 1.0 + e;
        return 4.0 * e / (one * one) * scale;
    }

    DEVICE double at(u32 column, float x) const {
        if (!mask.is_within(column)) {
            return -(double)INFINITE;
        }
        double z = -(double)INFINITE;
        if (x != -INFINITE) {
            z = softcap > 0.0 ? softcap * tanh_of(scaled(x) / softcap) : scaled(x);
        }
        UNROLLED
        for (u32 p = 0; p < PARTS; p++) {
            if (HAS_BIAS && p < mask.biases) {
                const double bias = mask.bias_at(p, column), other = fabs(bias), own = fabs(z);
                z = saturate(z + bias, own > other ? own : other);
            }
        }
        return mask.keeps_at(column) ? z : -(double)INFINITE;
    }
};

// Maximum of a row's logits in f64.
struct WideExtremes {
    double max;
    u32 nan, inexact; // Whether a logit is NaN, and whether one is not an f32 value.

    DEVICE bool is_masked() const { return !nan && max == -(double)INFINITE; }
    DEVICE bool is_live() const { return !nan && fabs(max) < (double)INFINITE; }
};

// Columns `first..end` of a row; all others are masked. Each pass reads the row again, one element at a time.
template <class S, u32 WARPS, bool HAS_BIAS>
struct WideRow {
    const WideLogits<S, HAS_BIAS> logits;
    Held<S, Rolled, WARPS, 0> held;
    const u32 first, cols;
    WideExtremes found;
    SoftmaxExp exp;

    DEVICE WideRow(double scale, double softcap, u32 cols, const typename S::Bits* row, const RowMask<HAS_BIAS>& mask,
                   u32 first, u32 end)
        : logits{mask, scale, softcap}, held(row + first, end - first), first(first), cols(cols), exp(0.0f, -INFINITE) {}

    // Creates a row of a call. `softcap` is the softcap of the call, or a constant 0 in kernels for calls without a
    // softcap.
    DEVICE WideRow(const MaskedArguments& a, double softcap, u64 row, const RowMask<HAS_BIAS>& mask, u32 first, u32 end)
        : WideRow(a.scale, softcap, a.cols, (const typename S::Bits*)a.x + row * a.cols, mask, first, end) {}

    // Returns the logit of a score. `column` counts from `first`.
    DEVICE double logit(u32 column, float x) const { return logits.at(first + column, x); }

    DEVICE void find(WideExtremes* partial) {
        WideExtremes own = {-(double)INFINITE, 0, 0};
        held.each([&](u32 column, const float* x) {
            const double z = logit(column, *x);
            own.max = z > own.max ? z : own.max;
            own.nan |= z != z;
            own.inexact |= (double)(float)z != z;
        });
        found = over_block<WARPS>(own, partial, [](WideExtremes own, u32 distance) {
            for (; distance > 0; distance /= 2) {
                const double beside = lane_beside(own.max, distance);
                own.max = beside > own.max ? beside : own.max;
                own.nan |= lane_beside(own.nan, distance);
                own.inexact |= lane_beside(own.inexact, distance);
            }
            return own;
        });
    }

    // Fills the tables for a row whose maximum is finite. A barrier must follow.
    DEVICE void prepare(Tables& tables) {
        exp = SoftmaxExp(found.inexact ? 0.0f : (float)found.max, -INFINITE);
        exp.fill(tables);
    }

    // Returns e^(z - max). If all logits are f32 values, computes the result as for rows without mask. Otherwise first
    // computes z - max in f64.
    DEVICE float power(const Tables& tables, double z) const {
        float high = (float)z - exp.shift, low = 0.0f;
        if (found.inexact) {
            const double difference = z - found.max, clamped = difference > -104.0 ? difference : -104.0;
            high = (float)clamped;
            low = (float)(clamped - (double)high);
        }
        return exp.pair(tables, high, low);
    }

    // Returns the exponential of a score, or -1 if the score is masked.
    DEVICE float kept_power(const Tables& tables, u32 column, float x) const {
        const double z = logit(column, x);
        return z == -(double)INFINITE ? -1.0f : power(tables, z);
    }

    // Sums the exponentials.
    DEVICE Units units(const Tables& tables, Parts* partial) {
        return sum_exps<WARPS, true>(cols, partial, [&](auto& sum) {
            held.each([&](u32 column, const float* x) {
                const float e = kept_power(tables, column, *x);
                sum.add(e < 0.0f ? 0.0f : e);
                if (sum.count >= 256) {
                    sum.collect();
                }
            });
        });
    }

    DEVICE Powers powers(LogSumShared<S, WARPS>& shared) {
        const Units sum = units(shared.tables, shared.units);
        const bool max_dominated = is_max_dominated(sum, cols);
        double rest = 0.0;
        if (max_dominated) {
            const auto logit_of = [&](u32 column, float x) { return logit(column, x); };
            const auto power_of = [&](u32 column, float x) { return power(shared.tables, logit(column, x)); };
            rest = rest_of<true>(held, cols, found.max, shared.seconds, shared.units, logit_of, power_of);
        }
        return {sum, max_dominated, rest};
    }
};

// Writes `bits` to the columns of a row outside `low..high`.
template <class S>
DEVICE void fill_beside(typename S::Bits* to, u32 cols, u32 low, u32 high, u32 bits) {
    for (u32 column = threadIdx.x; column < cols; column += blockDim.x) {
        if (column < low || column >= high) {
            to[column] = (typename S::Bits)bits;
        }
    }
}
