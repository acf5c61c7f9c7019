// Rotary embedding of rows, as `src/cpu/rope.rs` defines it. Each pair is rotated in f64 and rounded once.
//
// A thread loads a piece of a position's cosines and sines, and rotates `each` rows with it.
#include "rope.cuh"

struct RopeArguments {
    u64 x, y;     // [copies, positions, 2 half]
    u64 cos, sin; // [positions, half], in f64
    u64 copies, positions, half, each;
    double direction; // Factor of the sines: 1, or -1 for the inverse rotation
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
        const u64 of_pair = position * a.half + pair;
        turn.read((const double*)a.cos + of_pair, (const double*)a.sin + of_pair, a.direction);
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
