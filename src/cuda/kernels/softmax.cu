// Softmax of rows, as `src/ops/softmax.rs` defines it.
//
// Each block processes one row. The block holds the row's exponentials in registers. Elements that do not fit there are
// copied to shared memory. So most rows are read once and written once. Elements that do not fit in shared memory
// either are read three times. The maximum and the integer sum are exact in any order, so the bits depend neither on
// the number of threads nor on the size of the shared memory.
#include "block_exps.cuh"

template <u32 WARPS>
struct SoftmaxShared {
    Keys extremes[WARPS];
    Parts units[WARPS];
    Tables tables;
};

// Computes the softmax of a narrow row in registers (see `SoftmaxExp::is_narrow`). The exponentials replace the values
// in the registers.
template <class S, u32 WARPS, u32 HELD>
DEVICE void divide(RegisterRow<S, WARPS, HELD>& row, const SoftmaxExp& exp, typename S::Bits* to, Parts* partial) {
    // Maximum length of a row in registers. It is passed instead of the row's length, because the sums of all rows up
    // to this length have the same unit.
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
            store_scaled<S, Vectors>(own + row.offset(piece), row.values[piece], high, low);
        }
    });
}

// Computes the softmax of a row in memory. The row's maximum is finite. Each pass reads the row again.
template <bool MAY_BE_LONG, class S, u32 WARPS>
DEVICE void divide_again(const EdgedRow<S, WARPS>& row, const SoftmaxExp& exp, const Results<S>& to,
                         SoftmaxShared<WARPS>& shared) {
    const u32 cols = row.parts.cols;
    const Units units = sum_exps<WARPS, MAY_BE_LONG>(cols, shared.units, [&](auto& sum) {
        row.each([&](u32, const auto& x) {
            for (u32 i = 0; i < length_of(x); i++) {
                sum.add(exp.power<false>(shared.tables, x[i]));
            }
            if (sum.count >= 256) {
                sum.collect();
            }
        });
    });
    float high, low;
    reciprocal(units, cols, high, low);
    row.each([&](u32 column, auto& x) {
        for (float& each : x) {
            each = scaled(exp.power<false>(shared.tables, each), high, low);
        }
        to.store_rounded(column, x);
    });
}

// Handles rows that have no finite maximum or a wide range of values, and long rows. These rows are rare. They are
// therefore read from memory again, which saves registers.
template <bool MAY_BE_LONG, class S, u32 WARPS>
DEVICE void softmax_again(const ScoresArguments& a, u64 index, const typename S::Bits* from, const Extremes& found,
                          SoftmaxShared<WARPS>& shared) {
    const EdgedRow<S, WARPS> row(from, a.cols);
    const Results<S> to(a, from);
    if (found.is_live()) {
        SoftmaxExp exp(found.max, found.min);
        exp.narrow = false;
        exp.fill(shared.tables);
        __syncthreads();
        divide_again<MAY_BE_LONG>(row, exp, to, shared);
    } else {
        const u32 bits = found.is_masked() ? S::narrow(a.uniform) : S::NOT_A_NUMBER;
        row.each([&](u32 column, const auto& x) { to.fill(column, x, bits); });
        count_guards(a.guards, index, found.is_nan(), found.is_masked());
    }
}

template <class S, u32 WARPS, u32 HELD>
DEVICE void softmax_held(const ScoresArguments& a) {
    typedef typename S::Bits Bits;
    __shared__ SoftmaxShared<WARPS> shared;
    for (u64 index = blockIdx.x; index < a.rows; index += gridDim.x) {
        const Bits* from = (const Bits*)a.x + index * a.cols;
        Bits* to = (Bits*)a.y + index * a.cols;
        RegisterRow<S, WARPS, HELD> row(from, a.cols);
        const Extremes found = extremes(row, shared.extremes);
        if (SoftmaxExp::is_narrow(found.max, found.min)) {
            divide(row, SoftmaxExp(found.max, found.min), to, shared.units);
        } else {
            softmax_again<false, S>(a, index, from, found, shared);
        }
        __syncthreads();
    }
}

// Computes the softmax of a row for which `is_fast` holds.
template <class S>
DEVICE void divide(BlockExps<S>& row, const ScoresArguments& a, const Extremes& found, Parts* partial) {
    const SoftmaxExp exp(found.max, found.min);
    const LaneTables tables = exp.lane_tables();
    const Units units = row.template sum<false>(found, exp, tables, partial);
    float high, low;
    // Passes 0 as the length, which determines the unit of the fixed-point sum only in long rows. No row here is long.
    reciprocal(units, 0, high, low);
    row.store(found, exp, tables, high, low, Results<S>(a, row.row.row).row);
}

// Handles rows of any length and at any address, with up to 8 pieces in the registers of a thread.
template <class S, u32 THREADS>
DEVICE void softmax_any(const ScoresArguments& a) {
    typedef typename S::Bits Bits;
    __shared__ SoftmaxShared<MOST_WARPS> shared;
    for (u64 index = blockIdx.x; index < a.rows; index += gridDim.x) {
        const Bits* from = (const Bits*)a.x + index * a.cols;
        BlockExps<S> row(from, a.cols);
        const Extremes found = row.find(shared.extremes);
        row.row.template prefetch_later<THREADS>(a.rows, index);
        if (is_fast(found, a.cols) && Results<S>(a, from).are_parallel) {
            divide(row, a, found, shared.units);
        } else {
            softmax_again<true, S>(a, index, from, found, shared);
        }
        __syncthreads();
    }
}

#define SOFTMAX(TYPE, NAME)                                                                                            \
    ENTRY_UP_TO(softmax_##NAME##_1x4, ScoresArguments, 32, (softmax_held<TYPE, 1, 4>(arguments)))                      \
    ENTRY_UP_TO(softmax_##NAME##_8x4, ScoresArguments, 256, (softmax_held<TYPE, 8, 4>(arguments)))                     \
    ENTRY_AT_MOST(softmax_##NAME##_any, ScoresArguments, 512, (softmax_any<TYPE, 512>(arguments)))

SOFTMAX(F32, f32)
SOFTMAX(F16, f16)
SOFTMAX(BF16, bf16)
