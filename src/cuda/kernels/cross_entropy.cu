// Cross-entropy of rows and its gradient, as `src/ops/cross_entropy.rs` and `src/ops/cross_entropy_backward.rs` define
// them. Three kernels run one after the other without waiting for the host. The first reduces targets and weights, the
// second processes the rows, and the third reduces the losses.
//
// Each block processes one row, as in `softmax.cu`. Most rows are read once, and their gradients are written once. The
// gradient may overwrite the row.
#include "cross_entropy.cuh"
#include "near_gradient.cuh"
#include "register_exps.cuh"

template <u32 WARPS>
struct CrossEntropyShared {
    Keys extremes[WARPS];
    Parts units[WARPS];
    double seconds[WARPS];
    Tables tables;
    BinSums<WARPS> distances;
};

// Returns whether the logits and their gradient are equally aligned.
DEVICE bool are_parallel(const CrossEntropyArguments& a) { return (a.dlogits - a.logits) % 16 == 0; }

// Row whose target is a class and is not ignored. The row is read several times. If `IS_ALIGNED`, the row and its
// gradient begin at multiples of 16 bytes.
template <class S, u32 WARPS, bool IS_ALIGNED>
struct CrossEntropyRow {
    typedef typename S::Bits Bits;
    typedef EdgedRow<S, WARPS> Row;
    const CrossEntropyArguments& a;
    CrossEntropyShared<WARPS>& shared;
    const u64 index;
    const u32 target;
    // Logit of the target, read before the gradient may overwrite it.
    const float logit;
    SoftmaxExp exp;

    DEVICE CrossEntropyRow(const CrossEntropyArguments& a, CrossEntropyShared<WARPS>& shared, u64 index, u32 target)
        : a(a), shared(shared), index(index), target(target), logit(S::widen(from(a, index)[target])),
          exp(0.0f, 0.0f) {}

    static DEVICE const Bits* from(const CrossEntropyArguments& a, u64 index) {
        return (const Bits*)a.logits + index * a.cols;
    }

    // Each use computes the row's addresses again, which saves registers in between.
    DEVICE Row row() const { return Row(from(a, recomputed(index)), a.cols); }

    DEVICE float power(float x) const { return exp.power<false>(shared.tables, x); }

    DEVICE Powers powers(float max) const {
        const Units units = sum_exps<WARPS, true>(a.cols, shared.units, [&](auto& sum) {
            row().each([&](u32, const auto& x) {
                for (u32 i = 0; i < length_of(x); i++) {
                    sum.add(power(x[i]));
                }
                if (sum.count >= 256) {
                    sum.collect();
                }
            });
        });
        const bool max_dominated = is_max_dominated(units, a.cols);
        double rest = 0.0;
        if (max_dominated) {
            const auto logit_of = [](u32, float x) { return x; };
            const auto power_of = [&](u32, float x) { return power(x); };
            const Row again = row();
            rest = rest_of<true>(again, a.cols, max, shared.seconds, shared.units, logit_of, power_of);
        }
        return {units, max_dominated, rest};
    }

    DEVICE double distances(double max) const {
        const Row row = this->row();
        return sum_in_bins(row, shared.distances, [&](u32 column, float x) {
            return distance(a, column, max, (double)x);
        }) * DISTANCE_UP;
    }

    template <class Bits_of>
    DEVICE void write_each(Bits* to, Bits_of bits_of) const {
        row().each([&](u32 column, const auto& x) {
            const u32 COUNT = sizeof(x) / sizeof(float);
            u32 bits[COUNT];
            for (u32 i = 0; i < COUNT; i++) {
                bits[i] = bits_of(column + i, x[i]);
            }
            const bool is_vector = COUNT > 1 && (IS_ALIGNED || are_parallel(a));
            if constexpr (COUNT > 1) {
                if (is_vector) {
                    Vectors<S>::store(to + column, bits);
                }
            }
            for (u32 i = 0; i < COUNT && !is_vector; i++) {
                to[column + i] = (Bits)bits[i];
            }
        });
    }

    DEVICE void write(const Gradient& gradient, Bits* to) const {
        if (gradient.is_plain()) {
            write_each(to, [&](u32, float x) { return S::narrow(gradient.plain(power(x))); });
        } else {
            write_each(to, [&](u32 column, float x) {
                return store_wide<S>(gradient.of(power(x), weight_of(a, column)));
            });
        }
        __syncthreads();
        if (threadIdx.x == 0) {
            to[target] = (Bits)store_wide<S>(gradient.at_target);
        }
    }

