// Cross-entropy of rows whose logits have a softcap, and its gradient. Each block processes one row, and reads one
// element at a time. Logits are recomputed in f64 at each use.
#include "cross_entropy.cuh"

template <class S, u32 WARPS>
struct SoftcapShared {
    LogSumShared<S, WARPS> sums;
    BinSums<WARPS> distances;
    WideExtremes extremes[WARPS];
};

// Returns 1 - tanh^2(x / cap).
DEVICE double derivative(double x, double cap) {
    const double t = exp_of(fabs(x / cap) * -2.0), one = t + 1.0;
    return t * 4.0 / (one * one);
}

template <class S, u32 WARPS>
DEVICE void finish(const CrossEntropyArguments& a, u64 index, u32 target, float score, WideRow<S, WARPS, false>& row,
                   typename S::Bits* to, LogSumShared<S, WARPS>& shared, BinSums<WARPS>& of_distances) {
    const double max = row.found.max, logit = row.logits.at(target, score);
    row.prepare(shared.tables);
    __syncthreads();
    double distances = 0.0;
    if (a.label_smoothing != 0.0) {
        distances = sum_in_bins(row.held, of_distances, [&](u32 column, float x) {
            return distance(a, column, max, row.logits.at(column, x));
        }) * DISTANCE_UP;
    }
    const Powers powers = row.powers(shared);
    const double log_sum = log_of_sum(powers, a.cols);
    write_loss(a, index, loss_of(a, target, max, logit, log_sum, distances));
    if (!to) {
        return;
    }
    const Gradient gradient(a, index, target, max + log_sum, powers, row.power(shared.tables, logit));
    row.held.each([&](u32 column, const float* x) {
        const float e = row.power(shared.tables, row.logits.at(column, *x));
        const double value = gradient.finite(gradient.of(e, weight_of(a, column)));
        to[column] = (typename S::Bits)store_wide<S>(value * derivative((double)*x, a.softcap));
    });
    __syncthreads();
    if (threadIdx.x == 0) {
        const double value = gradient.finite(gradient.at_target);
        to[target] = (typename S::Bits)store_wide<S>(value * derivative((double)score, a.softcap));
    }
}

template <class S, u32 WARPS>
DEVICE void cross_entropy_softcap(const CrossEntropyArguments& a) {
    typedef typename S::Bits Bits;
    __shared__ SoftcapShared<S, WARPS> shared;
    for (u64 index = blockIdx.x; index < a.rows; index += gridDim.x) {
        const Bits* from = (const Bits*)a.logits + index * a.cols;
        Bits* to = a.dlogits ? (Bits*)a.dlogits + index * a.cols : 0;
        const long long target = ((const long long*)a.targets)[index];
        if (!is_counted(a, target)) {
            pass_over<S>(a, index, target, to);
            continue;
        }
        const float score = S::widen(from[target]);
        const RowMask<false> mask(a.cols);
        WideRow<S, WARPS, false> row(1.0, a.softcap, a.cols, from, mask, 0, a.cols);
        row.find(shared.extremes);
        if (row.found.is_live()) {
            finish(a, index, (u32)target, score, row, to, shared.sums, shared.distances);
        } else {
            fill_value<S>(a, index, (u32)target, row.found.nan, row.found.is_masked(), to);
        }
        __syncthreads();
    }
}

#define SOFTCAP(TYPE, NAME)                                                                                            \
    ENTRY(cross_entropy_softcap_##NAME, CrossEntropyArguments, 256, (cross_entropy_softcap<TYPE, 8>(arguments)))

SOFTCAP(F32, f32)
SOFTCAP(F16, f16)
SOFTCAP(BF16, bf16)
