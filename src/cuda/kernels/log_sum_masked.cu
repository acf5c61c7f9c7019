// log_softmax and logsumexp of rows with masks, scale and softcap, as `src/ops/log_softmax.rs` and
// `src/ops/logsumexp.rs` define them. Each block processes one row, and reads one element at a time.
#include "masked.cuh"

template <class S, u32 WARPS>
struct MaskedShared {
    LogSumShared<S, WARPS> sums;
    WideExtremes extremes[WARPS];
};

template <class S, u32 WARPS>
DEVICE double log_sum_of(WideRow<S, Rolled, WARPS, 0, true>& row, LogSumShared<S, WARPS>& shared) {
    row.prepare(shared.tables);
    __syncthreads();
    const Powers powers = row.powers(shared);
    return log_of_sum(powers, row.cols);
}

// Computes (z - max) - log_sum. For 16-bit types, both subtractions are in f32 if all logits are f32 values: the two
// roundings then do not change the result.
template <class S>
DEVICE u32 log_softmax_bits(double z, const WideExtremes& found, double log_sum) {
    if (sizeof(typename S::Bits) == 2 && !found.inexact) {
        return S::narrow(((float)z - (float)found.max) - (float)log_sum);
    }
    return narrow_once<S>((z - found.max) - log_sum);
}

template <class S, u32 WARPS>
DEVICE void log_softmax_masked(const MaskedArguments& a) {
    typedef typename S::Bits Bits;
    __shared__ MaskedShared<S, WARPS> shared;
    for (u32 index = blockIdx.x; index < a.rows; index += gridDim.x) {
        Bits* to = (Bits*)a.y + (u64)index * a.cols;
        const RowMask<true> mask(a, index);
        WideRow<S, Rolled, WARPS, 0, true> row(a, index, mask);
        row.find(shared.extremes);
        u32 beside = S::narrow(-INFINITE), low = mask.low, high = mask.high;
        if (row.found.is_live()) {
            const double log_sum = log_sum_of(row, shared.sums);
            row.held.each([&](u32 column, const float* x) {
                const double z = row.logit(column, *x);
                to[row.first + column] = (Bits)log_softmax_bits<S>(z, row.found, log_sum);
            });
        } else {
            if (!row.found.is_masked()) {
                beside = S::NOT_A_NUMBER;
            } else if (a.uniform) {
                double log, rest;
                log_parts((double)a.cols, log, rest);
                beside = narrow_once<S>(-log);
            }
            low = high = 0;
            count_guards(a.guards, index, row.found.nan, row.found.is_masked());
        }
        fill_beside<S>(to, a.cols, low, high, beside);
        __syncthreads();
    }
}

template <class S, u32 WARPS>
DEVICE void logsumexp_masked(const MaskedArguments& a) {
    typedef typename S::Bits Bits;
    __shared__ MaskedShared<S, WARPS> shared;
    for (u32 index = blockIdx.x; index < a.rows; index += gridDim.x) {
        const RowMask<true> mask(a, index);
        WideRow<S, Rolled, WARPS, 0, true> row(a, index, mask);
        row.find(shared.extremes);
        u32 bits;
        if (row.found.is_live()) {
            bits = narrow_once<S>(row.found.max + log_sum_of(row, shared.sums));
        } else {
            bits = row.found.nan ? S::NOT_A_NUMBER : S::narrow((float)row.found.max);
            count_guards(a.cols > 0 ? a.guards : 0, index, row.found.nan, row.found.is_masked());
        }
        if (threadIdx.x == 0) {
            ((Bits*)a.y)[index] = (Bits)bits;
        }
        __syncthreads();
    }
}

#define LOG_SUM_MASKED(TYPE, NAME)                                                                                     \
    ENTRY(log_softmax_masked_##NAME, MaskedArguments, 256, (log_softmax_masked<TYPE, 8>(arguments)))                   \
    ENTRY(logsumexp_masked_##NAME, MaskedArguments, 256, (logsumexp_masked<TYPE, 8>(arguments)))

LOG_SUM_MASKED(F32, f32)
LOG_SUM_MASKED(F16, f16)
LOG_SUM_MASKED(BF16, bf16)
