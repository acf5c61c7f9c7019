// Definitions shared by the norms of rows: weights and biases, magnitudes, scales, and rounding of f64 to a storage
// type.
#pragma once
#include "sum.cuh"

// Rounds an f64 once to the type S, to nearest even. Returns the bits of the result.
template <class S>
DEVICE u32 narrow_wide(double v) {
    const float nearest = (float)v;
    if (sizeof(typename S::Bits) == 4) {
        return v != v ? S::NOT_A_NUMBER : bits_of(nearest);
    }
    // Truncates to f32, and sets the last bit unless the truncation was exact. Rounding the result to a narrower type
    // then equals rounding the f64 once.
    const double back = (double)nearest;
    const u32 odd = (bits_of(nearest) - (fabs(back) > fabs(v) ? 1 : 0)) | (back != v ? 1 : 0);
    return v != v ? S::NOT_A_NUMBER : S::narrow(float_of(odd));
}

// Largest and smallest magnitude in a set of numbers, as f32 bits. Compared as integers, the bits have the order of the
// magnitudes, and NaN is the largest.
struct Magnitudes {
    u32 largest, least;
    // One less than the bits of the smallest nonzero magnitude. If all numbers are 0, this is the largest u32.
    u32 below;

    static DEVICE Magnitudes of_none() { return {0, bits_of(INFINITE), ~0u}; }

    DEVICE void update(float v) {
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

    // Reduces over a warp.
    DEVICE Magnitudes over_warp() const {
        // Clears the sign bit of `below`, because the reduction compares signed integers. This bit is set only if all
        // numbers are 0.
        const u32 HIGHEST = 0x7fffffff;
        const u32 found = (u32)smallest_of_warp((int)(below & HIGHEST));
        return {(u32)largest_of_warp((int)largest), (u32)smallest_of_warp((int)least), found == HIGHEST ? ~0u : found};
    }

    // Reduces over all threads of a block of up to `WARPS` warps. In a smaller block, the values of a warp are
    // included several times, which does not change the result.
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

    // Returns the smallest nonzero magnitude, as `src/cpu/moments.rs` finds it. The result is one unit in the last
    // place too small if the row contains a 0, or if its last block is padded. Returns +inf if there is no nonzero
    // number.
    DEVICE float smallest(bool is_padded) const {
        if (least > 0 && !is_padded) {
            return float_of(least);
        }
        return below == ~0u ? INFINITE : float_of(below);
    }
};

enum OperandType { NO_OPERAND, F32_OPERAND, F16_OPERAND, BF16_OPERAND };

// Returns the type of an operand that is stored as S.
template <class S>
DEVICE constexpr u32 operand_type_of() {
    return sizeof(typename S::Bits) == 4 ? F32_OPERAND : S::NOT_A_NUMBER == F16::NOT_A_NUMBER ? F16_OPERAND : BF16_OPERAND;
}

// One value per column, such as a weight or a bias. `missing` replaces an absent operand.
struct Operand {
    u64 at;
    u32 type;
    float missing;

    // Loads `COUNT` values, starting at a column, for rows of type S. If `COUNT` > 1, the operand has type S or f32 and
    // is aligned to 16 bytes.
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
};

// Flags of an operand's magnitudes, in shared memory. The threads of a block set them together.
struct OperandRange {
    u32 is_outside, is_at_limit, has_zero;

