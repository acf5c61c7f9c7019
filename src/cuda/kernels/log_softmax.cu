// Log-softmax of each row, as `src/ops/log_softmax.rs` defines it. Each block processes one row, as in
// `softmax.cu`.
#include "log_row.cuh"

// Computes (z - max) - log_sum. For results of 16-bit types, both subtractions are in f32, because their roundings do
// not change such a result. For f32, both are in f64.
template <class S>
DEVICE float log_softmax_of(float z, float max, double log_sum) {
    if (sizeof(typename S::Bits) == 2) {
        return (z - max) - (float)log_sum;
    }
    return (float)(((double)z - (double)max) - log_sum);
}

template <class S, template <class> class By>
DEVICE void store(typename S::Bits* to, const float* z, float max, double log_sum) {
    float y[By<S>::COUNT];
    for (u32 i = 0; i < By<S>::COUNT; i++) {
        y[i] = log_softmax_of<S>(z[i], max, log_sum);
    }
    By<S>::store_rounded(to, y);
}

// Writes the results of a row. The row and the results must be equally aligned.
template <class S, u32 HELD, u32 BATCH>
DEVICE void subtract(BlockRow<S, HELD, BATCH>& row, typename S::Bits* to, float max, double log_sum) {
    typename S::Bits* own = to + row.first;
    const auto piece = [&](u32 offset, const u32 (&words)[4]) {
        float z[row.COUNT];
        row.widen(words, z);
        store<S, Vectors>(own + offset, z, max, log_sum);
    };
    row.each_held(piece);
    row.each_behind(0, [&](u32 offset, bool is_there, const u32 (&words)[4]) {
        if (is_there) {
            piece(offset, words);
        }
    });
    if (row.parts.has_edge()) {
        store<S, Singles>(to + row.parts.edge(), &row.edge, max, log_sum);
    }
}

// Handles rows of any length and at any address, with up to `HELD` pieces in the registers of a thread. `THREADS` is
// the number of threads that a multiprocessor runs at a time.
template <class S, u32 THREADS, u32 HELD>
DEVICE void log_softmax_any(const ScoresArguments& a) {
    typedef typename S::Bits Bits;
    __shared__ LogRowShared shared;
    for (u64 index = blockIdx.x; index < a.rows; index += gridDim.x) {
        const Bits* from = (const Bits*)a.x + index * a.cols;
        BlockRow<S, HELD, 4> row(from, a.cols);
        const Extremes found = extremes(row, shared.extremes);
        row.template prefetch_later<THREADS>(a.rows, index);
        if (found.is_live()) {
            const Powers powers = powers_of(row, found, shared);
            // Only one warp computes the logarithm, because a multiprocessor has few units for f64.
            if (threadIdx.x < WARP) {
                const double log_sum = log_of_sum(powers, a.cols);
                if (threadIdx.x == 0) {
                    shared.log_sum = log_sum;
                }
            }
            __syncthreads();
            const Results<S> to(a, row.row);
            const double log_sum = shared.log_sum;
            if (to.are_parallel) {
                subtract(row, to.row, found.max, log_sum);
            } else {
                EdgedRow<S, MOST_WARPS>(from, a.cols).each([&](u32 column, auto& z) {
                    for (float& each : z) {
                        each = log_softmax_of<S>(each, found.max, log_sum);
                    }
                    to.store_rounded(column, z);
                });
            }
        } else {
            u32 bits = S::NOT_A_NUMBER;
            if (found.is_masked()) {
                double high, low;
                log_parts((double)seldom(a.cols), high, low);
                bits = a.uniform > 0.0f ? narrow_once<S>(-high) : S::narrow(-INFINITE);
            }
            count_guards(a.guards, index, found.is_nan(), found.is_masked());
            const Results<S> to(a, row.row);
            EdgedRow<S, MOST_WARPS>(from, a.cols).each([&](u32 column, const auto& z) { to.fill(column, z, bits); });
        }
        __syncthreads();
    }
}

#define LOG_SOFTMAX(TYPE, NAME)                                                                                        \
    ENTRY_UP_TO(log_softmax_##NAME##_8x8, ScoresArguments, 256, (log_softmax_any<TYPE, 768, 8>(arguments)))            \
    ENTRY_AT_MOST(log_softmax_##NAME##_any, ScoresArguments, 1024, (log_softmax_any<TYPE, 1024, 4>(arguments)))

LOG_SOFTMAX(F32, f32)
LOG_SOFTMAX(F16, f16)
LOG_SOFTMAX(BF16, bf16)
