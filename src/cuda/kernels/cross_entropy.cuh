// Definitions shared by the cross-entropy kernels, as in `src/cpu/cross_entropy.rs` and
// `src/cpu/cross_entropy_backward.rs`: a row's loss, the factors of its gradient, and rows without a finite loss.
#pragma once
#include "block_exps.cuh"
#include "masked.cuh"
#include "norm.cuh"

enum Reduction { NO_REDUCTION, MEAN, SUM };

struct CrossEntropyArguments {
    u64 logits, dlogits; // [rows, cols]; `dlogits` may be `logits`, or 0
    u64 targets;         // [rows], signed 64-bit integers
    u64 weight;          // [cols], or 0
    u64 dloss;           // [1], or [rows] without a reduction; f64
    u64 losses;          // Output, with the shape of `dloss`.
    u64 parts;           // [rows] of `RowLoss`, if losses are reduced
    u64 settled;         // `Settled`
    u64 guards;          // As in `ScoresArguments`.
    u64 rows;
    long long ignore_index;
    double label_smoothing, z_loss, softcap;
    u32 cols, weight_type, reduction, padding;
};

// Values that depend only on the targets and class weights.
struct Settled {
    double of_targets; // Sum of the class weights of the targets for which `is_counted` holds.
    double counted;    // Number of these targets.
    double weight_sum; // Sum of the weights of all classes.
    u64 first_refused; // First row whose target is neither a class nor ignored; all bits set if there is none.
};

// Contribution of a row to the loss.
struct RowLoss {
    double entropy, z;
};

// Returns whether a target is ignored. The ignored index may also be the index of a class.
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

// Returns `factor` * `term`. If the factor is 0, the result is 0 even if `term` is not finite.
DEVICE double times(double factor, double term) { return factor == 0.0 ? 0.0 : factor * term; }

// Returns the loss of a row whose maximum is finite. With label smoothing, `distances` is `DISTANCE_UP` times the sum
// of `distance` over the row.
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

// Let s be the label smoothing, V the number of classes, w a class weight, and z a logit. The distance (s / V) * w *
// (max - z) is multiplied by 2^-128, so that it neither overflows nor exceeds the range of a binned sum.
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

// Returns the divisors of a reduced loss: one for the sum of cross-entropies, one for the sum of z-losses.
DEVICE RowLoss divisors(const CrossEntropyArguments& a) {
    const Settled& settled = *(const Settled*)a.settled;
    return a.reduction == MEAN ? RowLoss{settled.of_targets, settled.counted} : RowLoss{1.0, 1.0};
}

// Factors of the gradient of a row whose maximum is finite. `at_target` is the gradient at the target's column, and
// `of` returns the gradient at any other column.
struct Gradient {
    double high, low, of_weight, at_target, dloss;

    DEVICE double of(float e, double weight) const {
        return fma((double)e, high, (double)e * low) - of_weight * weight;
    }

    // Returns `value`, clamped to finite numbers if dloss is finite.
    DEVICE double finite(double value) const { return saturate(value, fabs(dloss)); }

    // Returns whether gradients are computed in f32. For factors from 1e-24 to 1e24, a float-float pair holds 48 bits.
    DEVICE bool is_plain() const {
        const double magnitude = fabs(high);
        return of_weight == 0.0 && magnitude >= 1e-24 && magnitude < 1e24;
    }

    // Returns the gradient in f32, before it is rounded to the storage type.
    DEVICE float plain(float e) const {
        const float first = (float)high;
        return scaled(e, first, (float)(high - (double)first));
    }

    // Computes the factors. `power` is the target's exponential.
    DEVICE Gradient(const CrossEntropyArguments& a, u64 index, u32 target, double lse, const Powers& powers, float power) {
        dloss = ((const double*)a.dloss)[a.reduction == NO_REDUCTION ? index : 0];
        // Factors are made finite, so that their products with 0 are 0.
        const auto over = [&](double divisor) { return divisor == 0.0 ? 0.0 : finite(dloss / divisor); };
        const RowLoss by = divisors(a);
        const double entropy = over(by.entropy), weight = weight_of(a, target);
        const double share = a.label_smoothing / (double)a.cols;
        const double of_lse = a.z_loss == 0.0 ? 0.0 : finite(finite(a.z_loss * over(by.z)) * lse * 2.0);
        const double of_target = finite(entropy * (weight * (1.0 - a.label_smoothing)));
        const double of_all = finite(finite(entropy * (share * ((const Settled*)a.settled)->weight_sum)) + of_lse);
        of_weight = entropy * share;
        // If the target's exponential dominates the row, the sum of the other exponentials was computed separately.
        const double sum = sum_of_units(powers.units, a.cols), one = (double)power;
        const bool is_little = powers.max_dominated && power == 1.0f;
        const double others = is_little ? powers.rest : sum_of_units(without(powers.units, one, a.cols), a.cols);
        at_target = of_all * (one / sum) - of_weight * weight - of_target * (others / sum);
        // Divides the factor by the sum. The quotient is the pair `high` + `low`. If it is not finite, `low` is 0.
        const double factor = finite(of_target + of_all);
        high = factor / sum;
        const double rest = fma(-high, sum, factor) - high * 0.0;
        low = fabs(high) < (double)INFINITE && fabs(rest) < (double)INFINITE ? rest / sum : 0.0;
    }
};

// Sets all gradients of a row to `value`, if gradients are requested.
template <class S>
DEVICE void fill(typename S::Bits* to, u32 cols, u32 value) {
    const u32 COUNT = Vectors<S>::COUNT;
    if (!to) {
        return;
    }
    const Division<S> parts(to, cols);
    u32 bits[COUNT];
    for (u32 i = 0; i < COUNT; i++) {
        bits[i] = value;
    }
    ROLLED
    for (u32 column = threadIdx.x * COUNT; column < parts.inner; column += blockDim.x * COUNT) {
        Vectors<S>::store(to + parts.head + column, bits);
    }
    if (parts.has_edge()) {
        to[parts.edge()] = (typename S::Bits)value;
    }
}

// Writes the loss and the gradient of a row whose target is ignored or not a class. The row's logits are not read.
template <class S>
DEVICE void pass_over(const CrossEntropyArguments& a, u64 index, long long target, typename S::Bits* to) {
    write_loss(a, index, {is_ignored(a, target) ? 0.0 : NOT_A_NUMBER, 0.0});
    fill<S>(to, a.cols, is_ignored(a, target) ? 0 : S::NOT_A_NUMBER);
}

// Writes the loss and the gradient of a row with a NaN or +inf, or without an unmasked logit, and counts the row.
template <class S>
DEVICE void fill_value(const CrossEntropyArguments& a, u64 index, u32 target, bool nan, bool masked,
                       typename S::Bits* to) {
    const double term = masked ? (double)INFINITE : NOT_A_NUMBER;
    const bool counts = !masked || weight_of(a, target) != 0.0 || a.label_smoothing != 0.0;
    write_loss(a, index, {counts ? term : 0.0, a.z_loss == 0.0 ? 0.0 : term});
    fill<S>(to, a.cols, masked ? 0 : S::NOT_A_NUMBER);
    count_guards(a.guards, index, nan, masked);
}
