// Gradients of the rows of norms, as `src/cpu/norm_backward.rs` defines them: in f64, rounded once. Most elements of
// 16-bit types are computed in f32, if an error bound shows that the f32 and the f64 value round to the same result.
#pragma once
#include "tile_row.cuh"

// Computes the gradients of a row, one element at a time.
struct RowGradient {
    double mean, scale, shift;
    double along, mean_h;
    double weight_offset;
    // Bound of the gradient's error, divided by 1 + |n|. It is 0 if the sums are the tiled sums of the definition.
    double spread;

    DEVICE void set_moments(const RowMoments& found, double eps) {
        spread = 0.0;
        mean = found.mean;
        scale = scale_of(found.square, eps);
        shift = found.shift(scale);
    }

    // Sets the sums of h * n and of h. Here n is a normalised element, and h is the element's incoming gradient times
    // its weight.
    DEVICE void set_sums(const Columns& columns, const double (&sums)[2], bool is_centred) {
        const double mean_hn = columns.mean(sums[0]);
        // An infinity in dy makes the whole row NaN, as a NaN does.
        along = fabs(mean_hn) <= 0x1.fffffffffffffp1023 ? -mean_hn : mean_hn - mean_hn;
        mean_h = is_centred ? columns.mean(sums[1]) : 0.0;
    }

    DEVICE double h(float dy, float weight) const { return (double)dy * ((double)weight + weight_offset); }

    DEVICE void add(float x, double of, double (&sum)[2]) const {
        sum[0] += of * normalised(x, mean, scale, shift);
        sum[1] += of;
    }

    // Computes the gradient of an element plus `more`, and returns the rounded sum.
    template <class S>
    DEVICE u32 dx(float x, float dy, float weight, double more = 0.0) const {
        const double n = normalised(x, mean, scale, shift);
        const double v = fma(n, along, h(dy, weight) - mean_h) * scale;
        return narrow_wide<S>(more == 0.0 ? v : v + more);
    }

    // Returns a bound of the gradient's error. It is 0 if the sums are the tiled sums of the definition.
    DEVICE double bound(float x) const { return spread * (1.0 + fabs(normalised(x, mean, scale, shift))); }

    DEVICE void store_moments(u64 to, u64 index) const {
        if (to && seldom_thread() == 0) {
            double* moments = (double*)to + 3 * index;
            moments[0] = mean;
            moments[1] = scale;
            moments[2] = shift;
        }
    }
};

// Gradient of an element as r = q * a + (x * b + c) in f32. Here q = dy * (weight + offset), a is the factor of the
// row, b = `along` * a^2, and c has all terms that are the same for the whole row.
//
// Let u = 2^-24. The relative errors are u for the f32 constants a, b and c, and 2u for q: one rounding of the weight
// plus its offset, and one of the product. Let t = x * b + c. The rounding errors of t, of r, and of r minus or plus
// the bound add up to less than 3.02 u |q a| + u |x b| + 2 u |c| + u |t| + 2 u |r|. Except for roundings, |q a| is at
// most |r| + |t|, and |x b| is at most |t| + |c|. So the sum is at most 5.1 u (|r| + |t|) + 3.1 u |c|. The bound is 5.5
// u (|r| + |t|) plus three terms that are the same for the whole row: 3.5 u |c|; 2^-47 times the magnitudes of the
// terms of c (for the f64 roundings of c and of the gradient itself); and 2^-88 (for numbers that underflow). Underflow
// of q causes an error of at most 2^-150, and the factor a enlarges this error by at most 2^60. Other underflows cause
// errors of at most 2^-149.
//
// The gradient lies strictly between r minus the bound and r plus the bound. If both ends round to the same bits, the
// gradient rounds to these bits too. If q a overflows, one of the ends is NaN.
struct NearGradient {
    float a, b, c, floor, offset;
    // Whether the constants are in the ranges for which the bound holds. False for a row whose dy is 0, because the
    // rounding of a zero is never certain.
    bool serves;

    DEVICE NearGradient(const RowGradient& by) {
        const double slope = by.along * by.scale, factor = slope * by.scale;
        const double of_mean = by.mean * factor, of_shift = by.shift * slope, of_h = by.mean_h * by.scale;
        const double constant = (of_shift - of_mean) - of_h;
        a = (float)by.scale;
        b = (float)factor;
        c = (float)constant;
        // |n| is at most 129, so 1 + |n| is at most 130. The factor 160 leaves a margin for roundings.
        const double of_sums = 160.0 * by.spread;
        const double of_terms = 0x1p-47 * (fabs(of_mean) + fabs(of_shift) + fabs(of_h));
        floor = (float)(0x1.cp-23 * fabs(constant) + of_terms + of_sums + 0x1p-88);
        offset = (float)by.weight_offset;
        // |x| is at most 2^80, since |mean| and the standard deviation are at most 2^60 and |n| is at most 129.
        serves = by.scale >= 0x1p-60 && by.scale < 0x1p60 && fabs(by.mean) < 0x1p60 && fabs(factor) >= 0x1p-120 &&
                 fabs(factor) < 0x1p40 && fabs(of_mean) + fabs(of_h) + fabs(of_shift) < 0x1p100 &&
                 (double)offset == by.weight_offset;
    }

    // Computes the words of the i-th piece. `exact(k)` returns the bits of element k from the computation in f64. With
    // `IS_PLAIN`, the weight's offset is 0 and is not added.
    template <class S, bool IS_PLAIN, class Exact>
    DEVICE void write(const TileRow<S>& x, const TileRow<S>& dy, u32 i, const float* weights,
                      u32 (&words)[TileRow<S>::WORDS], Exact exact) const {
        typedef TileRow<S> Row;
        // Bits in which the rounded upper bound differs from the rounded lower bound.
        u32 differing[Row::WORDS], any = 0;
        UNROLLED
        for (u32 w = 0; w < Row::WORDS; w++) {
            float above[2], below[2];
            for (u32 k = 0; k < Row::IN_WORD; k++) {
                const float weight = weights[w * Row::IN_WORD + k];
                const float q = dy.value(i, w, k) * (IS_PLAIN ? weight : weight + offset);
                const float t = fmaf(x.value(i, w, k), b, c);
                const float r = fmaf(q, a, t);
                const float bound = fmaf(fabsf(r) + fabsf(t), 5.5f * 0x1p-24f, floor);
                above[k] = r + bound;
                below[k] = r - bound;
            }
            words[w] = S::narrow_two(above[0], above[1]);
            differing[w] = words[w] ^ S::narrow_two(below[0], below[1]);
            any |= differing[w];
        }
        if (any != 0) {
            // Bit mask of the elements whose rounding is not certain.
            u32 uncertain = 0;
            UNROLLED
            for (u32 w = 0; w < Row::WORDS; w++) {
                const u32 of_word = ((differing[w] & 0xffff) != 0 ? 1 : 0) | ((differing[w] >> 16) != 0 ? 2 : 0);
                uncertain |= of_word << 2 * w;
            }
            ROLLED
            for (u32 k = 0; k < Row::COUNT; k++) {
                if ((uncertain >> k & 1) != 0) {
                    const u32 at = k % 2 * 16, bits = exact(k) << at;
                    UNROLLED
                    for (u32 w = 0; w < Row::WORDS; w++) {
                        words[w] = w == k / 2 ? (words[w] & ~(0xffffu << at)) | bits : words[w];
                    }
                }
            }
        }
    }
};
