// Gradients of swiglu with respect to both arguments, as `src/cpu/swiglu_backward.rs` defines them. Both gradients use
// the same exponential.
#include "elementwise_backward.cuh"
#include "swiglu.cuh"

struct SwigluBackwardArguments {
    u64 gate, up, dy, dgate, dup; // [len]
    u64 len;
};

// Computes the gradient of the gate in f64.
DEVICE double by_gate(double gate, double up, double dy) {
    // The product of two f32 is exact in f64. If `up` is NaN, a gradient of 0 becomes NaN too.
    return up == up ? unless_zero(gate, dy, times_derivative(dy * up, silu_derivative(gate))) : NOT_A_NUMBER;
}

// Computes the gradient of `up` in f64.
DEVICE double by_up(double gate, double dy) { return unless_zero(gate, dy, swiglu_wide(gate, dy)); }

struct NearGradients {
    Interval gate, up;
};

// If the magnitude of a product is at least this number, f32 can represent the product's rounding error.
const float LEAST_PRODUCT = 0x1p-100f;

// Returns intervals around both gradients, for elements of a 16-bit type. If an interval must not be used, its ends are
// set to numbers that round differently.
template <class S>
DEVICE NearGradients near_gradients(float gate, float up, float dy) {
    const float above = max_or_nan(gate, -200.0f), x = min_or_nan(above, 200.0f);
    const NearLogistic v(fabsf(x) * -LOG2_E);
    const bool negative = x < 0.0f;
    const float product = dy * up;
    Interval of_gate = times_factor<S>(product, near_gate_derivative(v, x, negative, 0.875f, 0.0f));
    // The product is exact if it neither overflows nor underflows.
    const float size = fabsf(product);
    const bool fits = (LEAST_PRODUCT <= size && size < INFINITE) || up == 0.0f;
    if (HasSmallNumbers<S>::VALUE && !fits) {
        of_gate = {0.0f, INFINITE};
    }
    // The margin is 10 u for the share of the gate, 2 u for the products, and 2 u for the ends.
    const Factors by(14.25f, 0.875f, negative ? size_of(v.t) : 0.0f);
    const Interval share = around_positive(negative ? v.q : v.r, by, 0x1p-125f);
    const float from = product_ftz(product_ftz(above, share.from), dy);
    const float to = product_up(product_up(fabsf(above), share.to), fabsf(dy));
    const Interval of_up = {from, with_flipped_sign(with_flipped_sign(to, above), dy)};
    const bool is_zero = dy == 0.0f && gate == gate, is_zero_gate = is_zero && up == up;
    return {{is_zero_gate ? dy : of_gate.from, is_zero_gate ? dy : of_gate.to},
            {is_zero ? dy : of_up.from, is_zero ? dy : of_up.to}};
}

struct PairGradients {
    Sides gate, up;
};

// Returns bounds on both sides of both gradients, for f32 elements.
DEVICE PairGradients pair_gradients(const PairTables& tables, float gate, float up, float dy) {
    const float x = clamped(gate, PAIR_LARGEST);
    const bool negative = gate < 0.0f, serves = -PAIR_LARGEST < gate;
    const LogisticPairs v = logistic_pairs<false>(tables, 0.0f - fabsf(x), 0.0f);

    const float product = dy * up;
    const FloatSum exact = {product, fmaf(dy, up, 0.0f - product)};
    Sides of_gate = product_sides(exact, gate_derivative_pair(v, {x, 0.0f}, negative, serves));
    const bool is_zero_gate = dy == 0.0f && gate == gate && up == up;
    of_gate.serves = is_zero_gate || (of_gate.serves && LEAST_PRODUCT < fabsf(product));

    const FloatSum silu = pair_product({gate, 0.0f}, negative ? v.q : v.r);
    const float size = fabsf(silu.hi), most = gate * dy;
    Sides of_up = product_sides({dy, 0.0f}, {silu, size, serves && LEAST_PRODUCT < size});
    // The result is at most gate * dy in magnitude. If gate * dy is zero, the result is zero too.
    const bool is_zero = most == 0.0f && (gate == 0.0f || dy == 0.0f);
    const float zero = dy == 0.0f ? dy : most;
    of_up.serves = is_zero || of_up.serves;
    return {{is_zero_gate ? dy : of_gate.above, is_zero_gate ? dy : of_gate.below, of_gate.serves},
            {is_zero ? zero : of_up.above, is_zero ? zero : of_up.below, of_up.serves}};
}

