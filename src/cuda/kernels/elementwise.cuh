// Functions of one or two elements, applied to flat slices, as `src/cpu/elementwise.rs` and `src/cpu/pairwise.rs`
// define them.
//
// Every function can be computed in f64. Some also have a faster approximation, which is used if it is certain to round
// to the same result. For elements of 16-bit types, the approximation is a single f32. For f32 elements it is a
// float-float pair, as on the CPU, or an f64 of reduced precision for erf and gelu.
#pragma once
#include "approx_f32.cuh"
#include "pair.cuh"
#include "wide.cuh"

struct ElementwiseArguments {
    u64 x, other, y; // [len]; `other` only for functions of two elements
    u64 len;
    double options[2];
};

const u32 ELEMENTWISE_THREADS = 256;

// The 16 bytes of a block's tile that one thread processes. They are contiguous if the slices are aligned and the tile
// is whole. Otherwise the thread's elements are `ELEMENTWISE_THREADS` apart, so that the threads of a warp access
// neighbouring elements.
template <class S>
struct Piece {
    typedef typename S::Bits Bits;
    static const u32 COUNT = 16 / sizeof(Bits);
    static const u32 TILE = ELEMENTWISE_THREADS * COUNT;
    static const u32 WIDTH = 8 * sizeof(Bits);
    u32 words[4];

    // Loads the thread's elements of a tile. `left` elements remain up to the end of the slice.
    DEVICE void load(const Bits* from, u64 left, bool is_whole) {
        if (is_whole) {
            const uint4 v = ((const uint4*)from)[threadIdx.x];
            words[0] = v.x, words[1] = v.y, words[2] = v.z, words[3] = v.w;
            return;
        }
        for (u32 w = 0; w < 4; w++) {
            words[w] = 0;
            for (u32 i = 0; i < COUNT / 4; i++) {
                const u32 at = (w * (COUNT / 4) + i) * ELEMENTWISE_THREADS + threadIdx.x;
                words[w] |= at < left ? (u32)from[at] << (i * WIDTH) : 0;
            }
        }
    }

    DEVICE void store(Bits* to, u64 left, bool is_whole) const {
        if (is_whole) {
            const uint4 v = {words[0], words[1], words[2], words[3]};
            ((uint4*)to)[threadIdx.x] = v;
            return;
        }
        for (u32 w = 0; w < 4; w++) {
            for (u32 i = 0; i < COUNT / 4; i++) {
                const u32 at = (w * (COUNT / 4) + i) * ELEMENTWISE_THREADS + threadIdx.x;
                if (at < left) {
                    to[at] = (Bits)(words[w] >> (i * WIDTH));
                }
            }
        }
    }

    // Calls `f` with each element. The loop is unrolled, because registers cannot be indexed.
    template <class Each>
    DEVICE void each(Each f) const {
        for (u32 i = 0; i < COUNT; i++) {
            f(i, S::widen(WIDTH == 32 ? words[i] : words[i / 2] >> (i % 2 * 16) & 0xffff));
        }
    }

    DEVICE double first() const { return (double)S::widen(WIDTH == 32 ? words[0] : words[0] & 0xffff); }

    // Rotates the elements by one: removes the first element, and appends `first` to the others.
    DEVICE void next(u32 first) {
        const u32 bits = WIDTH == 32 ? first : (words[0] & 0xffff0000) | first;
        if (WIDTH == 32) {
            words[0] = words[1], words[1] = words[2], words[2] = words[3], words[3] = bits;
        } else {
            words[0] = bits >> 16 | words[1] << 16, words[1] = words[1] >> 16 | words[2] << 16;
            words[2] = words[2] >> 16 | words[3] << 16, words[3] = words[3] >> 16 | bits << 16;
        }
    }
};

// Number of low bits of an f32 that a type drops, and the type's smallest normal number as the bits of an f32.
template <class S>
struct Narrowed;
template <>
struct Narrowed<F16> {
    static const u32 DROPPED = 13, MIN_NORMAL = 0x38800000;
};
template <>
struct Narrowed<BF16> {
    static const u32 DROPPED = 16, MIN_NORMAL = 0x00800000;
};

// Returns 1 if all numbers within four f32 units in the last place of `near` round to the same value, else 0. Has no
// branches.
template <class S>
DEVICE u32 is_certain(float near) {
    const u32 OFF = 4, HALF = 1u << (Narrowed<S>::DROPPED - 1), LEAST = Narrowed<S>::MIN_NORMAL;
    const u32 magnitude = bits_of(near) & 0x7fffffff;
    // The rounding is uncertain in an interval around each tie, from `OFF` below the tie to `OFF` above it. `above` is
    // the distance of the magnitude from the start of the last interval that starts at or below the magnitude.
    const u32 above = (magnitude - (HALF - OFF)) & (2 * HALF - 1);
    const u32 is_zero = magnitude == 0, is_normal = magnitude - LEAST <= bits_of(INFINITE) - LEAST;
    return is_zero | (is_normal & (above > 2 * OFF));
}

