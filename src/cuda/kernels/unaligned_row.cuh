// Rows at any address that are read 16 bytes at a time. A granule is 16 bytes at an address that is a multiple of 16. A
// piece is 16 bytes of a row. To load a piece that begins inside a granule, two granules are read.
#pragma once
#include "block_row.cuh"

// Sets `words` to 16 bytes of two neighbouring granules. The first of these bytes is `count` elements after the start
// of the first granule. An element has `SIZE` bytes.
template <u32 SIZE>
DEVICE void shift_out(u32 (&words)[4], const uint4& first, const uint4& second, u32 count) {
    const u32 halves = count * SIZE / 2;
    u32 w[8] = {first.x, first.y, first.z, first.w, second.x, second.y, second.z, second.w};
    for (u32 i = 0; i < 6; i++) {
        w[i] = halves & 4 ? w[i + 2] : w[i];
    }
    for (u32 i = 0; i < 5; i++) {
        w[i] = halves & 2 ? w[i + 1] : w[i];
    }
    for (u32 i = 0; i < 4; i++) {
        words[i] = SIZE == 4 ? w[i] : __funnelshift_r(w[i], w[i + 1], halves % 2 * 16);
    }
}

// Loads a granule from global memory. `recomputed` hides from the compiler that the address is in global memory. Inline
// PTX is used because the compiler would otherwise emit a load for any kind of memory.
DEVICE uint4 load_granule(u64 at) {
#ifdef __CUDACC__
    uint4 v;
    asm volatile("ld.global.v4.u32 {%0, %1, %2, %3}, [%4];" : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w) : "l"(at));
    return v;
#else
    return *(const uint4*)at;
#endif
}

// Row that is read in pieces. Piece i begins at column i * `COUNT`. `recomputed` keeps the compiler from computing the
// fields again for each piece.
template <class S>
struct UnalignedRow {
    typedef typename S::Bits Bits;
    static const u32 COUNT = Vectors<S>::COUNT;
    const u32 cols;
    // Number of elements between the start of each piece and the start of the granule in which the piece begins.
    const u32 shift;
    // Address of the granule in which the first piece begins.
    const u64 granules;

    DEVICE UnalignedRow(const Bits* row, u32 cols)
        : cols(cols), shift(recomputed((u32)((u64)row % 16 / sizeof(Bits)))), granules(recomputed((u64)row / 16 * 16)) {}

    // Returns the number of elements from the start of a piece to the end of its last granule.
    DEVICE u32 reach() const { return shift == 0 ? COUNT : 2 * COUNT - shift; }

    // Loads the piece that begins at a column. `is_inside` tells whether all granules of the piece may be read. If not,
    // elements behind the row are `fill`.
    DEVICE void load(u32 column, bool is_inside, u32 fill, u32 (&words)[4]) const {
        if (is_inside) {
            const u64 at = granules + (u64)column * sizeof(Bits);
            if (shift == 0) {
                const uint4 v = load_granule(at);
                words[0] = v.x, words[1] = v.y, words[2] = v.z, words[3] = v.w;
            } else {
                const uint4 v = load_granule(at);
                shift_out<sizeof(Bits)>(words, v, load_granule(at + 16), shift);
            }
            return;
        }
        const Bits* const from = (const Bits*)granules + shift + column;
        u32 bits[COUNT];
        UNROLLED
        for (u32 k = 0; k < COUNT; k++) {
            bits[k] = column + k < cols ? from[k] : fill;
        }
        const uint4 v = Vectors<S>::packed(bits);
        words[0] = v.x, words[1] = v.y, words[2] = v.z, words[3] = v.w;
    }
};

// Tells which pieces of two rows of the same length can be loaded by whole granules, without accesses outside of the
// rows. The `before` elements in front of the rows may be read too.
template <class S>
struct Inside {
    const u32 first, span;

    DEVICE Inside(const UnalignedRow<S>& a, const UnalignedRow<S>& b, u32 before)
        : first(a.shift <= before && b.shift <= before ? 0 : a.COUNT),
          span(recomputed(span_of(first + (a.reach() > b.reach() ? a.reach() : b.reach()), a.cols))) {}

    static DEVICE u32 span_of(u32 end, u32 cols) { return end <= cols ? cols - end + 1 : 0; }

    DEVICE bool has(u32 column) const { return column - first < span; }
};
