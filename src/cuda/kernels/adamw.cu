// A step of Adam with decoupled weight decay, as `src/train/adamw.rs` and `src/cpu/optimizer.rs` define it, in f64. The
// first kernel computes the factors of a step once, and each of the others updates the elements of one parameter.
#include "philox.cuh"
#include "wide.cuh"

// Number of steps, and the factors of the current step, in device memory.
struct AdamWProgress {
    u64 steps, skipped;
    // Number of steps before the current step.
    u64 before;
    // Whether the current step changes nothing, because a gradient is not finite.
    u64 is_skipped;
    double beta1, beta2, keep, rate, eps;
};

struct AdamWBeginArguments {
    u64 progress;
    u64 norm; // f64, or 0
    double beta1, beta2, keep, lr, eps;
    // ln(beta1) and ln(beta2), each as the sum of two f64.
    Sum log1, log2;
};

DEVICE Sum plus(Sum a, Sum b) {
    const Sum high = two_sum(a.hi, b.hi), low = two_sum(a.lo, b.lo);
    const Sum sum = two_sum(high.hi, high.lo + low.hi);
    return two_sum(sum.hi, sum.lo + low.lo);
}

DEVICE Sum times(Sum a, Sum b) {
    const double high = a.hi * b.hi, error = fma(a.hi, b.hi, -high);
    return two_sum(high, error + fma(a.hi, b.lo, a.lo * b.hi));
}

DEVICE Sum over(Sum a, double divisor) {
    const double high = a.hi / divisor;
    // On the CPU, the divisor also has a low part. Here the low part is zero, so the term for it is left out.
    return two_sum(high, (fma(-high, divisor, a.hi) + a.lo) / divisor);
}

// Rounds to the nearest integer. Halves are rounded away from zero. |x| must be below 2^31.
DEVICE double to_integer(double x) {
    const double whole = (double)(int)x, rest = x - whole;
    return fabs(rest) < 0.5 ? whole : whole + (x < 0.0 ? -1.0 : 1.0);
}

// Returns 2^n for an integer n from -1022 to 1023.
DEVICE double integer_power_of_two(double n) { return wide_of((u64)((int)n + 1023) << 52); }

// Computes e^x for x from -50 to 0, as `src/math/power.rs` does.
DEVICE Sum accurate_exp(Sum x) {
    const double LN_2[3] = {wide_of(0x3fe62e42fefa2000), wide_of(0x3d69ef35793c6000), wide_of(0x3ae673007e5ed5e8)};
    const double n = to_integer(x.hi * 0x1.71547652b82fep+0);
    Sum r = x;
    for (u32 i = 0; i < 3; i++) {
        r = plus(r, {-n * LN_2[i], 0.0});
    }
    double tail = 0.0;
    ROLLED
    for (int i = 26; i >= 13; i--) {
        tail = (1.0 + tail) * r.hi / (double)i;
    }
    Sum term = {1.0, 0.0}, sum = {1.0, 0.0};
    ROLLED
    for (int i = 1; i <= 12; i++) {
        term = over(times(term, r), (double)i);
        sum = plus(sum, term);
    }
    sum = plus(sum, {term.hi * tail, 0.0});
    // The CPU scales in two steps, which give the same numbers here, because no product is subnormal.
    const double power = integer_power_of_two(n);
    return {sum.hi * power, sum.lo * power};
}

// Computes 1 - beta^steps.
DEVICE double bias(double beta, Sum log, u64 steps) {
    if (beta == 0.0) {
        return 1.0;
    }
    const Sum exponent = times(log, {(double)steps, 0.0});
    if (exponent.hi < -50.0) {
        return 1.0;
    }
    const Sum power = accurate_exp(exponent);
    return plus({1.0, 0.0}, {-power.hi, -power.lo}).hi;
}

DEVICE void begin(const AdamWBeginArguments& a) {
    if (threadIdx.x > 0) {
        return;
    }
    AdamWProgress& to = *(AdamWProgress*)a.progress;
    const bool is_finite = a.norm == 0 || fabs(*(const double*)a.norm) < INFINITE;
    to.is_skipped = !is_finite;
    if (!is_finite) {
        to.skipped++;
        return;
    }
    const u64 before = to.steps, steps = before + (before < ~0ull);
    const double bias1 = bias(a.beta1, a.log1, steps);
    // The numerator and the denominator of the update are both multiplied by the square root of 1 - beta2^steps.
    const double root = sqrt(bias(a.beta2, a.log2, steps));
    to.steps = steps, to.before = before;
    to.beta1 = a.beta1, to.beta2 = a.beta2, to.keep = a.keep;
    to.rate = a.lr / bias1 * root;
    to.eps = a.eps * root;
}

