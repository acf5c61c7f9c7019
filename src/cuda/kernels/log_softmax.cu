// Logarithm of softmax of rows, as `src/ops/log_softmax.rs` defines it. Each block processes one row, as in
// `softmax.cu`.
#include "log_sum.cuh"

// Computes (z - max) - log_sum. For 16-bit types, both subtractions are in f32, because their two roundings do not
// change the result.
template <class S>
DEVICE u32 log_softmax_bits(float z, float max, double log_sum) {
    if (sizeof(typename S::Bits) == 2) {
        return S::narrow((z - max) - (float)log_sum);
    }
    return S::narrow((float)(((double)z - (double)max) - log_sum));
}

template <class S, template <class> class By, u32 WARPS, u32 HELD>
DEVICE void log_softmax(const ScoresArguments& a) {
    const u32 COUNT = By<S>::COUNT;
    __shared__ LogSumShared<S, WARPS> shared;
    for (u64 index = blockIdx.x; index < a.rows; index += gridDim.x) {
        const typename S::Bits* from = (const typename S::Bits*)a.x + index * a.cols;
        typename S::Bits* to = (typename S::Bits*)a.y + index * a.cols;
        Held<S, By, WARPS, HELD> held(from, a.cols);
        const Extremes found = extremes(held, shared.extremes);
        const bool is_live = found.is_live();
        double log_of_sum = 0.0;
        u32 fill_value = S::NOT_A_NUMBER;
        if (is_live) {
            log_of_sum = log_sum(held, from, a.cols, found, shared);
        } else {
            if (found.is_masked()) {
                double high, low;
                log_parts((double)a.cols, high, low);
                fill_value = a.uniform > 0.0f ? narrow_once<S>(-high) : S::narrow(-INFINITE);
            }
            count_guards(a.guards, index, found.is_nan(), found.is_masked());
        }
        held.each([&](u32 column, const float* z) {
            u32 bits[COUNT];
            for (u32 i = 0; i < COUNT; i++) {
                bits[i] = is_live ? log_softmax_bits<S>(z[i], found.max, log_of_sum) : fill_value;
            }
            By<S>::store(to + column, bits);
        });
        __syncthreads();
    }
}

#define LOG_SOFTMAX(TYPE, NAME)                                                                                        \
    ENTRY(log_softmax_##NAME##_1x4, ScoresArguments, 32, (log_softmax<TYPE, Vectors, 1, 4>(arguments)))                \
    ENTRY_AT_MOST(log_softmax_##NAME##_8x4, ScoresArguments, 256, (log_softmax<TYPE, Vectors, 8, 4>(arguments)))       \
    ENTRY_AT_MOST(log_softmax_##NAME##_16x8, ScoresArguments, 512, (log_softmax<TYPE, Vectors, 16, 8>(arguments)))     \
    ENTRY(log_softmax_##NAME##_long, ScoresArguments, 1024, (log_softmax<TYPE, Vectors, 32, 0>(arguments)))            \
    ENTRY(log_softmax_##NAME##_any, ScoresArguments, 256, (log_softmax<TYPE, Singles, 8, 0>(arguments)))

LOG_SOFTMAX(F32, f32)
LOG_SOFTMAX(F16, f16)
LOG_SOFTMAX(BF16, bf16)
