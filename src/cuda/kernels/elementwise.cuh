// Functions of one or two elements, applied to flat slices, as `src/cpu/elementwise.rs`, `src/cpu/pairwise.rs`,
// `src/cpu/elementwise_backward.rs` and `src/cpu/swiglu.rs` define them.
//
// Every function can be computed in f64. For most functions, a faster approximation gives bounds on both sides of the
// value. If both bounds round to the same result, the result is correct. Otherwise the element is computed in f64. For
// elements of 16-bit types, the bounds are two f32 (`approx_f32.cuh`). For f32 elements, they come from a float-float
// pair, as on the CPU, or from an f64 of reduced precision for erf, gelu and softplus.
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
// Number of blocks that a multiprocessor runs at a time. With 32 bytes per thread, four blocks keep 32 KiB of loads in
// flight.
const u32 ELEMENTWISE_BLOCKS = 4;

// The elements of a block's tile that one thread processes, in 32-bit words. If the slices are aligned and the tile is
// whole, the elements form groups of 16 contiguous bytes. Otherwise the thread's elements are `ELEMENTWISE_THREADS`
// apart. In both cases the threads of a warp access neighbouring addresses.
//
// By default, a thread loads 32 bytes of a 16-bit type before it computes, because more loads in flight hide the
// latency better. For f32, it loads 16 bytes, because the approximations need more registers.
template <class S, u32 COUNT_OF_WORDS = sizeof(typename S::Bits) == 2 ? 8 : 4>
struct Piece {
    typedef typename S::Bits Bits;
    static const u32 PER_WORD = 4 / sizeof(Bits), WORDS = COUNT_OF_WORDS;
    static const u32 COUNT = WORDS * PER_WORD, GROUP = 4 * PER_WORD;
    static const u32 TILE = ELEMENTWISE_THREADS * COUNT;
    static const u32 WIDTH = 8 * sizeof(Bits);
    u32 words[WORDS];

    // Returns the index within the tile of the thread's i-th element.
    static DEVICE u32 place(u32 i, bool is_whole) {
        return is_whole ? (i / GROUP * ELEMENTWISE_THREADS + threadIdx.x) * GROUP + i % GROUP
                        : i * ELEMENTWISE_THREADS + threadIdx.x;
    }

    // Loads the thread's elements of a tile. `left` elements remain up to the end of the slice.
    DEVICE void load(const Bits* from, u64 left, bool is_whole) {
        if (is_whole) {
            for (u32 w = 0; w < WORDS; w += 4) {
                const uint4 v = *(const uint4*)(from + place(w * PER_WORD, true));
                words[w] = v.x, words[w + 1] = v.y, words[w + 2] = v.z, words[w + 3] = v.w;
            }
            return;
        }
        for (u32 w = 0; w < WORDS; w++) {
            words[w] = 0;
            for (u32 i = 0; i < PER_WORD; i++) {
                const u32 at = place(w * PER_WORD + i, false);
                words[w] |= at < left ? (u32)from[at] << (i * WIDTH) : 0;
            }
        }
    }

    DEVICE void store(Bits* to, u64 left, bool is_whole) const {
        if (is_whole) {
            for (u32 w = 0; w < WORDS; w += 4) {
                const uint4 v = {words[w], words[w + 1], words[w + 2], words[w + 3]};
                Vectors<S>::store_words(to + place(w * PER_WORD, true), v);
            }
            return;
        }
        for (u32 w = 0; w < WORDS; w++) {
            for (u32 i = 0; i < PER_WORD; i++) {
                const u32 at = place(w * PER_WORD + i, false);
                if (at < left) {
                    to[at] = (Bits)(words[w] >> (i * WIDTH));
                }
            }
        }
    }

    // Replaces the i-th element. The loop is unrolled, because registers cannot be indexed.
    DEVICE void set(u32 i, u32 bits) {
        const u32 shift = i % PER_WORD * WIDTH, mask = (WIDTH == 32 ? ~0u : 0xffffu) << shift;
        for (u32 w = 0; w < WORDS; w++) {
            words[w] = w == i / PER_WORD ? (words[w] & ~mask) | bits << shift : words[w];
        }
    }
};

// Replaces the NaN that conversions give by `NOT_A_NUMBER`, because results must have this NaN.
template <class S>
DEVICE u32 with_own_nan(u32 word) {
    // max(x, -inf) is x, or -inf if x is NaN. Only the low bits of this maximum are taken. The low bits of -inf are
    // zeros, as are the low bits of `NOT_A_NUMBER`.
    const u32 LOW_BITS = (0x7fff ^ S::NOT_A_NUMBER) * 0x10001;
    return word ^ ((word ^ S::larger_number(word, S::INFINITE_WORD | S::SIGNS)) & LOW_BITS);
}

