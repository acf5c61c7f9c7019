// Cross-entropy of rows and its gradient, as `src/ops/cross_entropy.rs` and `src/ops/cross_entropy_backward.rs` define
// them. Three kernels run one after the other without waiting for the host. The first reduces targets and weights, the
// second processes the rows, and the third reduces the losses.
//
// Each block processes one row, as in `softmax.cu`. If a row fits in registers, the row is read once and its gradient
// is written once. The gradient may overwrite the row.
#include "cross_entropy.cuh"

template <class S, template <class> class By, u32 WARPS>
struct CrossEntropyShared {
    Keys extremes[WARPS];
    Parts units[WARPS];
    double seconds[WARPS];
    Tables tables;
    BinSums<WARPS> distances;
};

// Row whose target is a class and is not ignored.
template <class S, template <class> class By, u32 WARPS, u32 HELD>
struct CrossEntropyRow {
    typedef typename S::Bits Bits;
    static const u32 COUNT = By<S>::COUNT;
    static const bool MAY_BE_LONG = HELD == 0;
    const CrossEntropyArguments& a;
    CrossEntropyShared<S, By, WARPS>& shared;
    const u64 index;
    const u32 target;
    // Logit of the target, read before the gradient may overwrite it.
    const float logit;
    Held<S, By, WARPS, HELD> held;
    // Views of the row that read memory at each access, for rare paths. `again` serves logits with a wide range.
    // `rolled`, whose loops are not unrolled, serves label smoothing.
    Held<S, By, WARPS, 0> again;
    Held<S, Rolled, WARPS, 0> rolled;
    SoftmaxExp exp;
    // Whether the exponentials are in registers.
    bool is_held;

    DEVICE CrossEntropyRow(const CrossEntropyArguments& a, CrossEntropyShared<S, By, WARPS>& shared, u64 index,
                           u32 target, const Bits* from)
        : a(a), shared(shared), index(index), target(target), logit(S::widen(from[target])), held(from, a.cols),
          again(from, a.cols), rolled(from, a.cols), exp(0.0f, 0.0f), is_held(false) {}

    template <bool NARROW>
    DEVICE float power(float x) const {
        return exp.power<NARROW>(shared.tables, x);
    }

    DEVICE void prepare(const Extremes& found) {
        exp = SoftmaxExp(found.max, found.min);
        exp.narrow = exp.narrow && COUNT > 1 && !(MAY_BE_LONG && is_long(a.cols));
        exp.fill(shared.tables);
        __syncthreads();
    }

    // Replaces tables that need a small range of logits by tables that suit every row.
    DEVICE void widen() {
        if (exp.narrow) {
            exp.narrow = false;
            __syncthreads();
            exp.fill(shared.tables);
            __syncthreads();
        }
    }

    template <bool NARROW, class Row>
    DEVICE Units units_of(Row& row) {
        return sum_exps<WARPS, !NARROW && MAY_BE_LONG>(a.cols, shared.units, [&](auto& sum) {
            row.each([&](u32, float* x) {
                for (u32 i = 0; i < COUNT; i++) {
                    x[i] = power<NARROW>(x[i]);
                    sum.add(x[i]);
                }
                if (sum.count >= 256) {
                    sum.collect();
                }
            });
        });
    }

    DEVICE Powers powers(float max) {
        is_held = exp.narrow && HELD > 0;
        const Units units = exp.narrow ? units_of<true>(held) : units_of<false>(again);
        const bool max_dominated = is_max_dominated(units, a.cols);
        double rest = 0.0;
        if (max_dominated) {
            widen();
            const auto logit_of = [](u32, float x) { return x; };
            const auto power_of = [&](u32, float x) { return power<false>(x); };
            rest = rest_of<MAY_BE_LONG>(again, a.cols, max, shared.seconds, shared.units, logit_of, power_of);
        }
        return {units, max_dominated, rest};
    }

    DEVICE double distances(double max) {
        return sum_in_bins(rolled, shared.distances, [&](u32 column, float x) {
            return distance(a, column, max, (double)x);
        }) * DISTANCE_UP;
    }

    template <class Row, class Bits_of>
    DEVICE void write_each(Row& row, Bits* to, Bits_of bits_of) {
        row.each([&](u32 column, const float* x) {
            u32 bits[COUNT];
            for (u32 i = 0; i < COUNT; i++) {
                bits[i] = bits_of(column + i, x[i]);
            }
            By<S>::store(to + column, bits);
        });
    }

    DEVICE void write(const Gradient& gradient, Bits* to) {
        // For factors from 1e-24 to 1e24, a float-float pair holds 48 bits.
        const double magnitude = fabs(gradient.high);
        const bool is_plain = gradient.of_weight == 0.0 && magnitude >= 1e-24 && magnitude < 1e24;
        const float high = (float)gradient.high, low = (float)(gradient.high - (double)high);
        const auto plain = [=](float e) { return S::narrow(fmaf(e, high, e * low)); };
        if (is_plain && (is_held || exp.narrow)) {
            write_each(held, to, [&](u32, float x) { return plain(HELD > 0 ? x : power<true>(x)); });
        } else if (is_plain) {
            write_each(again, to, [&](u32, float x) { return plain(power<false>(x)); });
        } else {
            widen();
            write_each(again, to, [&](u32 column, float x) {
                return store_wide<S>(gradient.of(power<false>(x), weight_of(a, column)));
            });
        }
        __syncthreads();
        if (threadIdx.x == 0) {
            to[target] = (Bits)store_wide<S>(gradient.at_target);
        }
    }