struct AdamWArguments {
    u64 progress;
    u64 weights;
    u64 master; // f32; 0 if the weights have no master weights
    u64 mean, root; // f32
    u64 gradient;
    u64 gradient_type; // 0: f32, 1: f16, 2: bf16
    u64 len;
    u64 seed, tensor; // of stochastic rounding
};

// Consecutive elements that a thread processes. Philox gives random bits for four elements.
const u32 FOUR = 4;

template <class S>
DEVICE void load_four(u64 from, u64 first, u32 count, u32 (&bits)[FOUR]) {
    typedef typename S::Bits Bits;
    const Bits* at = (const Bits*)from + first;
    if (count == FOUR && (u64)at % (FOUR * sizeof(Bits)) == 0) {
        if constexpr (sizeof(Bits) == 4) {
            const uint4 v = *(const uint4*)at;
            bits[0] = v.x, bits[1] = v.y, bits[2] = v.z, bits[3] = v.w;
        } else {
            const u64 v = *(const u64*)at;
            for (u32 i = 0; i < FOUR; i++) {
                bits[i] = (u32)(v >> (16 * i)) & 0xffff;
            }
        }
        return;
    }
    for (u32 i = 0; i < FOUR; i++) {
        bits[i] = i < count ? at[i] : 0;
    }
}

template <class S>
DEVICE void store_four(u64 to, u64 first, u32 count, const u32 (&bits)[FOUR]) {
    typedef typename S::Bits Bits;
    Bits* at = (Bits*)to + first;
    if (count == FOUR && (u64)at % (FOUR * sizeof(Bits)) == 0) {
        if constexpr (sizeof(Bits) == 4) {
            *(uint4*)at = {bits[0], bits[1], bits[2], bits[3]};
        } else {
            *(u64*)at = (u64)(bits[0] | bits[1] << 16) | (u64)(bits[2] | bits[3] << 16) << 32;
        }
        return;
    }
    for (u32 i = 0; i < FOUR; i++) {
        if (i < count) {
            at[i] = (Bits)bits[i];
        }
    }
}

// Loads values as `load_four` does, and converts them to f32.
template <class S>
DEVICE void load_wide(u64 from, u64 first, u32 count, u32 (&bits)[FOUR]) {
    load_four<S>(from, first, count, bits);
    for (u32 i = 0; i < FOUR; i++) {
        bits[i] = bits_of(S::widen(bits[i]));
    }
}

template <class S>
DEVICE u32 narrow_or_nan(float v) { return v != v ? S::NOT_A_NUMBER : S::narrow(v); }

template <class S>
struct Limits;
template <>
struct Limits<F16> {
    static constexpr double MAX = 65504.0, MIN_NORMAL = 0x1p-14, EPSILON = 0x1p-10;
};
template <>
struct Limits<BF16> {
    static constexpr double MAX = 0x1.fep127, MIN_NORMAL = 0x1p-126, EPSILON = 0x1p-7;
};

// Rounds x to one of its two neighbours, as `src/cpu/stochastic_rounding.rs` does.
template <class S>
DEVICE u32 rounded_stochastically(float x, u32 random) {
    const double magnitude = fabs((double)x);
    if (magnitude > Limits<S>::MAX || x != x) {
        return narrow_or_nan<S>(x);
    }
    const u64 EXPONENT = 0x7ff0000000000000;
    const double binade = wide_of(bits_of_wide(larger(magnitude, Limits<S>::MIN_NORMAL)) & EXPONENT);
    const double unit = binade * Limits<S>::EPSILON, units = magnitude / unit;
    const double below = (double)(u32)units;
    const bool up = ((double)random + 0.5) * 0x1p-32 < units - below;
    const float result = (float)((up ? below + 1.0 : below) * unit);
    return S::narrow(float_of(bits_of(result) | (bits_of(x) & 0x80000000)));
}

