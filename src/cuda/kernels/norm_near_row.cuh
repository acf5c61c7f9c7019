// Gradients of rows of 16-bit types in registers. One pass computes all sums of a row.
//
// The gradient of an element depends on the tiled sum of h * n, whose terms need the row's mean m and factor a. This
// pass sums h * x and h instead, together with the powers of x. The sum of h * n is close to a * (sum(h * x) - m *
// sum(h)). The difference seldom changes a gradient of a 16-bit type. If the bound below shows that it might change
// one, the block computes the row again from the tiled sum of h * n.
//
// Let u = 2^-53, let L be the largest |h|, and let R be the root of the mean square of x. The weight has the rows' type
// and no offset, so h has at most 22 bits and is exact in f32, unless it underflows. Underflow changes h by at most
// 2^-150, so 2^-97 is added to L. The row has at most 16,384 columns, so the error of a tiled sum is at most 16 u times
// the sum of the terms' magnitudes. The following sums are divided by the number of columns.
//
// - A term of the tiled sum of h * n has an error of at most 3.1 u |h| (|x - m| + |low part of m|) a, and the root of
//   the mean of ((x - m) a)^2 is at most 1. So the tiled sum differs from the exact one by less than 20 u L.
// - The sums of h * x and of h differ from the exact ones by 16 u L R and 16 u L. Combining them takes three roundings
//   of numbers below 2.1 L R. Since |m| is at most R, the result differs from the exact one by less than 40 u L a R.
// - The gradient also depends on the mean of h. The means of this pass and the tiled sums differ by less than 33 u L.
// - Rounding in f64 while computing the gradient adds less than 7 u (2 L + 1.1 |n| L) to the difference.
//
// So the gradient of this pass and the gradient of the tiled sums differ by less than a u L (48 + |n| (30 + 40 a R)).
// Without centring, a R is at most 1. A centred row whose m^2 exceeds 1024 variances is not computed here, so a R is at
// most 33. The bound is a u L (1 + |n|) times 2^7, or times 2^11 for centred rows. |n| is at most 129, since the sum of
// n^2 is at most the number of columns.
#pragma once
#include "norm_near.cuh"

// Largest number of threads that hold a row.
const u32 NORM_BACKWARD_THREADS = 512;

// Shared memory of a block that holds rows in registers.
template <class S>
struct NormBackwardShared {
    TileSums<S, 2, NORM_BACKWARD_THREADS> sums;
    TileSums<S, 4, NORM_BACKWARD_THREADS> sums_of_centred;
    // Largest |h| of each warp, as f32 bits, for both sets of sums.
    u32 largest[2][NORM_BACKWARD_THREADS / WARP];
    // Each warp has a copy of the row's factors for rarely computed elements, because few registers are left.
    RowGradient of_warps[NORM_BACKWARD_THREADS / WARP];
    // Index of the last row that has an element whose rounding is not certain.
    u64 uncertain_row;
};