    // Writes the row's loss, and its gradient if requested.
    DEVICE void finish(Bits* to) {
        const Extremes found = extremes(held, shared.extremes);
        if (!found.is_live()) {
            fill_value<S, By>(a, index, target, found.is_nan(), found.is_masked(), to);
            return;
        }
        prepare(found);
        const double max = (double)found.max, of_distances = a.label_smoothing == 0.0 ? 0.0 : distances(max);
        const Powers of_row = powers(found.max);
        const double log_sum = log_of_sum(of_row, a.cols);
        write_loss(a, index, loss_of(a, target, max, (double)logit, log_sum, of_distances));
        if (to) {
            const float one = exp.narrow ? power<true>(logit) : power<false>(logit);
            write(Gradient(a, index, target, max + log_sum, of_row, one), to);
        }
    }
};

template <class S, template <class> class By, u32 WARPS, u32 HELD>
DEVICE void cross_entropy(const CrossEntropyArguments& a) {
    typedef typename S::Bits Bits;
    __shared__ CrossEntropyShared<S, By, WARPS> shared;
    for (u64 index = blockIdx.x; index < a.rows; index += gridDim.x) {
        Bits* to = a.dlogits ? (Bits*)a.dlogits + index * a.cols : 0;
        const long long target = ((const long long*)a.targets)[index];
        if (is_counted(a, target)) {
            const Bits* from = (const Bits*)a.logits + index * a.cols;
            CrossEntropyRow<S, By, WARPS, HELD> row(a, shared, index, (u32)target, from);
            row.finish(to);
        } else {
            pass_over<S, By>(a, index, target, to);
        }
        __syncthreads();
    }
}

const u32 SETTLING = 32;

DEVICE void settle(const CrossEntropyArguments& a) {
    __shared__ TermSums<SETTLING, 2> shared;
    __shared__ u64 partial[SETTLING];
    double of_targets[2], of_classes[2] = {(double)a.cols};
    u64 first = ~0ull;
    sum_terms(a.rows, shared, of_targets, [&](u64 row, double (&own)[2]) {
        const long long target = ((const long long*)a.targets)[row];
        if (is_counted(a, target)) {
            own[0] += weight_of(a, (u32)target);
            own[1] += 1.0;
        } else if (!is_ignored(a, target) && row < first) {
            first = row;
        }
    });
    if (a.weight_type != NO_OPERAND) {
        sum_terms(a.cols, shared, of_classes, [&](u64 column, double (&own)[2]) { own[0] += weight_of(a, (u32)column); });
    }
    first = over_block<SETTLING>(first, partial, [](u64 own, u32 distance) {
        for (; distance > 0; distance /= 2) {
            const u64 beside = lane_beside(own, distance);
            own = beside < own ? beside : own;
        }
        return own;
    });
    if (threadIdx.x == 0) {
        *(Settled*)a.settled = {of_targets[0], of_targets[1], of_classes[0], first};
    }
}

DEVICE double part(double sum, double divisor) { return divisor == 0.0 ? 0.0 : sum / divisor; }

DEVICE void reduce(const CrossEntropyArguments& a) {
    __shared__ TermSums<SETTLING, 2> shared;
    double sums[2];
    sum_terms(a.rows, shared, sums, [&](u64 row, double (&own)[2]) {
        const RowLoss loss = ((const RowLoss*)a.parts)[row];
        own[0] += loss.entropy;
        own[1] += loss.z;
    });
    if (threadIdx.x == 0) {
        const RowLoss by = divisors(a);
        const double loss = part(sums[0], by.entropy) + part(sums[1], by.z);
        // If every target is ignored, the divisors of a mean are 0. `part` returns 0 for a divisor of 0. An invalid
        // target makes the loss NaN.
        const bool is_refused = ((const Settled*)a.settled)->first_refused != ~0ull;
        *(double*)a.losses = loss == loss && !is_refused ? loss : NOT_A_NUMBER;
    }
}

#define CROSS_ENTROPY(TYPE, NAME)                                                                                      \
    ENTRY_AT_MOST(cross_entropy_##NAME##_8x4, CrossEntropyArguments, 256,                                              \
                  (cross_entropy<TYPE, Vectors, 8, 4>(arguments)))                                                     \
    ENTRY_AT_MOST(cross_entropy_##NAME##_16x8, CrossEntropyArguments, 512, (cross_entropy<TYPE, Vectors, 16, 8>(arguments)))\
    ENTRY(cross_entropy_##NAME##_long, CrossEntropyArguments, 1024, (cross_entropy<TYPE, Vectors, 32, 0>(arguments)))  \
    ENTRY(cross_entropy_##NAME##_any, CrossEntropyArguments, 256, (cross_entropy<TYPE, Singles, 8, 0>(arguments)))

CROSS_ENTROPY(F32, f32)
CROSS_ENTROPY(F16, f16)
CROSS_ENTROPY(BF16, bf16)
ENTRY(cross_entropy_settle, CrossEntropyArguments, 1024, (settle(arguments)))
ENTRY(cross_entropy_reduce, CrossEntropyArguments, 1024, (reduce(arguments)))
