// Softmax of rows, as `src/ops/softmax.rs` defines it.
//
// Each block holds one row in registers, so most rows are read once and written once. Longer rows, and rows not aligned
// to 16 bytes, are read three times, twice from the cache. The maximum and the integer sum are exact in any order, so
// the bits do not depend on the number of threads.
#include "scores.cuh"

template <u32 WARPS>
struct SoftmaxShared {
    Keys extremes[WARPS];
    Parts units[WARPS];
    Tables tables;
};

template <class S, template <class> class By>
DEVICE void store(typename S::Bits* to, const float* e, float high, float low) {
    float y[By<S>::COUNT];
    for (u32 i = 0; i < By<S>::COUNT; i++) {
        y[i] = fmaf(e[i], high, e[i] * low);
    }
    By<S>::store_rounded(to, y);
}

// Computes the softmax of a narrow row in registers (see `SoftmaxExp::is_narrow`). The exponentials replace the values
// in the registers.
template <class S, u32 WARPS, u32 HELD>
DEVICE void divide(RegisterRow<S, WARPS, HELD>& row, const SoftmaxExp& exp, typename S::Bits* to, Parts* partial) {
    // Maximum length of a row in registers. It is passed instead of the length, because sums over all rows up to this
    // length have the same unit.
    const u32 MOST = WARPS * WARP * HELD * row.COUNT;
    const LaneTables tables = exp.lane_tables();
    UnitSum sum;
    row.each([&](bool is_there, u32 piece) {
        float* x = row.widen(piece);
        for (u32 i = 0; i < row.COUNT; i++) {
            const float e = exp.power<true>(tables, x[i]);
            x[i] = is_there ? e : 0.0f;
            sum.add(x[i]);
        }
    });
    sum.collect();
    float high, low;
    reciprocal({total<WARPS>(sum.units, partial).whole(), 0}, MOST, high, low);
    typename S::Bits* own = to + row.first();
    row.each([&](bool is_there, u32 piece) {
        if (is_there) {
            store<S, Vectors>(own + row.offset(piece), row.values[piece], high, low);
        }
    });
}

// Computes the softmax of any row whose maximum is finite. Each pass reads the row again. `NARROW` must be false for a
// long row.
template <bool NARROW, bool MAY_BE_LONG, class S, template <class> class By, u32 WARPS>
DEVICE void divide_again(Held<S, By, WARPS, 0>& row, const SoftmaxExp& exp, typename S::Bits* to,
                         SoftmaxShared<WARPS>& shared) {
    const u32 COUNT = By<S>::COUNT;
    const Units units = sum_exps<WARPS, MAY_BE_LONG>(row.cols, shared.units, [&](auto& sum) {
        row.each([&](u32, const float* x) {
            for (u32 i = 0; i < COUNT; i++) {
                sum.add(exp.power<NARROW>(shared.tables, x[i]));
            }
            if (sum.count >= 256) {
                sum.collect();
            }
        });
    });
    float high, low;
    reciprocal(units, row.cols, high, low);
    row.each([&](u32 column, const float* x) {
        float e[COUNT];
        for (u32 i = 0; i < COUNT; i++) {
            e[i] = exp.power<NARROW>(shared.tables, x[i]);
        }
        store<S, By>(to + column, e, high, low);
    });
}

// Handles rows that are not in registers, have no finite maximum, or have a wide range of values. Few of these rows fit
// in registers. All of them are therefore read from memory again, which saves registers.
template <bool MAY_BE_LONG, class S, template <class> class By, u32 WARPS>
DEVICE void softmax_again(const ScoresArguments& a, u64 index, Held<S, By, WARPS, 0>& row, typename S::Bits* to,
                          const Extremes& found, SoftmaxShared<WARPS>& shared) {
    const u32 COUNT = By<S>::COUNT;
    if (found.is_live()) {
        SoftmaxExp exp(found.max, found.min);
        exp.narrow = exp.narrow && !(MAY_BE_LONG && is_long(row.cols));
        exp.fill(shared.tables);
        __syncthreads();
        if (exp.narrow) {
            divide_again<true, false>(row, exp, to, shared);
        } else {
            divide_again<false, MAY_BE_LONG>(row, exp, to, shared);
        }
    } else {
        u32 bits[COUNT];
        for (u32 i = 0; i < COUNT; i++) {
            bits[i] = found.is_masked() ? S::narrow(a.uniform) : S::NOT_A_NUMBER;
        }
        row.each([&](u32 column, const float*) { By<S>::store(to + column, bits); });
        count_guards(a.guards, index, found.is_nan(), found.is_masked());
    }
}

template <class S, u32 WARPS, u32 HELD>
DEVICE void softmax_held(const ScoresArguments& a) {
    typedef typename S::Bits Bits;
    __shared__ SoftmaxShared<WARPS> shared;
    for (u64 index = blockIdx.x; index < a.rows; index += gridDim.x) {
        RegisterRow<S, WARPS, HELD> row((const Bits*)a.x + index * a.cols, a.cols);
        Bits* to = (Bits*)a.y + index * a.cols;
        const Extremes found = extremes(row, shared.extremes);
        if (SoftmaxExp::is_narrow(found.max, found.min)) {
            divide(row, SoftmaxExp(found.max, found.min), to, shared.units);
        } else {
            Held<S, Vectors, WARPS, 0> again((const Bits*)a.x + index * a.cols, a.cols);
            softmax_again<false>(a, index, again, to, found, shared);
        }
        __syncthreads();
    }
}

template <class S, template <class> class By, u32 WARPS>
DEVICE void softmax_long(const ScoresArguments& a) {
    typedef typename S::Bits Bits;
    __shared__ SoftmaxShared<WARPS> shared;
    for (u64 index = blockIdx.x; index < a.rows; index += gridDim.x) {
        Held<S, By, WARPS, 0> row((const Bits*)a.x + index * a.cols, a.cols);
        const Extremes found = extremes(row, shared.extremes);
        softmax_again<true>(a, index, row, (Bits*)a.y + index * a.cols, found, shared);
        __syncthreads();
    }
}

#define SOFTMAX(TYPE, NAME)                                                                                            \
    ENTRY_UP_TO(softmax_##NAME##_1x4, ScoresArguments, 32, (softmax_held<TYPE, 1, 4>(arguments)))                      \
    ENTRY_UP_TO(softmax_##NAME##_8x4, ScoresArguments, 256, (softmax_held<TYPE, 8, 4>(arguments)))                     \
    ENTRY_AT_MOST(softmax_##NAME##_16x8, ScoresArguments, 512, (softmax_held<TYPE, 16, 8>(arguments)))                 \
    ENTRY(softmax_##NAME##_long, ScoresArguments, 1024, (softmax_long<TYPE, Vectors, 32>(arguments)))                  \
    ENTRY(softmax_##NAME##_any, ScoresArguments, 256, (softmax_long<TYPE, Singles, 8>(arguments)))

SOFTMAX(F32, f32)
SOFTMAX(F16, f16)
SOFTMAX(BF16, bf16)
