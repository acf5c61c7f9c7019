// What the norms of rows share: operands of the columns, magnitudes, scales, and how f64 becomes a storage type.
#pragma once
#include "sum.cuh"

// Rounded once, to nearest even.
template <class S>
DEVICE u32 narrow_wide(double v) {
    const float nearest = (float)v;
    if (sizeof(typename S::Bits) == 4) {
        return v != v ? S::NOT_A_NUMBER : bits_of(nearest);
    }
    // Truncated, with the last bit set unless that was exact: another rounding is then as if it was the only one.
    const double back = (double)nearest;
    const u32 odd = (bits_of(nearest) - (fabs(back) > fabs(v) ? 1 : 0)) | (back != v ? 1 : 0);
    return v != v ? S::NOT_A_NUMBER : S::narrow(float_of(odd));
}

// Of numbers' magnitudes, by their bits, which are ordered as they are, with NaN as the largest.
struct Magnitudes {
    u32 largest, least;
    // The least but 0, less one; all bits set where there is none.
    u32 below;

    static DEVICE Magnitudes of_none() { return {0, bits_of(INFINITE), ~0u}; }

    DEVICE void meet(float v) {
        const u32 bits = bits_of(v) & 0x7fffffff;
        join(bits, bits, bits - 1);
    }

    DEVICE void join(u32 other_largest, u32 other_least, u32 other_below) {
        largest = largest > other_largest ? largest : other_largest;
        least = least < other_least ? least : other_least;
        below = below < other_below ? below : other_below;
    }

    DEVICE void join_lanes(u32 distance) {
        for (; distance > 0; distance /= 2) {
            join(lane_beside(largest, distance), lane_beside(least, distance), lane_beside(below, distance));
        }
    }

    // Of all threads of a block of up to `WARPS` warps: fewer are met more than once.
    template <u32 WARPS>
    DEVICE Magnitudes over(Magnitudes* partial) const {
        Magnitudes found = *this;
        found.join_lanes(WARP / 2);
        if (threadIdx.x % WARP == 0) {
            partial[threadIdx.x / WARP] = found;
        }
        __syncthreads();
        found = partial[threadIdx.x % (blockDim.x / WARP)];
        found.join_lanes(WARPS / 2);
        return found;
    }

    // The smallest that is not 0, as `src/cpu/moments.rs` finds it: one step less if a 0 was met, which is so too where
    // the last block of a row is not full. +inf if there is none.
    DEVICE float smallest(bool is_padded) const {
        if (least > 0 && !is_padded) {
            return float_of(least);
        }
        return below == ~0u ? INFINITE : float_of(below);
    }
};

enum OperandType { NO_OPERAND, F32_OPERAND, F16_OPERAND, BF16_OPERAND };

// A number for each column, such as a weight or a bias; `missing` where there is none.
struct Operand {
    u64 at;
    u32 type;
    float missing;

    // `COUNT` of them from a column on, for rows of type S. More than one only of that type or of f32, where all begins at
    // sixteen bytes.
    template <class S, u32 COUNT>
    DEVICE void load(u32 column, float* values) const {
        if (type == NO_OPERAND) {
            for (u32 i = 0; i < COUNT; i++) {
                values[i] = missing;
            }
        } else if (type == F32_OPERAND) {
            load_as<F32, COUNT>(column, values);
        } else if constexpr (COUNT > 1) {
            load_as<S, COUNT>(column, values);
        } else if (type == F16_OPERAND) {
            load_as<F16, COUNT>(column, values);
        } else {
            load_as<BF16, COUNT>(column, values);
        }
    }

    template <class S, u32 COUNT>
    DEVICE void load_as(u32 column, float* values) const {
        const typename S::Bits* from = (const typename S::Bits*)at + column;
        if constexpr (COUNT == 1) {
            Singles<S>::load(from, values);
        } else {
            for (u32 i = 0; i < COUNT; i += Vectors<S>::COUNT) {
                Vectors<S>::load(from + i, values + i);
            }
        }
    }

