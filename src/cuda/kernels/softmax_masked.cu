// Softmax of rows with masks, scale and softcap, as `src/ops/softmax.rs` defines it. Each block processes one row, as
// in `softmax.cu`. Logits are float-float pairs, in registers if the row fits. In rows that need more precision, logits
// are computed in f64, one element at a time.
#include "masked.cuh"

template <class S, template <class> class By, u32 WARPS, u32 HELD, bool HAS_BIAS>
struct SoftmaxMasked {
    typedef typename S::Bits Bits;
    typedef PairRow<S, By, WARPS, HELD, HAS_BIAS> Pairs;
    static const u32 COUNT = By<S>::COUNT;

    struct Shared {
        typename Pairs::RowMax found[WARPS];
        typename Pairs::Terms terms[WARPS];
        WideExtremes extremes[WARPS];
        Parts units[WARPS];
        Tables tables;
    };

    static DEVICE void divide(Pairs& row, Bits* to, Shared& shared) {
        const SoftmaxExp exp(row.max.high, -INFINITE);
        exp.fill(shared.tables, row.max.low);
        __syncthreads();
        const Units units = sum_exps<WARPS, HELD == 0>(row.cols, shared.units, [&](auto& sum) {
            row.held.each([&](u32 column, float* x) {
                for (u32 i = 0; i < COUNT; i++) {
                    x[i] = row.power(exp, shared.tables, column + i, x[i]);
                    sum.add(x[i]);
                }
                if (HELD == 0 && sum.count >= 256) {
                    sum.collect();
                }
            });
        });
        float high, low;
        reciprocal(units, row.cols, high, low);
        row.held.each([&](u32 column, const float* x) {
            u32 bits[COUNT];
            for (u32 i = 0; i < COUNT; i++) {
                const float e = HELD > 0 ? x[i] : row.power(exp, shared.tables, column + i, x[i]);
                bits[i] = S::narrow(fmaf(e, high, e * low));
            }
            By<S>::store(to + column, bits);
        });
    }

    static DEVICE void divide_wide(WideRow<S, Rolled, WARPS, 0, HAS_BIAS>& row, Bits* to, Shared& shared) {
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

    static DEVICE void row(const MaskedArguments& a, u32 index, Shared& shared) {
        const Bits* from = (const Bits*)a.x + (u64)index * a.cols;
        Bits* to = (Bits*)a.y + (u64)index * a.cols;
        const RowMask<HAS_BIAS> mask(a, index);
        if (a.pairs) {
            Held<S, By, WARPS, HELD> held(from, a.cols);
            Pairs pairs(a, held, mask);
            if (pairs.find(shared.found, shared.terms)) {
                divide(pairs, to, shared);
                return;
            }
        }
        WideRow<S, Rolled, WARPS, 0, HAS_BIAS> wide(a, index, mask);
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
        fill_beside<S, WARPS>(to, a.cols, low, high, beside);
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
    ENTRY(softmax_masked_##NAME##_8x4, MaskedArguments, 256, (softmax_masked<TYPE, Vectors, 8, 4, false>(arguments)))         \
    ENTRY(softmax_masked_##NAME##_any, MaskedArguments, 256, (softmax_masked<TYPE, Singles, 8, 0, true>(arguments)))

SOFTMAX_MASKED(F32, f32)
SOFTMAX_MASKED(F16, f16)
SOFTMAX_MASKED(BF16, bf16)