// Rounds the f32 approximations. Returns a bit mask of the elements whose rounding is not certain.
template <class S, class F>
DEVICE u32 make_near(const Piece<S>& x, Piece<S>& y, const F& function) {
    u32 certain = 0;
    for (u32 w = 0; w < 4; w++) {
        y.words[w] = 0;
    }
    x.each([&](u32 i, float v) {
        const float near = function.near(v);
        certain |= ((v == v) & is_certain<S>(near)) << i;
        y.words[i / 2] |= (S::narrow(near) & 0xffff) << (i % 2 * 16);
    });
    return ~certain & 0xff;
}

// Rounds the float-float pairs. Returns a bit mask of the elements whose rounding is not certain.
template <class F>
DEVICE u32 make_pairs(const PairTables& tables, const Piece<F32>& x, Piece<F32>& y, const F& function) {
    u32 certain = 0;
    x.each([&](u32 i, float v) {
        const Sides sides = function.sides(tables, v);
        certain |= ((bits_of(sides.above) == bits_of(sides.below)) & sides.serves) << i;
        y.words[i] = bits_of(sides.above);
    });
    return ~certain & 0xf;
}

template <class S, class F>
DEVICE void elementwise(const ElementwiseArguments& a) {
    typedef typename S::Bits Bits;
    const u64 TILE = Piece<S>::TILE;
    constexpr bool IS_NEAR = F::HAS_NEAR && sizeof(Bits) == 2, IS_PAIR = F::HAS_PAIR && sizeof(Bits) == 4;
    __shared__ PairTables tables;
    if constexpr (IS_PAIR) {
        tables.fill();
        __syncthreads();
    }
    const F function(a);
    const bool is_aligned = (a.x | a.y | (F::OF_TWO ? a.other : 0)) % 16 == 0;
    for (u64 start = blockIdx.x * TILE; start < a.len; start += gridDim.x * TILE) {
        const u64 left = a.len - start;
        const bool is_whole = is_aligned && left >= TILE;
        Piece<S> x, other = {};
        x.load((const Bits*)a.x + start, left, is_whole);
        if (F::OF_TWO) {
            other.load((const Bits*)a.other + start, left, is_whole);
        }
        Piece<S> y = x;
        u32 rest = ~0u;
        if constexpr (IS_NEAR) {
            rest = make_near(x, y, function);
        } else if constexpr (IS_PAIR) {
            rest = make_pairs(tables, x, y, function);
        }
        if (rest != 0) {
            // Computes one element at a time, so that the function's code occurs once.
            ROLLED
            for (u32 i = 0; i < Piece<S>::COUNT; i++) {
                u32 bits = y.words[0] & (sizeof(Bits) == 2 ? 0xffff : ~0u);
                if (!(IS_NEAR || IS_PAIR) || rest >> i & 1) {
                    bits = store_wide<S>(function(x.first(), other.first()));
                }
                y.next(bits);
                x.next(0);
                other.next(0);
            }
        }
        y.store((Bits*)a.y + start, left, is_whole);
    }
}

// Defines a function of one element without options, and its approximations as an f32 and as a float-float pair.
#define FUNCTION_WITH(NAME, VALUE, NEAR, IS_NEAR, SIDES, IS_PAIR)                                                      \
    struct NAME {                                                                                                      \
        static const bool OF_TWO = false, HAS_NEAR = IS_NEAR, HAS_PAIR = IS_PAIR;                                      \
        DEVICE NAME(const ElementwiseArguments&) {}                                                                    \
        DEVICE double operator()(double x, double) const { return rounded(VALUE); }                                    \
        DEVICE float near(float x) const { return NEAR; }                                                              \
        DEVICE Sides sides(const PairTables& tables, float x) const { return SIDES; }                                  \
    };
#define NO_SIDES ((void)tables, Sides{x, x, false})
#define FUNCTION(NAME, VALUE) FUNCTION_WITH(NAME, VALUE, x, false, NO_SIDES, false)
#define FUNCTION_NEAR(NAME, VALUE, NEAR) FUNCTION_WITH(NAME, VALUE, NEAR, true, NO_SIDES, false)
#define FUNCTION_PAIR(NAME, VALUE, NEAR, SIDES) FUNCTION_WITH(NAME, VALUE, NEAR, true, SIDES(tables, x), true)

#define ELEMENTWISE(FUNCTION, NAME)                                                                                    \
    ENTRY(NAME##_f32, ElementwiseArguments, ELEMENTWISE_THREADS, (elementwise<F32, FUNCTION>(arguments)))              \
    ENTRY(NAME##_f16, ElementwiseArguments, ELEMENTWISE_THREADS, (elementwise<F16, FUNCTION>(arguments)))              \
    ENTRY(NAME##_bf16, ElementwiseArguments, ELEMENTWISE_THREADS, (elementwise<BF16, FUNCTION>(arguments)))