    // Whether no number but 0 is smaller than `least`, larger than `most`, or NaN; the same in all threads.
    template <class S, u32 COUNT, u32 WARPS>
    DEVICE bool is_within(u32 cols, float least, float most, Magnitudes* partial) const {
        if (type == NO_OPERAND) {
            return true;
        }
        Magnitudes own = Magnitudes::of_none();
        ROLLED
        for (u32 column = threadIdx.x * COUNT; column < cols; column += blockDim.x * COUNT) {
            float values[COUNT];
            load<S, COUNT>(column, values);
            for (u32 i = 0; i < COUNT; i++) {
                own.meet(values[i]);
            }
        }
        const Magnitudes found = own.over<WARPS>(partial);
        return found.largest <= bits_of(most) && found.smallest(cols % 16 != 0) >= least;
    }
};

// 1 / sqrt(square + eps), or 0 where that is of 0.
DEVICE double scale_of(double square, double eps) {
    const double root = sqrt(square + eps);
    return root == 0.0 ? 0.0 : 1.0 / root;
}

// What the norms of a row are made of.
struct RowMoments {
    double mean, low; // The mean, in two parts.
    double square;    // The mean square about it.

    // What `normalised` adds.
    DEVICE double shift(double scale) const { return -(low * scale); }
};

// (x - mean) scale, with -low scale for the shift.
DEVICE double normalised(float x, double mean, double scale, double shift) {
    return fma((double)x - mean, scale, shift);
}

// The moments of a row as `src/cpu/moments.rs` takes them: in one pass where that loses nothing to speak of. Rows that are not
// centred have 0 for the mean. `again` is the row to be read again.
template <class S, template <class> class By, u32 WARPS, u32 HELD>
DEVICE RowMoments find_moments(bool is_centred, Held<S, By, WARPS, HELD>& row, Held<S, By, WARPS, 0>& again,
                               OrderedSums<Places<S, By, WARPS>, 2>& shared) {
    // The square of the mean is at most so many times as large.
    const double ONE_PASS = 1024.0;
    const double n = (double)row.cols;
    double sums[2];
    sum_ordered(row, shared, sums, [&](u32, float x, double(&sum)[2]) {
        sum[0] += (double)x;
        sum[1] = fma((double)x, (double)x, sum[1]);
    });
    if (!is_centred) {
        return {0.0, 0.0, sums[1] / n};
    }
    const double mean = sums[0] / n;
    double low = fma(-mean, n, sums[0]) / n;
    double square = (sums[1] - sums[0] * mean) / n;
    if (!(mean * mean <= ONE_PASS * square)) {
        sum_ordered(again, shared, sums, [&](u32, float x, double(&sum)[2]) {
            const double d = (double)x - mean;
            sum[0] += d;
            sum[1] = fma(d, d, sum[1]);
        });
        square = sums[1] / n;
        const double summed = sums[0] / n;
        // What rounding alone may make of the mean deviation.
        const double noise = (17.0 + n / 16384.0) * 0x1p-53 * sqrt(square);
        low = fabs(summed - low) > noise ? summed : low;
    }
    return {mean, low, square};
}

// Whether a row is finite and its results are far from the limits of f32, operands apart.
DEVICE bool has_room(double square, double scale) {
    return square < 0x1p120 && scale >= 0x1p-60 && scale < 0x1p60;
}

// Kernels of an op for a type: for rows that registers hold, for longer ones, and for those that do not begin at sixteen
// bytes or do not end there. `src/cuda/norm.rs` chooses.
#define NORM(OP, ARGUMENTS, TYPE, NAME)                                                                                \
    ENTRY_UP_TO(OP##_##NAME##_held, ARGUMENTS, 512, (OP<TYPE, Vectors, 16, 4>(arguments)))                             \
    ENTRY(OP##_##NAME##_long, ARGUMENTS, 1024, (OP<TYPE, Vectors, 32, 0>(arguments)))                                  \
    ENTRY_UP_TO(OP##_##NAME##_any, ARGUMENTS, 256, (OP<TYPE, Singles, 8, 0>(arguments)))