    // Checks whether all nonzero magnitudes are from `least` to `most`, and none is NaN. All threads of the block make
    // this call together, and `is_within` returns its result after another barrier.
    template <class S, u32 COUNT, class Values>
    DEVICE void check(const Values& operand, u32 cols, float least, float most) {
        if (threadIdx.x == 0) {
            is_outside = is_at_limit = has_zero = 0;
        }
        __syncthreads();
        Magnitudes own = Magnitudes::of_none();
        ROLLED
        for (u32 column = threadIdx.x * COUNT; column < cols; column += blockDim.x * COUNT) {
            float values[COUNT];
            operand.template load<S, COUNT>(column, values);
            for (u32 i = 0; i < COUNT; i++) {
                own.update(values[i]);
            }
        }
        // `below` is one less than the bits of the smallest nonzero magnitude. If all numbers are 0, `below` is the
        // largest u32.
        const bool has_limit = least > 0.0f;
        const u32 below_limit = bits_of(least) - 1;
        if (own.largest > bits_of(most) || (has_limit && own.below < below_limit)) {
            is_outside = 1;
        }
        if (has_limit && own.below == below_limit) {
            is_at_limit = 1;
        }
        if (own.least == 0) {
            has_zero = 1;
        }
    }

    // If the smallest nonzero magnitude equals `least`, the operand must not have a zero, and its last block must not
    // be padded, as in `src/cpu/moments.rs`.
    DEVICE bool is_within(u32 cols) const { return !is_outside && !(is_at_limit && (has_zero || cols % 16 != 0)); }
};

// Returns 1 / sqrt(square + eps), or 0 if `square` and `eps` are both 0.
DEVICE double scale_of(double square, double eps) {
    const double root = sqrt(square + eps);
    return root == 0.0 ? 0.0 : 1.0 / root;
}

// Moments that define the norm of a row.
struct RowMoments {
    double mean, low; // Mean, as a pair
    double square;    // Mean square of the deviations

    // Returns the correction that `normalised` adds for the mean's low part.
    DEVICE double shift(double scale) const { return -(low * scale); }
};

// Computes (x - mean) * scale + shift, where `shift` is -low * scale.
DEVICE double normalised(float x, double mean, double scale, double shift) {
    return fma((double)x - mean, scale, shift);
}

// Number of columns of a row, by which sums are divided.
struct Columns {
    u32 cols;

    DEVICE double count() const { return (double)cols; }

    DEVICE double mean(double sum) const {
        if ((cols & (cols - 1)) != 0) {
            return sum / count();
        }
        // The reciprocal of a power of two is exact, so the product has the same bits as the quotient. The biased
        // exponents of a power of two and of its reciprocal add up to 2046.
        return sum * __longlong_as_double((2046ll << 52) - __double_as_longlong(count()));
    }
};

// Computes the moments of a row from the sum of its elements and the sum of their squares, as `src/cpu/moments.rs`
// does. If one pass loses precision, `about` computes the sum of the deviations from a mean, and the sum of their
// squares. Without centring, the mean is 0.
template <class About>
DEVICE RowMoments moments_of(bool is_centred, const Columns& columns, double (&sums)[2], About about) {
    // Largest ratio of the mean's square to the variance for which a single pass suffices.
    const double ONE_PASS = 1024.0;
    if (!is_centred) {
        return {0.0, 0.0, columns.mean(sums[1])};
    }
    const double n = columns.count();
    const double mean = columns.mean(sums[0]);
    double low = columns.mean(fma(-mean, n, sums[0]));
    double square = columns.mean(sums[1] - sums[0] * mean);
    if (!(mean * mean <= ONE_PASS * square)) {
        about(mean, sums);
        square = columns.mean(sums[1]);
        const double summed = columns.mean(sums[0]);
        // Largest difference between `summed` and `low` that rounding alone may cause.
        const double noise = (17.0 + n / 16384.0) * 0x1p-53 * sqrt(square);
        low = fabs(summed - low) > noise ? summed : low;
    }
    return {mean, low, square};
}

// Adds an element and its square to two sums.
DEVICE void add_powers(double x, double (&sum)[2]) {
    sum[0] += x;
    sum[1] = fma(x, x, sum[1]);
}

// Returns whether a row is finite and its normalised values are far from the limits of f32. The normalised values are
// those before weights and biases are applied.
DEVICE bool has_room(double square, double scale) {
    return square < 0x1p120 && scale >= 0x1p-60 && scale < 0x1p60;
}
