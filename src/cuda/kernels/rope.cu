// Rotary embedding of rows, as `src/cpu/rope.rs` defines it: each pair in f64, rounded once.
//
// A thread has a piece of a position's cosines and sines, with which it turns as many rows as `each` says.
#include "wide.cuh"

struct RopeArguments {
    u64 x, y;     // [copies, positions, 2 half]
    u64 cos, sin; // [positions, half], in f64
    u64 copies, positions, half, each;
    double direction; // What sines are multiplied with: 1, or -1 to turn back.
};

// As many pairs as `By` moves elements at a time: neighbours, or each an element of both halves of a row.
template <class S, template <class> class By, bool NEIGHBOURS>
struct Turn {
    typedef typename S::Bits Bits;
    static const u32 COUNT = By<S>::COUNT;
    double cos[COUNT], sin[COUNT];

    // Where the i-th pair's first and second element are among two pieces.
    static DEVICE u32 first(u32 i) { return NEIGHBOURS ? 2 * i : i; }
    static DEVICE u32 second(u32 i) { return NEIGHBOURS ? 2 * i + 1 : COUNT + i; }

    DEVICE void apply(const Bits* from, Bits* to, u64 apart) const {
        float x[2 * COUNT];
        u32 bits[2 * COUNT];
        By<S>::load(from, x);
        By<S>::load(from + apart, x + COUNT);
        for (u32 i = 0; i < COUNT; i++) {
            const double a = (double)x[first(i)], b = (double)x[second(i)];
            bits[first(i)] = store_wide<S>(fma(a, cos[i], 0.0 - b * sin[i]));
            bits[second(i)] = store_wide<S>(fma(a, sin[i], b * cos[i]));
        }
        By<S>::store(to, bits);
        By<S>::store(to + apart, bits + COUNT);
    }
};

template <class S, template <class> class By, bool NEIGHBOURS>
DEVICE void rope(const RopeArguments& a) {
    typedef typename S::Bits Bits;
    const u32 COUNT = By<S>::COUNT;
    const u64 pieces = a.half / COUNT;
    const u64 groups = (a.copies + a.each - 1) / a.each;
    const u64 threads = (u64)gridDim.x * blockDim.x;
    for (u64 index = (u64)blockIdx.x * blockDim.x + threadIdx.x; index < groups * a.positions * pieces;
         index += threads) {
        const u64 rest = index / pieces;
        const u64 pair = index % pieces * COUNT, position = rest % a.positions, group = rest / a.positions;
        Turn<S, By, NEIGHBOURS> turn;
        for (u32 i = 0; i < COUNT; i++) {
            turn.cos[i] = ((const double*)a.cos)[position * a.half + pair + i];
            turn.sin[i] = ((const double*)a.sin)[position * a.half + pair + i] * a.direction;
        }
        const u64 last = (group + 1) * a.each < a.copies ? (group + 1) * a.each : a.copies;
        ROLLED
        for (u64 copy = group * a.each; copy < last; copy++) {
            const u64 at = (copy * a.positions + position) * 2 * a.half + (NEIGHBOURS ? 2 * pair : pair);
            turn.apply((const Bits*)a.x + at, (Bits*)a.y + at, NEIGHBOURS ? COUNT : a.half);
        }
    }
}

#define ROPE(TYPE, NAME)                                                                                               \
    ENTRY(rope_##NAME##_halves, RopeArguments, 128, (rope<TYPE, Vectors, false>(arguments)))                           \
    ENTRY(rope_##NAME##_halves_any, RopeArguments, 128, (rope<TYPE, Singles, false>(arguments)))                       \
    ENTRY(rope_##NAME##_neighbours, RopeArguments, 128, (rope<TYPE, Vectors, true>(arguments)))                        \
    ENTRY(rope_##NAME##_neighbours_any, RopeArguments, 128, (rope<TYPE, Singles, true>(arguments)))

ROPE(F32, f32)
ROPE(F16, f16)
ROPE(BF16, bf16)