    // Writes the row's loss, and its gradient if requested.
    DEVICE void finish(Bits* to) {
        const Extremes found = extremes(row(), shared.extremes);
        if (!found.is_live()) {
            fill_value<S>(a, index, target, found.is_nan(), found.is_masked(), to);
            return;
        }
        exp = SoftmaxExp(found.max, found.min);
        exp.narrow = false;
        exp.fill(shared.tables);
        __syncthreads();
        const double max = (double)found.max, of_distances = a.label_smoothing == 0.0 ? 0.0 : distances(max);
        const Powers of_row = powers(found.max);
        const double log_sum = log_of_sum(of_row, a.cols);
        write_loss(a, index, loss_of(a, target, max, (double)logit, log_sum, of_distances));
        if (to) {
            write(Gradient(a, index, target, max + log_sum, of_row, power(logit)), to);
        }
    }
};

// Logits of the block's first row, all in registers.
template <class S, u32 WARPS_OF_BLOCK, u32 HELD>
struct HeldLogits {
    typedef typename S::Bits Bits;
    static const u32 WARPS = WARPS_OF_BLOCK;
    static const bool IS_ALIGNED = true;
    typedef RegisterRow<S, WARPS, HELD> Row;
    Row row;

    DEVICE HeldLogits(const Bits* from, u32 cols) : row(from, cols) {}

    DEVICE Extremes find(const CrossEntropyArguments&, Keys* partial) const { return extremes(row, partial); }

    // Returns the fixed-point sum of the exponentials. Every thread gets the result.
    DEVICE Units sum(const Extremes&, const SoftmaxExp& exp, const LaneTables& tables, Parts* partial) {
        return {total<WARPS>(make_exps(row, exp, tables), partial).whole(), 0};
    }

    // Writes the gradients: the exponentials times the factor `high` + `low`.
    DEVICE void write(const Extremes&, const SoftmaxExp&, const LaneTables&, float high, float low, Bits* to) const {
        Bits* const own = to + row.first();
        UNROLLED
        for (u32 i = 0; i < HELD; i++) {
            if (Row::At::column(i) < row.cols) {
                store_scaled<S, Vectors>(own + row.offset(i), row.values[i], high, low);
            }
        }
    }
};

// Logits of the block's first row, of any length and at any address.
template <class S>
struct BlockLogits {
    typedef typename S::Bits Bits;
    static const u32 WARPS = 16, THREADS = WARPS * WARP;
    static const bool IS_ALIGNED = false;
    BlockExps<S> exps;

    DEVICE BlockLogits(const Bits* from, u32 cols) : exps(from, cols) {}

    DEVICE Extremes find(const CrossEntropyArguments& a, Keys* partial) {
        const Extremes found = exps.find(partial);
        exps.row.template prefetch_later<THREADS>(a.rows, blockIdx.x);
        return found;
    }

    DEVICE Units sum(const Extremes& found, const SoftmaxExp& exp, const LaneTables& tables, Parts* partial) {
        return exps.template sum<true>(found, exp, tables, partial);
    }

    DEVICE void write(const Extremes& found, const SoftmaxExp& exp, const LaneTables& tables, float high, float low,
                      Bits* to) const {
        exps.store(found, exp, tables, high, low, to);
    }
};

// The block's first row. Its target is a class and is not ignored. `Logits` reads the row.
template <class S, class Logits>
struct FirstCrossEntropy {
    typedef typename S::Bits Bits;
    static const u32 WARPS = Logits::WARPS;
    // Values that the gradients of all elements use. One warp computes them.
    struct Factors {
        double high, at_target;
        bool is_plain;
    };
    const CrossEntropyArguments& a;
    const u32 target;
    Logits logits;
    // Logit of the target, read before the gradient may overwrite it.
    const float logit;

    DEVICE FirstCrossEntropy(const CrossEntropyArguments& a, u32 target)
        : a(a), target(target), logits(from(a), a.cols), logit(S::widen(from(a)[target])) {}

    static DEVICE const Bits* from(const CrossEntropyArguments& a) {
        return (const Bits*)a.logits + (u64)blockIdx.x * a.cols;
    }