template <class S>
DEVICE void step(const AdamWArguments& a) {
    constexpr bool IS_F32 = sizeof(typename S::Bits) == 4;
    const AdamWProgress& by = *(const AdamWProgress*)a.progress;
    if (by.is_skipped) {
        return;
    }
    const double beta1 = by.beta1, rest1 = 1.0 - beta1, beta2 = by.beta2, rest2 = 1.0 - beta2;
    const double keep = by.keep, rate = by.rate, eps = by.eps;
    const bool is_stochastic = !IS_F32 && a.master == 0;
    PhiloxWords key = {};
    if (is_stochastic) {
        // Each step has a key of its own, derived from the seed.
        const u64 seed = a.seed ^ 0x67646e722d6b7665; // "evk-rndg"
        key = philox4x32({{(u32)by.before, (u32)(by.before >> 32), 0, 0}}, (u32)seed, (u32)(seed >> 32));
    }
    const u64 groups = (a.len + FOUR - 1) / FOUR, threads = (u64)gridDim.x * blockDim.x;
    for (u64 group = (u64)blockIdx.x * blockDim.x + threadIdx.x; group < groups; group += threads) {
        const u64 first = group * FOUR;
        const u32 count = a.len - first < FOUR ? (u32)(a.len - first) : FOUR;
        u32 w[FOUR], m[FOUR], u[FOUR], g[FOUR], p[FOUR];
        load_four<F32>(a.mean, first, count, m);
        load_four<F32>(a.root, first, count, u);
        if (a.gradient_type == 0) {
            load_four<F32>(a.gradient, first, count, g);
        } else if (a.gradient_type == 1) {
            load_wide<F16>(a.gradient, first, count, g);
        } else {
            load_wide<BF16>(a.gradient, first, count, g);
        }
        load_four<S>(a.weights, first, count, p);
        for (u32 i = 0; i < FOUR; i++) {
            w[i] = bits_of(S::widen(p[i]));
        }
        if (!IS_F32 && !is_stochastic) {
            u32 master[FOUR];
            load_four<F32>(a.master, first, count, master);
            // A master weight that does not round to the stored weight is replaced by the stored weight.
            for (u32 i = 0; i < FOUR; i++) {
                const float rounded = S::widen(S::narrow(float_of(master[i])));
                w[i] = rounded == float_of(w[i]) ? master[i] : w[i];
            }
        }
        for (u32 i = 0; i < FOUR; i++) {
            const double wide_g = float_of(g[i]), wide_u = float_of(u[i]);
            m[i] = store_wide<F32>((double)float_of(m[i]) * beta1 + wide_g * rest1);
            u[i] = store_wide<F32>(sqrt(wide_u * wide_u * beta2 + wide_g * wide_g * rest2));
            const double change = (double)float_of(m[i]) / ((double)float_of(u[i]) + eps) * rate;
            w[i] = store_wide<F32>((double)float_of(w[i]) * keep - change);
        }
        store_four<F32>(a.mean, first, count, m);
        store_four<F32>(a.root, first, count, u);
        if constexpr (IS_F32) {
            store_four<F32>(a.weights, first, count, w);
        } else {
            if (is_stochastic) {
                const PhiloxWords at = {{(u32)group, (u32)(group >> 32), (u32)a.tensor, (u32)(a.tensor >> 32)}};
                const PhiloxWords random = philox4x32(at, key.c[0], key.c[1]);
                for (u32 i = 0; i < FOUR; i++) {
                    p[i] = rounded_stochastically<S>(float_of(w[i]), random.c[i]);
                }
            } else {
                store_four<F32>(a.master, first, count, w);
                for (u32 i = 0; i < FOUR; i++) {
                    p[i] = narrow_or_nan<S>(float_of(w[i]));
                }
            }
            store_four<S>(a.weights, first, count, p);
        }
    }
}

ENTRY(adamw_begin, AdamWBeginArguments, 32, (begin(arguments)))
ENTRY_OF_BLOCKS(adamw_f32, AdamWArguments, 256, 4, (step<F32>(arguments)))
ENTRY_OF_BLOCKS(adamw_f16, AdamWArguments, 256, 4, (step<F16>(arguments)))
ENTRY_OF_BLOCKS(adamw_bf16, AdamWArguments, 256, 4, (step<BF16>(arguments)))
