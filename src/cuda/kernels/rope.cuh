// Rotation of the pairs of a row, as in `src/cpu/rope.rs`: each result is computed in f64 and rounded once.
//
// For 16-bit types, a result is first computed in f32 together with a bound of its error. If the results at both ends
// of the bound round to the same bits, these are the bits of the f64 computation. Otherwise the pair is rotated in f64.
#pragma once
#include "wide.cuh"

// Bound on the error of an f32 result, relative to |a * c| + |b * s|. The result is the sum of a * c and b * s, where a
// and b are the elements of a pair, and c and s are their factors. At most four errors of 2^-24 add up: those of the
// factors c and s, of the product b * s, of the sum, and of the sum plus the bound. A fifth error of 2^-24 covers terms
// of higher order.
const float TURN_UNCERTAINTY = 5.0f / (1 << 24);
// The bound holds if |a * c| + |b * s| is at least this number, and if |c| and |s| are each 0 or at least this number.
// Otherwise, products may be subnormal.
const float LEAST_TURN = 0x1p-100f;

// Cosines and sines of the pairs that one access moves. If `NEIGHBOURS` is true, the two elements of a pair are
// neighbours. Otherwise, they are half a row apart.
template <class S, template <class> class By, bool NEIGHBOURS>
struct Turn {
    typedef typename S::Bits Bits;
    static const u32 COUNT = By<S>::COUNT;
    // Number of elements in a word.
    static const u32 IN_WORD = COUNT == 1 ? 1 : 4 / sizeof(Bits);
    static const bool IS_F32 = sizeof(Bits) == 4;
    const double* cosines;
    const double* sines;
    double direction;
    // The factors in f32, for 16-bit types. A factor that is too small for the error bound is replaced by NaN.
    float cos[COUNT], sin[COUNT];

    // Indices of the two elements of the i-th pair, in the array of two pieces that `apply` loads.
    static DEVICE u32 first(u32 i) { return NEIGHBOURS ? 2 * i : i; }
    static DEVICE u32 second(u32 i) { return NEIGHBOURS ? 2 * i + 1 : COUNT + i; }

    // Rounds a factor to f32, or returns NaN if it is too small for the error bound. Compares the bits instead of the
    // values, so that the compiler needs no branch.
    static DEVICE float factor(double v) {
        const bool is_small = (bits_of_wide(v) & ~SIGN) - 1 < bits_of_wide((double)LEAST_TURN) - 1;
        return float_of(is_small ? 0x7fffffff : bits_of((float)v));
    }

    DEVICE void read(const double* from_cosines, const double* from_sines, double in_direction) {
        cosines = from_cosines, sines = from_sines, direction = in_direction;
        // All loads come before their first use, so that they run at the same time.
        double wide_cos[COUNT], wide_sin[COUNT];
        for (u32 i = 0; i < COUNT && !IS_F32; i++) {
            wide_cos[i] = cosines[i], wide_sin[i] = sines[i];
        }
        for (u32 i = 0; i < COUNT && !IS_F32; i++) {
            cos[i] = factor(wide_cos[i]), sin[i] = factor(wide_sin[i] * direction);
        }
    }

    // Rotates the i-th pair in f64.
    DEVICE void turn(u32 i, float x, float y, u32& to_x, u32& to_y) const {
        const double a = (double)x, b = (double)y, c = cosines[i], s = sines[i] * direction;
        to_x = store_wide<S>(fma(a, c, 0.0 - b * s));
        to_y = store_wide<S>(fma(a, s, b * c));
    }

    DEVICE void apply(const Bits* from, Bits* to, u64 apart) const {
        float x[2 * COUNT];
        u32 bits[2 * COUNT];
        By<S>::load(from, x);
        By<S>::load(from + apart, x + COUNT);
        if constexpr (IS_F32) {
            for (u32 i = 0; i < COUNT; i++) {
                turn(i, x[first(i)], x[second(i)], bits[first(i)], bits[second(i)]);
            }
        } else {
            turn_near(from, apart, x, bits);
        }
        By<S>::store(to, bits);
        By<S>::store(to + apart, bits + COUNT);
    }

