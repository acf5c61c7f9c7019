// Functions of one element or of two over flat slices, as `src/cpu/elementwise.rs` and `src/cpu/pairwise.rs` define
// them.
//
// The CPU's forms in pairs of f32 serve only where they have the bits of the forms in f64; here all are in f64.
#pragma once
#include "wide.cuh"

struct ElementwiseArguments {
    u64 x, other, y; // [len]; `other` is of functions of two.
    u64 len;
    double options[2];
};

const u32 ELEMENTWISE_THREADS = 256;

// A thread's sixteen bytes of a block's tile: neighbours where the slices are aligned and the tile is whole; else
// elements a block apart, so that a warp's are neighbours.
template <class S>
struct Piece {
    typedef typename S::Bits Bits;
    static const u32 COUNT = 16 / sizeof(Bits);
    static const u32 TILE = ELEMENTWISE_THREADS * COUNT;
    static const u32 WIDTH = 8 * sizeof(Bits);
    u32 words[4];

    // Of a tile with `left` elements up to the end.
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

    // The i-th element of the first words.
    DEVICE double element(u32 i) const {
        const u32 word = words[i * WIDTH / 32];
        return (double)S::widen(WIDTH == 32 ? word : word >> (i * WIDTH % 32) & 0xffff);
    }

    // Puts the first words, so many, behind the others.
    DEVICE void rotate(u32 by) {
        for (u32 i = 0; i < by; i++) {
            const u32 first = words[0];
            words[0] = words[1], words[1] = words[2], words[2] = words[3], words[3] = first;
        }
    }
};

// Overwrites the elements by the function of them, two at a time: no more of the function's instructions than that, and
// registers have no indices.
template <class S, class F>
DEVICE void overwrite(Piece<S>& x, Piece<S>& other, const F& function) {
    typedef Piece<S> P;
    const u32 WORDS = P::WIDTH / 16;
    ROLLED
    for (u32 w = 0; w < 4; w += WORDS) {
        const u32 first = store_wide<S>(function(x.element(0), other.element(0)));
        const u32 second = store_wide<S>(function(x.element(1), other.element(1)));
        if (WORDS == 1) {
            x.words[0] = first | second << 16;
        } else {
            x.words[0] = first, x.words[1] = second;
        }
        x.rotate(WORDS);
        other.rotate(WORDS);
    }
}

template <class S, class F>
DEVICE void elementwise(const ElementwiseArguments& a) {
    typedef typename S::Bits Bits;
    const u64 TILE = Piece<S>::TILE;
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
        overwrite(x, other, function);
        x.store((Bits*)a.y + start, left, is_whole);
    }
}

// A function of one element without options.
#define FUNCTION(NAME, VALUE)                                                                                          \
    struct NAME {                                                                                                      \
        static const bool OF_TWO = false;                                                                              \
        DEVICE NAME(const ElementwiseArguments&) {}                                                                    \
        DEVICE double operator()(double x, double) const { return rounded(VALUE); }                                    \
    };

#define ELEMENTWISE(FUNCTION, NAME)                                                                                    \
    ENTRY(NAME##_f32, ElementwiseArguments, ELEMENTWISE_THREADS, (elementwise<F32, FUNCTION>(arguments)))              \
    ENTRY(NAME##_f16, ElementwiseArguments, ELEMENTWISE_THREADS, (elementwise<F16, FUNCTION>(arguments)))              \
    ENTRY(NAME##_bf16, ElementwiseArguments, ELEMENTWISE_THREADS, (elementwise<BF16, FUNCTION>(arguments)))
