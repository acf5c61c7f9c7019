// Softmax of rows with masks, scale and softcap, as `src/ops/softmax.rs` defines it. Each block processes one row, as
// in `softmax.cu`. Logits are products of score and scale, plus at most one bias. If the row fits in registers, its
// logits stay in registers. Otherwise, each pass reads the row again. In rows that need more precision, logits are
// computed in f64, one element at a time.
#include "masked_row.cuh"

template <class S, template <class> class By, u32 WARPS, u32 HELD, bool HAS_BIAS>
struct SoftmaxMasked {
    typedef typename S::Bits Bits;
    typedef MaskedRow<S, By, WARPS, HELD, HAS_BIAS> Row;
    typedef BiasedMax<S, By, WARPS, HELD> Biased;
    static const u32 COUNT = By<S>::COUNT;

    struct Shared {
        int keys[WARPS];
        typename Biased::Terms terms[HAS_BIAS ? WARPS : 1];
        WideExtremes extremes[WARPS];
        Parts units[WARPS];
        Tables tables;
    };

    template <class Logits>
    static DEVICE void divide(Row& row, const Logits& logits, Bits* to, Parts* partial) {
        const Units units = sum_exps<WARPS, HELD == 0>(row.cols, partial, [&](auto& sum) {
            const auto add = [&](u32 i, u32, const Piece<By<S>>& x, const float* biases) {
                UNROLLED
                for (u32 e = 0; e < COUNT; e++) {
                    row.values[i][e] = logits.power(x.at(e), HAS_BIAS ? biases[e] : 0.0f);
                    sum.add(row.values[i][e]);
                }
                if (HELD == 0 && sum.count >= 256) {
                    sum.collect();
                }
            };
            row.template each_or<(HELD > 0)>(add, [&](u32 i, u32) {
                UNROLLED
                for (u32 e = 0; e < COUNT; e++) {
                    row.values[i][e] = 0.0f;
                    // Adds terms of 0, so that the number of terms is known at compile time.
                    sum.add(0.0f);
                }
            });
        });
        float high, low;
        reciprocal(units, row.cols, high, low);
        const auto write = [&](u32 column, const float* powers) {
            float y[COUNT];
            UNROLLED
            for (u32 e = 0; e < COUNT; e++) {
                y[e] = fmaf(powers[e], high, powers[e] * low);
            }
            if (column < row.cols) {
                By<S>::store_rounded(to + column, y);
            }
        };
        if (HELD > 0) {
            UNROLLED
            for (u32 i = 0; i < Row::AT_ONCE; i++) {
                write(Row::At::column(i), row.values[i]);
            }
            return;
        }
        const auto write_again = [&](u32, u32 column, const Piece<By<S>>& x, const float* biases) {
            float powers[COUNT];
            UNROLLED
            for (u32 e = 0; e < COUNT; e++) {
                powers[e] = logits.power(x.at(e), HAS_BIAS ? biases[e] : 0.0f);
            }
            write(column, powers);
        };
        row.template each_or<true>(write_again, [&](u32, u32 column) {
            const u32 zeros[COUNT] = {};
            if (column < row.cols) {
                By<S>::store(to + column, zeros);
            }
        });
    }

    // Computes a row without f64, and writes the results. Returns false if the row needs f64.
    static DEVICE bool write(const MaskedArguments& a, u32 index, Row& row, Bits* to, Shared& shared) {
        const Products products(a.scale);
        if constexpr (HAS_BIAS) {
            const Pair max = Biased::find(row, products, shared.keys, shared.terms);
            const bool is_small = fabsf(max.high) < 256.0f;
            if (is_small) {
                divide(row, BiasedLogits(products, max), to, shared.units);
            }
            return is_small;
        } else {
            const float score = row.largest(shared.keys);
            const Pair max = products.of(score);
            if (!(fabsf(score) < INFINITE)) {
                const bool is_masked = score == -INFINITE;
                const u32 masked = a.uniform ? S::narrow((float)(1.0 / (double)a.cols)) : 0;
                row.fill(to, is_masked ? masked : S::NOT_A_NUMBER);
                count_guards(a.guards, index, score != score, is_masked);
            } else if (a.logits == PLAIN || (a.logits == EXACT && fabsf(max.high) < 256.0f)) {
                divide(row, ExactLogits(products.scale, max.high), to, shared.units);
            } else if (fabsf(max.high) < 256.0f) {
                divide(row, ProductLogits(products, max), to, shared.units);
            } else {
                return false;
            }
            return true;
        }
    }