// Computes the gradients of a row. The weight must be absent, or have the rows' type and no offset. Returns whether the
// gradients are correct. If not, the row must be computed again. `turn` is the index of the set in `shared_sums`.
template <class S, bool IS_CENTRED, u32 N>
DEVICE bool near_row(const NormBackwardArguments& a, NormBackwardShared<S>& shared,
                     TileSums<S, N, NORM_BACKWARD_THREADS>& shared_sums, const Operand& weight, u64 index, u32& turn) {
    typedef typename S::Bits Bits;
    typedef TileRow<S> Row;
    static_assert(sizeof(Bits) == 2 && N == (IS_CENTRED ? 4 : 2), "a centred row has two more sums");
    const Columns columns = {a.cols};
    // Few registers are left, so addresses are computed where they are needed.
    const auto own = [&](u64 of) { return recomputed(of) * a.cols + Row::first(); };
    // dy is read twice, the second time from a cache, because few registers are left between the two uses.
    Row x, of_dy;
    x.load((const Bits*)a.x + own(index), a.cols);
    const Bits* const dy = (const Bits*)a.dy + own(index);
    if (!IS_CENTRED) {
        of_dy.load(dy, a.cols);
    }
    if (index + gridDim.x < a.rows) {
        const u64 later = own(index + gridDim.x);
        Row::prefetch((const Bits*)a.x + later, a.cols);
        Row::prefetch((const Bits*)a.dy + later, a.cols);
    }
    const TileOperand<S, true> of_weights(weight);
    float largest = 0.0f;
    shared_sums.store(turn, [&](u32 i, u32 w, double(*sums)[N]) {
        const bool is_there = Row::is_there(i, a.cols);
        const u32 offset = Row::offset(i) + w * Row::IN_WORD;
        const u32 word = IS_CENTRED ? load_if(is_there, dy + offset, 0) : of_dy.words[i][w];
        float weights[Row::IN_WORD];
        of_weights.of_word(offset, is_there, weights);
        for (u32 k = 0; k < Row::IN_WORD; k++) {
            const float product = (k == 0 ? S::low_of(word) : S::high_of(word)) * weights[k];
            const double of_x = (double)x.value(i, w, k), h = (double)product;
            largest = fmaxf(largest, fabsf(product));
            sums[k][0] = fma(of_x, of_x, sums[k][0]);
            sums[k][1] = fma(of_x, h, sums[k][1]);
            if constexpr (IS_CENTRED) {
                sums[k][2] += of_x;
                sums[k][3] += h;
            }
        }
    });
    const u32 of_warp = (u32)largest_of_warp((int)bits_of(largest)), warps = recomputed(blockDim.x) / WARP;
    if (seldom_thread() % WARP == 0) {
        shared.largest[turn][seldom_thread() / WARP] = of_warp;
    }
    const u32* const of_block = &shared.largest[turn][seldom_thread() & (warps - 1)];
    double sums[N];
    shared_sums.totals(turn, sums);
    x.forget_elements();
    const double most = (double)float_of((u32)largest_of_warp((int)*of_block)) + 0x1p-97;
    RowGradient gradient;
    gradient.weight_offset = 0.0;
    double of_gradient[2];
    if constexpr (IS_CENTRED) {
        double powers[2] = {sums[2], sums[0]};
        bool is_one_pass = true;
        const RowMoments found = moments_of(true, columns, powers, [&](double, double(&)[2]) { is_one_pass = false; });
        if (!is_one_pass) {
            return false;
        }
        gradient.set_moments(found, a.eps);
        of_gradient[0] = fma(-found.low, sums[3], fma(-found.mean, sums[3], sums[1])) * gradient.scale;
        of_gradient[1] = sums[3];
    } else {
        double powers[2] = {0.0, sums[0]};
        gradient.set_moments(moments_of(false, columns, powers, [](double, double(&)[2]) {}), a.eps);
        of_gradient[0] = sums[1] * gradient.scale;
        of_gradient[1] = 0.0;
    }
    gradient.spread = gradient.scale * most * (IS_CENTRED ? 0x1p-42 : 0x1p-46);
    gradient.set_sums(columns, of_gradient, IS_CENTRED);
    gradient.store_moments(a.moments, index);
    const NearGradient near(gradient);
    if (!near.serves) {
        return false;
    }
    RowGradient& copy = shared.of_warps[seldom_thread() / WARP];
    __syncwarp();
    if (seldom_thread() % WARP == 0) {
        copy = gradient;
    }
    __syncwarp();
    Bits* to = (Bits*)a.dx + own(index);
    Row::each(a.cols, [&](u32 i, u32 offset) {
        float weights[Row::COUNT];
        u32 words[Row::WORDS];
        of_weights.values(offset, weights);
        of_dy.load(i, (const Bits*)a.dy + own(index) + offset);
        near.write<S, true>(x, of_dy, i, weights, words, [&](u32 k) {
            float of_weight[1];
            weight.load<S, 1>(Row::first() + offset + k, of_weight);
            const u64 at = own(index) + offset + k;
            const float element = S::widen(((const Bits*)a.x)[at]), of_result = S::widen(((const Bits*)a.dy)[at]);
            const double bound = copy.bound(element);
            const u32 bits = copy.dx<S>(element, of_result, of_weight[0], bound);
            if (bits != copy.dx<S>(element, of_result, of_weight[0], -bound)) {
                shared.uncertain_row = index;
            }
            return bits;
        });
        Vectors<S>::store_words(to + offset, {words[0], words[1], words[2], words[3]});
    });
    __syncthreads();
    return shared.uncertain_row != index;
}