// Returns an interval that contains the function's value. `other` is the second operand, for functions of two elements.
template <class S, class F>
DEVICE Interval near_value(float x, float other, const F& function) {
    if constexpr (F::OF_TWO) {
        return function.template near<S>(x, other);
    } else {
        return function.template near<S>(x);
    }
}

// Writes the rounded f32 approximations to `y`. If the rounding of an element is uncertain, the element's bits in
// `differ` are not all zero. Returns whether any element is uncertain.
template <class S, class F>
DEVICE bool make_near(const Piece<S>& x, const Piece<S>& other, Piece<S>& y, u32 (&differ)[Piece<S>::WORDS],
                      const F& function) {
    u32 any = 0;
    for (u32 w = 0; w < Piece<S>::WORDS; w++) {
        const u32 beside = F::OF_TWO ? other.words[w] : 0;
        const Interval low = near_value<S>(S::low_of(x.words[w]), S::low_of(beside), function);
        const Interval high = near_value<S>(S::high_of(x.words[w]), S::high_of(beside), function);
        const u32 from = S::narrow_two(low.from, high.from);
        differ[w] = from ^ S::narrow_two(low.to, high.to);
        any |= differ[w];
        y.words[w] = with_own_nan<S>(from);
    }
    return any != 0;
}

// Returns bounds on both sides of the function's value. `other` is the second operand, for functions of two elements.
template <class T, class F>
DEVICE Sides sides_of(const T& tables, float x, float other, const F& function) {
    if constexpr (F::OF_TWO) {
        return function.sides(tables, x, other);
    } else {
        return function.sides(tables, x);
    }
}

// Writes the rounded float-float pairs to `y`, sets `differ`, and returns a result, all as `make_near` does.
template <class F>
DEVICE bool make_pairs(const typename F::Tables& tables, const Piece<F32>& x, const Piece<F32>& other, Piece<F32>& y,
                       u32 (&differ)[Piece<F32>::WORDS], const F& function) {
    u32 any = 0;
    for (u32 w = 0; w < Piece<F32>::WORDS; w++) {
        const float beside = F::OF_TWO ? float_of(other.words[w]) : 0.0f;
        const Sides sides = sides_of(tables, float_of(x.words[w]), beside, function);
        y.words[w] = bits_of(sides.above);
        differ[w] = sides.serves ? y.words[w] ^ bits_of(sides.below) : 1;
        any |= differ[w];
    }
    return any != 0;
}

// Returns a bit mask of the elements whose bits in `differ` are not all zero.
template <class S>
DEVICE u32 uncertain(const u32 (&differ)[Piece<S>::WORDS]) {
    u32 mask = 0;
    for (u32 w = 0; w < Piece<S>::WORDS; w++) {
        if (Piece<S>::PER_WORD == 2) {
            mask |= ((differ[w] & 0xffff) != 0) << (2 * w) | (differ[w] >> 16 != 0) << (2 * w + 1);
        } else {
            mask |= (differ[w] != 0) << w;
        }
    }
    return mask;
}

// Computes an uncertain element, and returns its bits. For 16-bit types, most functions of one element have a second
// approximation, which is faster than f64: the float-float pair that f32 elements use. If the pair gives the correctly
// rounded f32, the exact value is between the neighbours of that f32. If both neighbours round to the same bits, these
// bits are the result.
template <class S, class F>
DEVICE u32 recomputed(u32 element, u32 other, const F& function) {
    const float x = S::widen(element);
    if constexpr (sizeof(typename S::Bits) == 2 && F::HAS_PAIR && !F::OF_TWO) {
        const Sides sides = function.sides(typename F::SeldomTables(), x);
        const u32 rounded = bits_of(sides.above);
        const u32 ends = S::narrow_two(float_of(rounded - 1), float_of(rounded + 1));
        if (sides.serves && rounded == bits_of(sides.below) && (ends & 0xffff) == ends >> 16) {
            return with_own_nan<S>(ends) >> 16;
        }
    }
    return store_wide<S>(function((double)x, F::OF_TWO ? (double)S::widen(other) : 0.0));
}