    static DEVICE void divide_wide(WideRow<S, WARPS, HAS_BIAS>& row, Bits* to, Shared& shared) {
        row.prepare(shared.tables);
        __syncthreads();
        const Units units = row.units(shared.tables, shared.units);
        float high, low;
        reciprocal(units, row.cols, high, low);
        row.held.each([&](u32 column, const float* x) {
            const float e = row.power(shared.tables, row.logit(column, *x));
            to[row.first + column] = (Bits)S::narrow(fmaf(e, high, e * low));
        });
    }

    static DEVICE void write_wide(const MaskedArguments& a, u32 index, Shared& shared) {
        const RowMask<HAS_BIAS> mask(a, index);
        Bits* to = (Bits*)a.y + (u64)index * a.cols;
        // A call with a softcap always runs a kernel that reads one element at a time.
        WideRow<S, WARPS, HAS_BIAS> wide(a, COUNT == 1 ? a.softcap : 0.0, index, mask, mask.low, mask.high);
        wide.find(shared.extremes);
        u32 beside = 0, low = mask.low, high = mask.high;
        if (wide.found.is_live()) {
            divide_wide(wide, to, shared);
        } else {
            const u32 masked = a.uniform ? S::narrow((float)(1.0 / (double)a.cols)) : 0;
            beside = wide.found.is_masked() ? masked : S::NOT_A_NUMBER;
            low = high = 0;
            count_guards(a.guards, index, wide.found.nan, wide.found.is_masked());
        }
        fill_beside<S>(to, a.cols, low, high, beside);
    }

    static DEVICE void row(const MaskedArguments& a, u32 index, Shared& shared) {
        if (COUNT > 1 || a.logits != WIDE) {
            const RowMask<HAS_BIAS> mask(a, index);
            Row row((const Bits*)a.x + (u64)index * a.cols, a.cols, mask);
            if (write(a, index, row, (Bits*)a.y + (u64)index * a.cols, shared)) {
                return;
            }
        }
        write_wide(a, seldom(index), shared);
    }
};

template <class S, template <class> class By, u32 WARPS, u32 HELD, bool HAS_BIAS>
DEVICE void softmax_masked(const MaskedArguments& a) {
    __shared__ typename SoftmaxMasked<S, By, WARPS, HELD, HAS_BIAS>::Shared shared;
    for (u32 index = blockIdx.x; index < a.rows; index += gridDim.x) {
        SoftmaxMasked<S, By, WARPS, HELD, HAS_BIAS>::row(a, index, shared);
        __syncthreads();
    }
}

#define SOFTMAX_MASKED(TYPE, NAME)                                                                                     \
    ENTRY_AT_MOST(softmax_masked_##NAME##_8x4, MaskedArguments, 256, (softmax_masked<TYPE, Vectors, 8, 4, false>(arguments)))   \
    ENTRY_AT_MOST(softmax_masked_##NAME##_16x8, MaskedArguments, 512, (softmax_masked<TYPE, Vectors, 16, 8, false>(arguments))) \
    ENTRY(softmax_masked_##NAME##_long, MaskedArguments, 512, (softmax_masked<TYPE, Vectors, 16, 0, false>(arguments)))      \
    ENTRY(softmax_masked_##NAME##_any, MaskedArguments, 256, (softmax_masked<TYPE, Singles, 8, 0, false>(arguments)))         \
    ENTRY_AT_MOST(softmax_masked_##NAME##_bias_16x4, MaskedArguments, 512, (softmax_masked<TYPE, Vectors, 16, 4, true>(arguments))) \
    ENTRY(softmax_masked_##NAME##_bias_long, MaskedArguments, 512, (softmax_masked<TYPE, Vectors, 16, 0, true>(arguments)))  \
    ENTRY(softmax_masked_##NAME##_bias_any, MaskedArguments, 256, (softmax_masked<TYPE, Singles, 8, 0, true>(arguments)))

SOFTMAX_MASKED(F32, f32)
SOFTMAX_MASKED(F16, f16)
SOFTMAX_MASKED(BF16, bf16)