    // Writes the row's loss, and its gradient if requested. Returns false and writes no gradient if the row is not
    // finite, has a wide range or is dominated by its largest logit, if the gradient needs f64, or if the logits and
    // the gradient are not equally aligned.
    DEVICE bool finish() {
        __shared__ Keys partial_extremes[WARPS];
        __shared__ Parts partial_units[WARPS];
        __shared__ Factors factors;
        const Extremes found = logits.find(a, partial_extremes);
        if (a.label_smoothing != 0.0 || !SoftmaxExp::is_narrow(found.max, found.min)) {
            return false;
        }
        const SoftmaxExp exp(found.max, found.min);
        const LaneTables tables = exp.lane_tables();
        const Powers powers = {logits.sum(found, exp, tables, partial_units), false, 0.0};
        if (is_max_dominated(powers.units, a.cols)) {
            return false;
        }
        // One warp computes the loss and the factors of the gradient.
        if (threadIdx.x < WARP) {
            const double max = (double)found.max, log_sum = log_of_sum(powers, a.cols);
            write_loss(a, blockIdx.x, loss_of(a, target, max, (double)logit, log_sum, 0.0));
            if (a.dlogits) {
                const Gradient gradient(a, blockIdx.x, target, max + log_sum, powers, exp.power<true>(tables, logit));
                if (threadIdx.x == 0) {
                    factors = {gradient.high, gradient.at_target, gradient.is_plain()};
                }
            }
        }
        if (!a.dlogits) {
            return true;
        }
        __syncthreads();
        if (!factors.is_plain || !are_parallel(a)) {
            return false;
        }
        const float high = (float)factors.high, low = (float)(factors.high - (double)high);
        Bits* const to = (Bits*)a.dlogits + (u64)blockIdx.x * a.cols;
        logits.write(found, exp, tables, high, low, to);
        __syncthreads();
        if (threadIdx.x == 0) {
            to[target] = (Bits)store_wide<S>(factors.at_target);
        }
        return true;
    }
};

// Processes the block's rows from `index` on. Each row is read several times.
template <class S, u32 WARPS, bool IS_ALIGNED>
DEVICE void cross_entropy_again(const CrossEntropyArguments& a, u64 index) {
    typedef typename S::Bits Bits;
    __shared__ CrossEntropyShared<WARPS> shared;
    for (; index < a.rows; index += gridDim.x) {
        Bits* to = a.dlogits ? (Bits*)a.dlogits + index * a.cols : 0;
        const long long target = ((const long long*)a.targets)[index];
        if (is_counted(a, target)) {
            CrossEntropyRow<S, WARPS, IS_ALIGNED> row(a, shared, index, (u32)target);
            row.finish(to);
        } else {
            pass_over<S>(a, index, target, to);
        }
        __syncthreads();
    }
}

// Processes rows. `FirstCrossEntropy` processes only the block's first row, because a loop over rows would need more
// registers for values that are the same for all rows.
template <class S, class Logits>
DEVICE void cross_entropy(const CrossEntropyArguments& a) {
    u64 next = blockIdx.x;
    const long long target = ((const long long*)a.targets)[blockIdx.x];
    if (!is_counted(a, target)) {
        typename S::Bits* const to = a.dlogits ? (typename S::Bits*)a.dlogits + (u64)blockIdx.x * a.cols : 0;
        pass_over<S>(a, blockIdx.x, target, to);
        next += gridDim.x;
    } else if (FirstCrossEntropy<S, Logits>(a, (u32)target).finish()) {
        next += gridDim.x;
    }
    // Most blocks have only one row, and `finish` succeeds for most rows unless labels are smoothed.
    cross_entropy_again<S, Logits::WARPS, Logits::IS_ALIGNED>(a, recomputed(next));
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

DEVICE double part(double sum, double divisor) { return divisor == 0.0 && sum == sum ? 0.0 : sum / divisor; }

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
        // If every target is ignored, both divisors of a mean are 0. `part` returns 0 for a divisor of 0, unless a row
        // is NaN, so the loss is 0. If a target is invalid, the loss is NaN.
        const bool is_refused = ((const Settled*)a.settled)->first_refused != ~0ull;
        *(double*)a.losses = loss == loss && !is_refused ? loss : NOT_A_NUMBER;
    }
}

#define CROSS_ENTROPY(TYPE, NAME)                                                                                      \
    ENTRY_UP_TO(cross_entropy_##NAME##_8x4, CrossEntropyArguments, 256,                                                \
                (cross_entropy<TYPE, HeldLogits<TYPE, 8, 4>>(arguments)))                                              \
    ENTRY_AT_MOST(cross_entropy_##NAME##_16x8, CrossEntropyArguments, 512,                                             \
                  (cross_entropy<TYPE, HeldLogits<TYPE, 16, 8>>(arguments)))                                           \
    ENTRY_AT_MOST(cross_entropy_##NAME##_any, CrossEntropyArguments, 512,                                              \
                  (cross_entropy<TYPE, BlockLogits<TYPE>>(arguments)))

CROSS_ENTROPY(F32, f32)
CROSS_ENTROPY(F16, f16)
CROSS_ENTROPY(BF16, bf16)
ENTRY(cross_entropy_settle, CrossEntropyArguments, 1024, (settle(arguments)))
ENTRY(cross_entropy_reduce, CrossEntropyArguments, 1024, (reduce(arguments)))
