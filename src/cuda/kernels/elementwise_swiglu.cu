// The gated linear unit with silu, as `src/math/swiglu.rs` defines it: silu(gate) * up.
#include "approx_derivative.cuh"
#include "elementwise.cuh"
#include "softmax_exp.cuh"
#include "swiglu.cuh"

// Tables of `SoftmaxExp` whose entries are computed at each use.
struct SeldomTables {
    const SoftmaxExp& exp;
    DEVICE Entry of(u32 j) const { return exp.entry(j & 7, 0.0); }
};

// silu(gate) * up, computed in f32. `serves` says whether the CPU returns this f32 value. The CPU uses f64 if an
// intermediate value may underflow or overflow.
struct NarrowProduct {
    float y;
    bool serves;

    DEVICE NarrowProduct(float gate, float up, float silu, float product, bool is_in_range) {
        const float LEAST = 0x1p-100f, most = gate * up;
        const bool is_zero = most == 0.0f;
        const bool fits = LEAST <= fabsf(silu) && LEAST <= fabsf(product) && fabsf(product) < INFINITE;
        y = is_zero ? most : product;
        serves = is_zero || (is_in_range && fits);
    }
};

// Computes silu(gate) * up for f32 elements, in float-float pairs. The operations are those of `share` and
// `Narrow::product` in `src/math/swiglu.rs`, because they define the bits. So the reciprocal is correctly rounded.
DEVICE NarrowProduct narrow_pair(const PairTables& tables, float gate, float up) {
    const float minus = 0.0f - fabsf(gate);
    const Pair e = exp_pair<false>(tables, -PAIR_LARGEST > minus ? -PAIR_LARGEST : minus, 0.0f);
    const FloatSum t = fast_two_sum(e.hi, e.lo), d = fast_two_sum(1.0f, t.hi);
    const bool negative = gate < 0.0f;
    const float n = negative ? t.hi : 1.0f, n_low = negative ? t.lo : 0.0f;
    const float reciprocal = 1.0f / d.hi, share = n * reciprocal;
    const float rest = fmaf(0.0f - share, d.hi, n) + fmaf(0.0f - share, d.lo + t.lo, n_low);
    const float silu = gate * share;
    const float silu_low = fmaf(gate, rest * reciprocal, fmaf(gate, share, 0.0f - silu));
    const float y = silu * up, low = fmaf(silu_low, up, fmaf(silu, up, 0.0f - y));
    return {gate, up, silu, fast_two_sum(y, low).hi, -PAIR_LARGEST < gate};
}

// Computes silu(gate) * up in f32, for elements of a 16-bit type.
DEVICE NarrowProduct narrow_single(float gate, float up) {
    const SoftmaxExp exp(0.0f, -INFINITE);
    const float t = exp.power<false>(SeldomTables{exp}, 0.0f - fabsf(gate));
    const float silu = gate * ((gate < 0.0f ? t : 1.0f) / (1.0f + t));
    return {gate, up, silu, silu * up, gate == gate};
}

template <class S>
struct Swiglu {
    typedef PairTables Tables;
    static const bool OF_TWO = true, HAS_NEAR = true, HAS_PAIR = true;
    DEVICE Swiglu(const ElementwiseArguments&) {}

    // Returns the CPU's value. For f32, this function is called only if `narrow_pair` returns a product whose `serves`
    // is false.
    DEVICE double operator()(double gate, double up) const {
        if (sizeof(typename S::Bits) == 2) {
            const NarrowProduct found = narrow_single((float)gate, (float)up);
            if (found.serves) {
                return (double)found.y;
            }
        }
        return swiglu_wide(gate, up);
    }

    // The interval must contain the CPU's value, which has an error below 6 u: 1.4 u for the exponential, and 1 u each
    // for the sum, the quotient and the two products. The margin adds these 6 u, and 2 u for the products here.
    template <class U>
    DEVICE Interval near(float gate, float up) const {
        gate = max_or_nan(gate, -200.0f);
        const Interval share = near_share(gate, 8.0f);
        const float from = product_ftz(product_ftz(gate, share.from), up);
        const float to = product_up(product_up(fabsf(gate), share.to), fabsf(up));
        return {from, with_flipped_sign(with_flipped_sign(to, gate), up)};
    }

    // Returns the CPU's value, bit for bit, as both bounds. The rounding test then always passes.
    DEVICE Sides sides(const PairTables& tables, float gate, float up) const {
        const NarrowProduct found = narrow_pair(tables, gate, up);
        return {found.y, found.y, found.serves};
    }
};

ELEMENTWISE_ENTRY(swiglu_f32, F32, Swiglu<F32>)
ELEMENTWISE_ENTRY(swiglu_f16, F16, Swiglu<F16>)
ELEMENTWISE_ENTRY(swiglu_bf16, BF16, Swiglu<BF16>)
