// Gradients of RMSNorm and LayerNorm, as `src/ops/rms_norm_backward.rs` and `src/ops/layer_norm_backward.rs` define
// them. They are computed in f64 and rounded once.
//
// Let n be the normalised row, r its factor, and h = dy * weight. Then dx = r * (h - mean(h) - n * mean(h * n)). If
// rows are not centred, the term mean(h) is omitted. Each block processes one row, and stores the row's mean and r. The
// gradients of weights and biases are tiled sums over rows.
#include "norm_backward.cuh"
#include "norm_columns.cuh"
#include "norm_gradient_row.cuh"
#include "norm_near_row.cuh"
#include "tile_row.cuh"

// Computes the gradients of rows of any length and at any address.
template <class S>
DEVICE void norm_backward_any(const NormBackwardArguments& a) {
    typedef typename S::Bits Bits;
    __shared__ RowSums<2> shared;
    const Operand weight = {a.weight, a.weight_type, 1.0f};
    const Columns columns = {a.cols};
    for (u64 index = blockIdx.x; index < a.rows; index += gridDim.x) {
        const u64 start = index * a.cols, later = (index + gridDim.x) * a.cols;
        GradientRow<S> row((const Bits*)a.x + start, (const Bits*)a.dy + start, a.cols, weight);
        // After this barrier, all threads have read the previous row.
        __syncthreads();
        row.x.copy(0, dynamic_granules());
        row.dy.copy(row.x.count, dynamic_granules());
        await_row();
        if (index + gridDim.x < a.rows) {
            row.x.prefetch((const Bits*)a.x + later);
            row.dy.prefetch((const Bits*)a.dy + later);
        }
        RowGradient gradient;
        gradient.weight_offset = a.weight_offset;
        gradient.set_moments(find_moments(a.is_centred, columns, row.x, shared), a.eps);
        gradient.store_moments(a.moments, index);
        double sums[2];
        row.sum(gradient, shared, sums);
        gradient.set_sums(columns, sums, a.is_centred);
        row.write(gradient, (Bits*)a.dx + recomputed(index) * a.cols);
    }
}

// Computes the gradients of a row that fits in registers. With `IS_PLAIN`, the weight has the rows' type or is absent,
// and its offset is 0. `turn` is the index of the set of shared sums to use.
template <class S, bool IS_PLAIN>
DEVICE void norm_backward_row(const NormBackwardArguments& a, NormBackwardShared<S>& shared, const Operand& weight,
                              u64 index, u32& turn) {
    typedef typename S::Bits Bits;
    typedef TileRow<S> Row;
    const bool IS_F32 = sizeof(Bits) == 4;
    const Columns columns = {a.cols};
    // Few registers are left, so addresses are computed where they are needed.
    const auto own = [&]() { return recomputed(index) * a.cols + Row::first(); };
    Row x;
    x.load((const Bits*)a.x + own(), a.cols);
    RowGradient gradient;
    gradient.weight_offset = a.weight_offset;
    double sums[2];
    find_sums(x, shared.sums, turn, sums);
    const RowMoments found = moments_of(a.is_centred, columns, sums, [&](double mean, double(&sums)[2]) {
        find_sums_about(x, a.cols, mean, shared.sums, turn, sums);
    });
    gradient.set_moments(found, a.eps);
    gradient.store_moments(a.moments, index);
    const Bits* dy = (const Bits*)a.dy + own();
    const TileOperand<S, IS_PLAIN> weights_of_sums(weight);
    shared.sums.store(turn, [&](u32 i, u32 w, double(*sums)[2]) {
        // Behind the end of the row, dy is 0 and the weight is finite, so the terms are 0 or NaN. The terms are NaN
        // only if the row's factors are NaN, and then all terms of the row are NaN.
        const bool is_there = Row::is_there(i, a.cols);
        const u32 offset = Row::offset(i) + w * Row::IN_WORD;
        const u32 word = load_if(is_there, dy + offset, 0);
        float weights[Row::IN_WORD];
        weights_of_sums.of_word(offset, is_there, weights);
        for (u32 k = 0; k < Row::IN_WORD; k++) {
            const float dy = k == 0 ? S::low_of(word) : S::high_of(word);
            // With `IS_PLAIN`, the offset is 0 and is not added. Adding the offset would only change the sign of zeros,
            // and the sums do not depend on this sign.
            const double h = IS_PLAIN ? (double)dy * (double)weights[k] : gradient.h(dy, weights[k]);
            gradient.add(x.value(i, w, k), h, sums[k]);
        }
    });
    shared.sums.totals(turn, sums);
    gradient.set_sums(columns, sums, a.is_centred);
    x.forget_elements();
    const NearGradient near(gradient);
    RowGradient& of_warp = shared.of_warps[seldom_thread() / WARP];
    if (!IS_F32) {
        __syncwarp();
        if (seldom_thread() % WARP == 0) {
            of_warp = gradient;
        }
        __syncwarp();
    }
    if (IS_F32 || near.serves) {
        const u64 first = own();
        dy = (const Bits*)a.dy + first;
        Bits* to = (Bits*)a.dx + first;
        const TileOperand<S, IS_PLAIN> of_weights(weight);
        Row::each(a.cols, [&](u32 i, u32 offset) {
            float weights[Row::COUNT];
            u32 words[Row::WORDS];
            of_weights.values(offset, weights);
            Row of_dy;
            of_dy.load(i, dy + offset);
            if constexpr (IS_F32) {
                for (u32 w = 0; w < Row::WORDS; w++) {
                    words[w] = gradient.dx<S>(x.value(i, w), of_dy.value(i, w), weights[w]);
                }
            } else {
                near.write<S, false>(x, of_dy, i, weights, words, [&](u32 k) {
                    float of_weight[1];
                    weight.load<S, 1>(Row::first() + offset + k, of_weight);
                    const u64 at = own() + offset + k;
                    const float of_x = S::widen(((const Bits*)a.x)[at]), of_dy = S::widen(((const Bits*)a.dy)[at]);
                    return of_warp.dx<S>(of_x, of_dy, of_weight[0]);
                });
            }
            Vectors<S>::store_words(to + offset, {words[0], words[1], words[2], words[3]});
        });
    } else {
        // The computation in f64 needs the registers that hold the row, so the row is read again.
        const u64 start = index * a.cols;
        const GradientRow<S> again((const Bits*)a.x + start, (const Bits*)a.dy + start, a.cols, weight);
        again.write_wide(of_warp, (Bits*)a.dx + start);
    }
}

