// Rows at any address that are read 16 bytes at a time. A granule is 16 bytes at an address that is a multiple of 16. A
// piece is 16 bytes of a row. To load a piece that begins inside a granule, two granules are read.
#pragma once
#include "block_scores.cuh"

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

// Loads a granule from global memory. `recomputed` hides from the compiler that the address is in global memory, so
// without inline PTX it would emit a load for any kind of memory.
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
    // Number of elements between the start of a granule and the start of a piece.
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

// Reads the pieces of a row that begin at multiples of 16 bytes, `BATCH` at a time, and calls `f` with each. All lanes
// of a warp call `f` together. `f` gets the piece's distance from the row's first piece, whether the thread has this
// piece, and the piece's words. If the thread has no such piece, all words are `fill`.
template <u32 BATCH, class S, class F>
DEVICE void each_piece(const typename S::Bits* row, const Division<S>& parts, u32 fill, F f) {
    const u32 stride = blockDim.x * parts.COUNT, own = threadIdx.x % WARP * parts.COUNT;
    const typename S::Bits* const inner = row + parts.head;
    ROLLED
    for (u32 first = threadIdx.x / WARP * (WARP * parts.COUNT); first < parts.inner; first += BATCH * stride) {
        u32 words[BATCH][4];
        UNROLLED
        for (u32 i = 0; i < BATCH; i++) {
            const u32 at = first + i * stride + own;
            uint4 v = {fill, fill, fill, fill};
            if (at < parts.inner) {
                v = *(const uint4*)(inner + at);
            }
            words[i][0] = v.x, words[i][1] = v.y, words[i][2] = v.z, words[i][3] = v.w;
        }
        UNROLLED
        for (u32 i = 0; i < BATCH; i++) {
            const u32 of_warp = first + i * stride, at = of_warp + own;
            if (of_warp < parts.inner) {
                f(at, at < parts.inner, words[i]);
            }
        }
    }
}

// Finds the extremes of a row at any address.
template <u32 WARPS, class S>
DEVICE Extremes extremes(const typename S::Bits* row, const Division<S>& parts, Keys* partial) {
    u32 max = S::INFINITE_WORD | S::SIGNS, min = S::INFINITE_WORD;
    each_piece<4>(row, parts, 0, [&](u32, bool is_there, const u32 (&words)[4]) {
        for (u32 w = 0; w < 4 && is_there; w++) {
            max = S::largest(max, words[w]);
            min = S::smallest(min, words[w]);
        }
    });
    float own_max = max_or_nan(S::low_of(max), S::high_of(max)), own_min = fminf(S::low_of(min), S::high_of(min));
    if (parts.has_edge()) {
        const float edge = S::widen(row[parts.edge()]);
        own_max = max_or_nan(own_max, edge);
        own_min = fminf(own_min, edge);
    }
    return extremes_of<WARPS>(own_max, own_min, partial);
}

// Computes the exponentials of a piece of 16 bytes. All lanes of a warp make this call together.
template <class S>
DEVICE void powers_of(const SoftmaxExp& exp, const LaneTables& tables, const u32* words, float* e) {
    const u32 IN_WORD = Vectors<S>::COUNT / 4;
    for (u32 w = 0; w < 4; w++) {
        e[IN_WORD * w] = exp.power<true>(tables, S::low_of(words[w]));
        if (IN_WORD == 2) {
            e[2 * w + 1] = exp.power<true>(tables, S::high_of(words[w]));
        }
    }
}

// Computes the exponential of the thread's edge element. All lanes of a warp make this call together. If the thread has
// no edge element, the result has no meaning.
template <class S>
DEVICE float power_of_edge(const SoftmaxExp& exp, const LaneTables& tables, const typename S::Bits* row,
                           const Division<S>& parts) {
    return exp.power<true>(tables, parts.has_edge() ? S::widen(row[parts.edge()]) : 0.0f);
}
