// Softmax of rows, as `src/ops/softmax.rs` defines it.
//
// A block has a row, which stays in its registers: one read, one write. Longer rows, and those that do not begin at
// multiples of sixteen bytes, are read three times, of which two come out of the cache. The largest value and the integer
// sum have no order, so that the bits do not depend on the number of threads.
#include "scores.cuh"

template <class S, template <class> class By, u32 WARPS, u32 HELD>
struct SoftmaxRow {
    typedef typename S::Bits Bits;
    static const u32 COUNT = By<S>::COUNT;
    Held<S, By, WARPS, HELD> held;
    Bits* to;
    const u32 cols;

    DEVICE SoftmaxRow(const ScoresArguments& a, u64 row)
        : held((const Bits*)a.x + row * a.cols, a.cols), to((Bits*)a.y + row * a.cols), cols(a.cols) {}

    template <bool NARROW>
    DEVICE void divide(const SoftmaxExp& exp, const Tables& tables, u64* partial) {
        UnitSum sum(cols);
        held.each_at_once([&](u32, float* x) {
            for (u32 i = 0; i < COUNT; i++) {
                x[i] = exp.power<NARROW>(tables, x[i]);
                sum.add(x[i]);
            }
            if (HELD == 0 && sum.count >= 256) {
                sum.collect();
            }
        });
        sum.collect();
        const u64 units = total<WARPS>(sum.units, partial);
        float high, low;
        reciprocal(units, cols, high, low);
        held.each_at_once([&](u32 column, const float* x) {
            float y[COUNT];
            for (u32 i = 0; i < COUNT; i++) {
                const float e = HELD > 0 ? x[i] : exp.power<NARROW>(tables, x[i]);
                y[i] = fmaf(e, high, e * low);
            }
            By<S>::store_rounded(to + column, y);
        });
    }

    DEVICE void fill(u32 with) {
        u32 bits[COUNT];
        for (u32 i = 0; i < COUNT; i++) {
            bits[i] = with;
        }
        held.each([&](u32 column, const float*) { By<S>::store(to + column, bits); });
    }
};

template <class S, template <class> class By, u32 WARPS, u32 HELD>
DEVICE void softmax(const ScoresArguments& a) {
    __shared__ Extremes partial[WARPS];
    __shared__ u64 sums[WARPS];
    __shared__ Tables tables;
    for (u64 index = blockIdx.x; index < a.rows; index += gridDim.x) {
        SoftmaxRow<S, By, WARPS, HELD> row(a, index);
        const Extremes found = extremes(row.held, partial);
        if (!found.is_live()) {
            const u32 masked = a.uniform ? S::narrow((float)(1.0 / (double)a.cols)) : 0;
            row.fill(found.is_masked() ? masked : S::NOT_A_NUMBER);
            meet(a.met, index, found.is_nan(), found.is_masked());
        } else {
            const SoftmaxExp exp(found.max, found.min);
            exp.fill(tables);
            __syncthreads();
            if (exp.narrow) {
                row.template divide<true>(exp, tables, sums);
            } else {
                // Such rows are few: no registers for them.
                SoftmaxRow<S, By, WARPS, 0>(a, index).template divide<false>(exp, tables, sums);
            }
        }
        __syncthreads();
    }
}

#define SOFTMAX(TYPE, NAME)                                                                                            \
    ENTRY(softmax_##NAME##_1x4, ScoresArguments, 32, (softmax<TYPE, Vectors, 1, 4>(arguments)))                        \
    ENTRY_UP_TO(softmax_##NAME##_8x4, ScoresArguments, 256, (softmax<TYPE, Vectors, 8, 4>(arguments)))                 \
    ENTRY(softmax_##NAME##_16x8, ScoresArguments, 512, (softmax<TYPE, Vectors, 16, 8>(arguments)))                     \
    ENTRY(softmax_##NAME##_long, ScoresArguments, 1024, (softmax<TYPE, Vectors, 32, 0>(arguments)))                    \
    ENTRY(softmax_##NAME##_any, ScoresArguments, 256, (softmax<TYPE, Singles, 8, 0>(arguments)))

SOFTMAX(F32, f32)
SOFTMAX(F16, f16)
SOFTMAX(BF16, bf16)