template <class S>
DEVICE void norm_backward_held(const NormBackwardArguments& a) {
    __shared__ NormBackwardShared<S> shared;
    const Operand weight = {a.weight, a.weight_type, 1.0f};
    const bool is_plain = TileOperand<S, true>::serves(weight) && a.weight_offset == 0.0;
    u32 turn = 0;
    if constexpr (sizeof(typename S::Bits) == 4) {
        for (u64 index = blockIdx.x; index < a.rows; index += gridDim.x) {
            if (is_plain) {
                norm_backward_row<S, true>(a, shared, weight, index, turn);
            } else {
                norm_backward_row<S, false>(a, shared, weight, index, turn);
            }
        }
    } else {
        if (threadIdx.x == 0) {
            shared.uncertain_row = ~0ull;
        }
        for (u64 index = blockIdx.x; index < a.rows; index += gridDim.x) {
            bool is_done = false;
            if (is_plain && a.is_centred) {
                is_done = near_row<S, true>(a, shared, shared.sums_of_centred, weight, index, turn);
            } else if (is_plain) {
                is_done = near_row<S, false>(a, shared, shared.sums, weight, index, turn);
            }
            if (!is_done) {
                norm_backward_row<S, false>(a, shared, weight, index, turn);
            }
        }
    }
}

NORM(norm_backward, NormBackwardArguments, 640, 512, F32, f32)
NORM(norm_backward, NormBackwardArguments, 640, 512, F16, f16)
NORM(norm_backward, NormBackwardArguments, 640, 512, BF16, bf16)
ENTRY_UP_TO(norm_columns_f32, NormBackwardArguments, COLUMN_THREADS, (norm_columns<F32>(arguments)))
ENTRY_UP_TO(norm_columns_f16, NormBackwardArguments, COLUMN_THREADS, (norm_columns<F16>(arguments)))
ENTRY_UP_TO(norm_columns_bf16, NormBackwardArguments, COLUMN_THREADS, (norm_columns<BF16>(arguments)))
ENTRY(norm_tiles, NormBackwardArguments, COLUMN_THREADS, sum_tiles(arguments))