template <class S>
DEVICE void swiglu_backward(const SwigluBackwardArguments& a) {
    typedef typename S::Bits Bits;
    // Three loads of 16 bytes are in flight.
    typedef Piece<S, 4> Words;
    const u64 TILE = Words::TILE;
    constexpr bool IS_PAIR = sizeof(Bits) == 4;
    __shared__ PairTables tables;
    if constexpr (IS_PAIR) {
        tables.fill();
        __syncthreads();
    }
    const bool is_aligned = (a.gate | a.up | a.dy | a.dgate | a.dup) % 16 == 0;
    for (u64 start = blockIdx.x * TILE; start < a.len; start += gridDim.x * TILE) {
        const u64 left = a.len - start;
        const bool is_whole = is_aligned && left >= TILE;
        const Bits *gates = (const Bits*)a.gate + start, *ups = (const Bits*)a.up + start;
        const Bits* dys = (const Bits*)a.dy + start;
        Words gate, up, dy;
        gate.load(gates, left, is_whole);
        up.load(ups, left, is_whole);
        dy.load(dys, left, is_whole);
        // Bit mask of the elements whose rounding is uncertain.
        u32 mask = 0;
        // The loop stores each gradient in the registers of its operand.
        for (u32 w = 0; w < Words::WORDS; w++) {
            if constexpr (IS_PAIR) {
                const PairGradients found =
                    pair_gradients(tables, float_of(gate.words[w]), float_of(up.words[w]), float_of(dy.words[w]));
                gate.words[w] = bits_of(found.gate.above);
                up.words[w] = bits_of(found.up.above);
                const u32 differ =
                    (gate.words[w] ^ bits_of(found.gate.below)) | (up.words[w] ^ bits_of(found.up.below));
                mask |= (differ != 0 || !found.gate.serves || !found.up.serves) << w;
            } else {
                const u32 words[3] = {gate.words[w], up.words[w], dy.words[w]};
                const NearGradients low =
                    near_gradients<S>(S::low_of(words[0]), S::low_of(words[1]), S::low_of(words[2]));
                const NearGradients high =
                    near_gradients<S>(S::high_of(words[0]), S::high_of(words[1]), S::high_of(words[2]));
                const u32 of_gate = S::narrow_two(low.gate.from, high.gate.from);
                const u32 of_up = S::narrow_two(low.up.from, high.up.from);
                const u32 differ = (of_gate ^ S::narrow_two(low.gate.to, high.gate.to)) |
                                   (of_up ^ S::narrow_two(low.up.to, high.up.to));
                gate.words[w] = with_own_nan<S>(of_gate);
                up.words[w] = with_own_nan<S>(of_up);
                mask |= ((differ & 0xffff) != 0) << (2 * w) | (differ >> 16 != 0) << (2 * w + 1);
            }
        }
        // Computes one element at a time, so that the code in f64 occurs once. The results may overwrite an operand, so
        // they are stored only after this loop has read the operands.
        ROLLED
        while (mask != 0) {
            const u32 i = (u32)__ffs((int)mask) - 1;
            mask &= mask - 1;
            const u32 at = Words::place(i, is_whole);
            const u64 index = at < left ? at : 0;
            const double of_gate = S::widen(gates[index]), of_up = S::widen(ups[index]), of_dy = S::widen(dys[index]);
            gate.set(i, store_wide<S>(by_gate(of_gate, of_up, of_dy)));
            up.set(i, store_wide<S>(by_up(of_gate, of_dy)));
        }
        gate.store((Bits*)a.dgate + start, left, is_whole);
        up.store((Bits*)a.dup + start, left, is_whole);
    }
}

#define SWIGLU_BACKWARD(NAME, S)                                                                                       \
    ENTRY_OF_BLOCKS(NAME, SwigluBackwardArguments, ELEMENTWISE_THREADS, ELEMENTWISE_BLOCKS,                            \
                    (swiglu_backward<S>(arguments)))
SWIGLU_BACKWARD(swiglu_backward_f32, F32)
SWIGLU_BACKWARD(swiglu_backward_f16, F16)
SWIGLU_BACKWARD(swiglu_backward_bf16, BF16)