    // Rotates the pairs in f32. Pairs whose rounding is uncertain are rotated in f64.
    DEVICE void turn_near(const Bits* from, u64 apart, const float (&x)[2 * COUNT], u32 (&bits)[2 * COUNT]) const {
        float above[2 * COUNT], below[2 * COUNT];
        u32 uncertain = 0;
        for (u32 i = 0; i < COUNT; i++) {
            const float a = x[first(i)], b = x[second(i)];
            const float of_sine = b * sin[i], of_cosine = b * cos[i];
            const float p = fmaf(a, cos[i], -of_sine), q = fmaf(a, sin[i], of_cosine);
            const float size_p = fmaf(fabsf(a), fabsf(cos[i]), fabsf(of_sine));
            const float size_q = fmaf(fabsf(a), fabsf(sin[i]), fabsf(of_cosine));
            above[first(i)] = fmaf(size_p, TURN_UNCERTAINTY, p), below[first(i)] = fmaf(size_p, -TURN_UNCERTAINTY, p);
            above[second(i)] = fmaf(size_q, TURN_UNCERTAINTY, q), below[second(i)] = fmaf(size_q, -TURN_UNCERTAINTY, q);
            // If both elements are zero, the results are the same zeros in f32 as in f64.
            const bool is_zero = ((bits_of(a) | bits_of(b)) & 0x7fffffff) == 0;
            const bool is_bounded = (size_p >= LEAST_TURN) & (size_q >= LEAST_TURN);
            uncertain |= (is_zero | is_bounded ? 0u : 1u) << i;
        }
        for (u32 i = 0; i < 2 * COUNT; i += IN_WORD) {
            const u32 word = S::narrow_two(above[i], above[i + IN_WORD - 1]);
            const u32 other = S::narrow_two(below[i], below[i + IN_WORD - 1]);
            // A word holds one pair of neighbours. If pairs are not neighbours, a word holds one element of each of
            // `IN_WORD` pairs.
            const u32 pair = NEIGHBOURS && COUNT > 1 ? i / 2 : i % COUNT, pairs = NEIGHBOURS || COUNT == 1 ? 1 : 3;
            uncertain |= word != other ? pairs << pair : 0;
            bits[i] = word & 0xffff, bits[i + IN_WORD - 1] = IN_WORD == 1 ? word & 0xffff : word >> 16;
        }
        ROLLED
        for (u32 i = 0; uncertain >> i != 0; i++) {
            if (uncertain >> i & 1) {
                const u32 one = first(i), other = second(i);
                const auto element = [&](u32 at) { return S::widen(from[at < COUNT ? at : at - COUNT + apart]); };
                u32 to_one, to_other;
                turn(i, element(one), element(other), to_one, to_other);
                UNROLLED
                for (u32 at = 0; at < 2 * COUNT; at++) {
                    bits[at] = at == one ? to_one : at == other ? to_other : bits[at];
                }
            }
        }
    }
};

// Rows of all heads of all tokens, and the position of each token.
struct Heads {
    u64 x, y;           // First element of the first token's first head
    u64 cos, sin;       // [positions, half], in f64
    u64 ids;            // [tokens]: each token's row in `cos` and `sin`; or 0: token t has row t
    u64 tokens, heads, positions;
    u64 half;           // Number of pairs
    u64 each;           // Number of heads of a token that a thread processes one after the other
    // Strides, in elements.
    u64 x_token, x_head, y_token, y_head;
    u32 wide_ids;       // Whether the ids are i64 instead of u32
    u32 padding;

    // Returns the token's row in the table. If the table has no such row, returns `positions`.
    DEVICE u64 position(u64 token) const {
        const u64 id = !ids ? token : wide_ids ? ((const u64*)ids)[token] : ((const u32*)ids)[token];
        return id < positions ? id : positions;
    }
};

// Writes NaN to the two pieces that hold the pairs. The second piece begins `apart` elements after the first.
template <class S, template <class> class By>
DEVICE void spoil_pair(typename S::Bits* to, u64 apart) {
    u32 bits[By<S>::COUNT];
    for (u32 i = 0; i < By<S>::COUNT; i++) {
        bits[i] = S::NOT_A_NUMBER;
    }
    By<S>::store(to, bits);
    By<S>::store(to + apart, bits);
}

template <class S, template <class> class By>
DEVICE void copy_piece(const typename S::Bits* from, typename S::Bits* to) {
    if constexpr (By<S>::COUNT == 1) {
        *to = *from;
    } else {
        By<S>::store_words(to, *(const uint4*)from);
    }
}
