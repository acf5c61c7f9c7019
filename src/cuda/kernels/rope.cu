// Rotary embedding of the rows of heads, as `src/cpu/rope.rs` defines it.
//
// A thread loads a piece of a position's cosines and sines, and uses the piece to rotate several heads.
#include "rope.cuh"

struct RopeArguments {
    Heads at;
    u64 rest; // Number of columns behind the pairs; they are copied
    double direction; // Factor of the sines: 1, or -1 for the inverse rotation
};

template <class S, template <class> class By, bool NEIGHBOURS>
DEVICE void rope(const RopeArguments& a) {
    typedef typename S::Bits Bits;
    const u32 COUNT = By<S>::COUNT;
    const Heads& at = a.at;
    const u64 of_pairs = at.half / COUNT, pieces = of_pairs + a.rest / COUNT;
    const u64 groups = (at.heads + at.each - 1) / at.each;
    const u64 threads = (u64)gridDim.x * blockDim.x;
    for (u64 index = (u64)blockIdx.x * blockDim.x + threadIdx.x; index < groups * at.tokens * pieces; index += threads) {
        const u64 rest = index / pieces;
        const u64 piece = index % pieces, token = rest % at.tokens, group = rest / at.tokens;
        const u64 position = at.position(token), pair = piece * COUNT;
        const bool is_pair = piece < of_pairs, is_known = position < at.positions;
        const u64 column = is_pair ? NEIGHBOURS ? 2 * pair : pair : pair + at.half, apart = NEIGHBOURS ? COUNT : at.half;
        Turn<S, By, NEIGHBOURS> turn;
        if (is_pair && is_known) {
            const u64 of_pair = position * at.half + pair;
            turn.read((const double*)at.cos + of_pair, (const double*)at.sin + of_pair, a.direction);
        }
        const u64 last = (group + 1) * at.each < at.heads ? (group + 1) * at.each : at.heads;
        ROLLED
        for (u64 head = group * at.each; head < last; head++) {
            const Bits* from = (const Bits*)at.x + token * at.x_token + head * at.x_head + column;
            Bits* to = (Bits*)at.y + token * at.y_token + head * at.y_head + column;
            if (!is_pair) {
                copy_piece<S, By>(from, to);
            } else if (is_known) {
                turn.apply(from, to, apart);
            } else {
                spoil_pair<S, By>(to, apart);
            }
        }
    }
}

#define ROPE(TYPE, NAME)                                                                                               \
    ENTRY_UP_TO(rope_##NAME##_halves, RopeArguments, 128, (rope<TYPE, Vectors, false>(arguments)))                           \
    ENTRY_UP_TO(rope_##NAME##_halves_any, RopeArguments, 128, (rope<TYPE, Singles, false>(arguments)))                       \
    ENTRY_UP_TO(rope_##NAME##_neighbours, RopeArguments, 128, (rope<TYPE, Vectors, true>(arguments)))                        \
    ENTRY_UP_TO(rope_##NAME##_neighbours_any, RopeArguments, 128, (rope<TYPE, Singles, true>(arguments)))

ROPE(F32, f32)
ROPE(F16, f16)
ROPE(BF16, bf16)
