// What the kernels of the cross-entropy share, as `src/cpu/cross_entropy.rs` and `src/cpu/cross_entropy_backward.rs` define it:
// a row's loss, what its gradient is made of, and rows that have neither.
#pragma once
#include "masked.cuh"
#include "norm.cuh"

enum Reduction { NO_REDUCTION, MEAN, SUM };

struct CrossEntropyArguments {
    u64 logits, dlogits; // [rows, cols]; the second may be the first, or 0
    u64 targets;         // [rows], numbers of 64 bits with a sign
    u64 weight;          // [cols], or 0
    u64 dloss;           // [1], or without a reduction [rows], f64
    u64 losses;          // The same, to be written.
    u64 parts;           // [rows] of `RowLoss`, if they are reduced.
    u64 settled;         // `Settled`
    u64 met;             // As for softmax.
    u64 rows;
    long long ignore_index;
    double label_smoothing, z_loss, softcap;
    u32 cols, weight_type, reduction, padding;
};

// What is known of a call before any logit is read.
struct Settled {
    double of_targets; // The sum of the weights of the targets that count,
    double counted;    // and how many these are.
    double weight_sum; // Of all classes.
    u64 first_refused; // The first row whose target is no class, or all bits set.
};

// What a row adds to the loss.
struct RowLoss {
    double entropy, z;
};

// Of targets in a row of logits: one that is ignored may be the number of a class.
DEVICE bool is_ignored(const CrossEntropyArguments& a, long long target) { return target == a.ignore_index; }
DEVICE bool is_counted(const CrossEntropyArguments& a, long long target) {
    return !is_ignored(a, target) && (u64)target < a.cols;
}

DEVICE double weight_of(const CrossEntropyArguments& a, u32 column) {
    const Operand weight = {a.weight, a.weight_type, 1.0f};
    float value;
    weight.load<F32, 1>(column, &value);
    return (double)value;
}

// A term whose factor is 0 is 0, whatever it is.
DEVICE double times(double factor, double term) { return factor == 0.0 ? 0.0 : factor * term; }

// The loss of a live row. `distances` is `distance` added up over the row, where there is smoothing.
DEVICE RowLoss loss_of(const CrossEntropyArguments& a, u32 target, double max, double logit, double log_sum,
                       double distances) {
    const double nll = (max - logit) + log_sum, lse = max + log_sum;
    double entropy = times(weight_of(a, target) * (1.0 - a.label_smoothing), nll);
    if (a.label_smoothing != 0.0) {
        const double share = a.label_smoothing / (double)a.cols;
        entropy += distances + times(share * ((const Settled*)a.settled)->weight_sum, log_sum);
    }
    return {entropy, a.z_loss == 0.0 ? 0.0 : a.z_loss * lse * lse};
}

// s/V w (max - z) by a power of two smaller, so that no distance overflows and rule B has room.
const double DISTANCE_UP = 0x1p128, DISTANCE_DOWN = 0x1p-128;
DEVICE double distance(const CrossEntropyArguments& a, u32 column, double max, double z) {
    const double share = a.label_smoothing / (double)a.cols;
    return times(share * weight_of(a, column), max * DISTANCE_DOWN - z * DISTANCE_DOWN);
}

DEVICE void write_loss(const CrossEntropyArguments& a, u64 index, RowLoss loss) {
    if (threadIdx.x > 0) {
        return;
    }
    if (a.reduction != NO_REDUCTION) {
        ((RowLoss*)a.parts)[index] = loss;
    } else {
        const double sum = loss.entropy + loss.z;
        ((double*)a.losses)[index] = sum == sum ? sum : NOT_A_NUMBER;
    }
}

// What the sums of the rows' two parts are divided by.
DEVICE RowLoss divisors(const CrossEntropyArguments& a) {
    const Settled& settled = *(const Settled*)a.settled;
    return a.reduction == MEAN ? RowLoss{settled.of_targets, settled.counted} : RowLoss{1.0, 1.0};
}

// What the gradient of a live row is made of: `of` each exponential, but for the target's.
struct Gradient {
    double high, low, of_weight, at_target;

    DEVICE double of(float e, double weight) const {
        return fma((double)e, high, (double)e * low) - of_weight * weight;
    }

    // `power` is the target's exponential.
    DEVICE Gradient(const CrossEntropyArguments& a, u64 index, u32 target, double lse, const Powers& powers, float power) {
        const double dloss = ((const double*)a.dloss)[a.reduction == NO_REDUCTION ? index : 0];
        // Beyond f64 the largest number stands in, so that an exponential of 0 stays 0.
        const auto finite = [=](double factor) { return saturate(factor, fabs(dloss)); };
        const auto over = [=](double divisor) { return divisor == 0.0 ? 0.0 : finite(dloss / divisor); };
        const RowLoss by = divisors(a);
        const double entropy = over(by.entropy), weight = weight_of(a, target);
        const double share = a.label_smoothing / (double)a.cols;
        const double of_lse = a.z_loss == 0.0 ? 0.0 : finite(2.0 * a.z_loss * over(by.z)) * lse;
        const double of_target = finite(entropy * (weight * (1.0 - a.label_smoothing)));
        const double of_all = finite(entropy * (share * ((const Settled*)a.settled)->weight_sum) + of_lse);
        of_weight = entropy * share;
        // Little is left only of a peaked row without its largest.
        const double sum = sum_of_units(powers.units, a.cols), one = (double)power;
        const bool is_little = powers.peaked && power == 1.0f;
        const double others = is_little ? powers.rest : sum_of_units(without(powers.units, one, a.cols), a.cols);
        at_target = of_all * (one / sum) - of_weight * weight - of_target * (others / sum);
        // The factor over the sum, as a sum of two: of one that is not finite there is no rest. The sign of a 0 counts.
        const double factor = finite(of_target + of_all);
        high = factor / sum;
        const double rest = fma(-high, sum, factor) - high * 0.0;
        low = fabs(high) < (double)INFINITE && fabs(rest) < (double)INFINITE ? rest / sum : 0.0;
    }
};

// Fills a row of gradients, if there are any.
template <class S, template <class> class By>
DEVICE void fill(typename S::Bits* to, u32 cols, u32 value) {
    const u32 COUNT = By<S>::COUNT;
    u32 bits[COUNT];
    for (u32 i = 0; i < COUNT; i++) {
        bits[i] = value;
    }
    ROLLED
    for (u32 column = threadIdx.x * COUNT; to && column < cols; column += blockDim.x * COUNT) {
        By<S>::store(to + column, bits);
    }
}

// A row that does not count, or whose target is no class: neither is read.
template <class S, template <class> class By>
DEVICE void pass_over(const CrossEntropyArguments& a, u64 index, long long target, typename S::Bits* to) {
    write_loss(a, index, {is_ignored(a, target) ? 0.0 : NOT_A_NUMBER, 0.0});
    fill<S, By>(to, a.cols, is_ignored(a, target) ? 0 : S::NOT_A_NUMBER);
}

// A row with a NaN or +inf, or without a logit.
template <class S, template <class> class By>
DEVICE void stand_in(const CrossEntropyArguments& a, u64 index, u32 target, bool nan, bool masked,
                     typename S::Bits* to) {
    const double term = masked ? (double)INFINITE : NOT_A_NUMBER;
    const bool counts = !masked || weight_of(a, target) != 0.0 || a.label_smoothing != 0.0;
    write_loss(a, index, {counts ? term : 0.0, a.z_loss == 0.0 ? 0.0 : term});
    fill<S, By>(to, a.cols, masked ? 0 : S::NOT_A_NUMBER);
    meet(a.met, index, nan, masked);
}
