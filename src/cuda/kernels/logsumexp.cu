// Logarithm of the sum of exponentials of rows, as `src/ops/logsumexp.rs` defines it. Each block processes one row, as
// in `softmax.cu`.
#include "log_sum.cuh"

template <class S, template <class> class By, u32 WARPS, u32 HELD>
DEVICE void logsumexp(const ScoresArguments& a) {
    __shared__ LogSumShared<S, WARPS> shared;
    for (u64 index = blockIdx.x; index < a.rows; index += gridDim.x) {
        const typename S::Bits* from = (const typename S::Bits*)a.x + index * a.cols;
        Held<S, By, WARPS, HELD> held(from, a.cols);
        const Extremes found = extremes(held, shared.extremes);
        u32 bits;
        if (found.is_live()) {
            bits = narrow_once<S>((double)found.max + log_sum(held, from, a.cols, found, shared));
        } else {
            bits = found.is_nan() ? S::NOT_A_NUMBER : S::narrow(found.max);
            // A row without columns is not counted in the report.
            count_guards(a.cols > 0 ? a.guards : 0, index, found.is_nan(), found.is_masked());
        }
        if (threadIdx.x == 0) {
            ((typename S::Bits*)a.y)[index] = (typename S::Bits)bits;
        }
        __syncthreads();
    }
}

#define LOGSUMEXP(TYPE, NAME)                                                                                          \
    ENTRY(logsumexp_##NAME##_1x4, ScoresArguments, 32, (logsumexp<TYPE, Vectors, 1, 4>(arguments)))                    \
    ENTRY_AT_MOST(logsumexp_##NAME##_8x4, ScoresArguments, 256, (logsumexp<TYPE, Vectors, 8, 4>(arguments)))           \
    ENTRY_AT_MOST(logsumexp_##NAME##_16x8, ScoresArguments, 512, (logsumexp<TYPE, Vectors, 16, 8>(arguments)))         \
    ENTRY(logsumexp_##NAME##_long, ScoresArguments, 1024, (logsumexp<TYPE, Vectors, 32, 0>(arguments)))                \
    ENTRY(logsumexp_##NAME##_any, ScoresArguments, 256, (logsumexp<TYPE, Singles, 8, 0>(arguments)))

LOGSUMEXP(F32, f32)
LOGSUMEXP(F16, f16)
LOGSUMEXP(BF16, bf16)
