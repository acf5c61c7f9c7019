// Logarithm of the sum of exponentials of rows, as `src/ops/logsumexp.rs` defines it. Each block processes one row, as
// in `softmax.cu`.
#include "log_row.cuh"

// Handles rows of any length and at any address, with up to `HELD` pieces in the registers of a thread. `THREADS` is
// the number of threads that a multiprocessor runs at a time.
template <class S, u32 THREADS, u32 HELD>
DEVICE void logsumexp_any(const ScoresArguments& a) {
    typedef typename S::Bits Bits;
    __shared__ LogRowShared shared;
    for (u64 index = blockIdx.x; index < a.rows; index += gridDim.x) {
        const Bits* from = (const Bits*)a.x + index * a.cols;
        BlockRow<S, HELD, 2> row(from, a.cols);
        const Extremes found = extremes(row, shared.extremes);
        row.template prefetch_later<THREADS>(a.rows, index);
        u32 bits;
        if (found.is_live()) {
            const Powers powers = powers_of(row, found, shared);
            // Only one warp computes the logarithm, because a multiprocessor has few units for f64.
            bits = threadIdx.x < WARP ? narrow_once<S>((double)found.max + log_of_sum(powers, a.cols)) : 0;
        } else {
            bits = found.is_nan() ? S::NOT_A_NUMBER : S::narrow(found.max);
            // A row without columns is not added to the counters.
            count_guards(a.cols > 0 ? a.guards : 0, index, found.is_nan(), found.is_masked());
        }
        if (threadIdx.x == 0) {
            ((Bits*)a.y)[index] = (Bits)bits;
        }
        __syncthreads();
    }
}

#define LOGSUMEXP(TYPE, NAME)                                                                                          \
    ENTRY_UP_TO(logsumexp_##NAME##_8x8, ScoresArguments, 256, (logsumexp_any<TYPE, 768, 8>(arguments)))                \
    ENTRY_AT_MOST(logsumexp_##NAME##_any, ScoresArguments, 1024, (logsumexp_any<TYPE, 1024, 4>(arguments)))

LOGSUMEXP(F32, f32)
LOGSUMEXP(F16, f16)
LOGSUMEXP(BF16, bf16)