// Computes tiles with the approximation, and recomputes the uncertain elements.
template <class S, class F>
DEVICE void elementwise_near(const ElementwiseArguments& a) {
    typedef typename S::Bits Bits;
    const u64 TILE = Piece<S>::TILE;
    constexpr bool IS_PAIR = sizeof(Bits) == 4;
    __shared__ typename F::Tables tables;
    if constexpr (IS_PAIR) {
        tables.fill();
        __syncthreads();
    }
    const F function(a);
    const bool is_aligned = (a.x | a.y | (F::OF_TWO ? a.other : 0)) % 16 == 0;
    for (u64 start = blockIdx.x * TILE; start < a.len; start += gridDim.x * TILE) {
        const u64 left = a.len - start;
        const bool is_whole = is_aligned && left >= TILE;
        const Bits *from = (const Bits*)a.x + start, *beside = (const Bits*)a.other + start;
        Piece<S> x, other, y;
        x.load(from, left, is_whole);
        if (F::OF_TWO) {
            other.load(beside, left, is_whole);
        }
        u32 differ[Piece<S>::WORDS];
        bool is_uncertain;
        if constexpr (IS_PAIR) {
            is_uncertain = make_pairs(tables, x, other, y, differ, function);
        } else {
            is_uncertain = make_near(x, other, y, differ, function);
        }
        if (is_uncertain) {
            u32 mask = uncertain<S>(differ);
            // Computes one element at a time, so that the function's code occurs once. The results may overwrite an
            // operand, so they are stored only after this loop has read the operands.
            ROLLED
            while (mask != 0) {
                const u32 i = (u32)__ffs((int)mask) - 1;
                mask &= mask - 1;
                const u32 at = Piece<S>::place(i, is_whole);
                const u32 element = at < left ? (u32)from[at] : 0;
                y.set(i, recomputed<S>(element, F::OF_TWO && at < left ? (u32)beside[at] : 0, function));
            }
        }
        y.store((Bits*)a.y + start, left, is_whole);
    }
}

// Computes all elements in f64.
template <class S, class F>
DEVICE void elementwise_wide(const ElementwiseArguments& a) {
    typedef typename S::Bits Bits;
    const F function(a);
    const u64 first = (u64)blockIdx.x * ELEMENTWISE_THREADS + threadIdx.x;
    ROLLED
    for (u64 at = first; at < a.len; at += (u64)gridDim.x * ELEMENTWISE_THREADS) {
        const double x = (double)S::widen(((const Bits*)a.x)[at]);
        const double other = F::OF_TWO ? (double)S::widen(((const Bits*)a.other)[at]) : 0.0;
        ((Bits*)a.y)[at] = (Bits)store_wide<S>(function(x, other));
    }
}

template <class S, class F>
DEVICE void elementwise(const ElementwiseArguments& a) {
    if constexpr (sizeof(typename S::Bits) == 2 ? F::HAS_NEAR : F::HAS_PAIR) {
        elementwise_near<S, F>(a);
    } else {
        elementwise_wide<S, F>(a);
    }
}

// Defines a function of one element without options, its f32 approximation for a 16-bit type `S`, and its approximation
// as a float-float pair.
#define FUNCTION_WITH(NAME, VALUE, NEAR, TABLES, SIDES, IS_PAIR)                                                       \
    struct NAME {                                                                                                      \
        typedef TABLES Tables;                                                                                         \
        typedef Seldom##TABLES SeldomTables;                                                                           \
        static const bool OF_TWO = false, HAS_NEAR = true, HAS_PAIR = IS_PAIR;                                         \
        DEVICE NAME(const ElementwiseArguments&) {}                                                                    \
        DEVICE double operator()(double x, double) const { return rounded(VALUE); }                                    \
        template <class S>                                                                                             \
        DEVICE Interval near(float x) const {                                                                          \
            return NEAR;                                                                                               \
        }                                                                                                              \
        template <class T>                                                                                             \
        DEVICE Sides sides(const T& tables, float x) const {                                                           \
            return SIDES;                                                                                              \
        }                                                                                                              \
    };
#define NO_SIDES ((void)tables, Sides{x, x, false})
#define FUNCTION(NAME, VALUE, NEAR) FUNCTION_WITH(NAME, VALUE, NEAR, PairTables, NO_SIDES, false)
#define FUNCTION_PAIR(NAME, VALUE, NEAR, SIDES) FUNCTION_WITH(NAME, VALUE, NEAR, PairTables, SIDES(tables, x), true)

#define ELEMENTWISE_ENTRY(NAME, S, FUNCTION)                                                                           \
    ENTRY_OF_BLOCKS(NAME, ElementwiseArguments, ELEMENTWISE_THREADS, ELEMENTWISE_BLOCKS,                               \
                    (elementwise<S, FUNCTION>(arguments)))
#define ELEMENTWISE(FUNCTION, NAME)                                                                                    \
    ELEMENTWISE_ENTRY(NAME##_f32, F32, FUNCTION)                                                                       \
    ELEMENTWISE_ENTRY(NAME##_f16, F16, FUNCTION)                                                                       \
    ELEMENTWISE_ENTRY(NAME##_bf16, BF16, FUNCTION)
