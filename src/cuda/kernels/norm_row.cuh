// Rows of norms of any length and at any address. The first part of such a row is copied to shared memory, and the rest
// is read from global memory at each access. Rows, results and operands may have different alignments.
#pragma once
#include "tile_row.cuh"
#include "unaligned_row.cuh"

template <class S>
struct StoredRow {
    typedef typename S::Bits Bits;
    static const u32 COUNT = Vectors<S>::COUNT;
    const Bits* row;
    u32 cols;
    // The copy of the row's first granules in dynamic shared memory, and their number.
    const uint4* copied;
    u32 count;

    // Creates a row that is read from global memory until `copy` is called.
    DEVICE StoredRow(const Bits* row, u32 cols) : row(row), cols(cols), copied(dynamic_shared), count(0) {}

    // Returns the number of granules of a copy of the whole row. This includes one granule behind the row, because the
    // loads of a piece may read it.
    DEVICE u32 granules() const { return ((u32)((u64)row % 16 / sizeof(Bits)) + cols + COUNT - 1) / COUNT + 1; }

    // Copies the row to granules `first..end` of the dynamic shared memory, as far as the row fits there. In granules
    // that the row shares with other elements, zeros replace the other elements. `await_row` must follow.
    DEVICE void copy(u32 first, u32 end) {
        const u32 shift = (u32)((u64)row % 16 / sizeof(Bits));
        uint4* const to = dynamic_shared + first;
        copied = to;
        count = granules() < end - first ? granules() : end - first;
        ROLLED
        for (u32 i = threadIdx.x; i < count; i += blockDim.x) {
            // Columns in front of the row wrap around to large numbers.
            const u32 column = i * COUNT - shift;
            if (column < cols && COUNT <= cols - column) {
                start_copy(to + i, row + column);
            } else {
                u32 bits[COUNT];
                for (u32 k = 0; k < COUNT; k++) {
                    bits[k] = column + k < cols ? row[column + k] : 0;
                }
                to[i] = Vectors<S>::packed(bits);
            }
        }
    }

    // Prefetches the first elements of a later row into the L2 cache: as many as `copy` copied of this row.
    DEVICE void prefetch(const Bits* later) const {
#ifdef __CUDACC__
        const u32 SECTOR = 32 / sizeof(Bits);
        ROLLED
        for (u32 column = threadIdx.x * SECTOR; column < cols && column < count * COUNT; column += blockDim.x * SECTOR) {
            asm volatile("prefetch.global.L2 [%0];" : : "l"(later + column));
        }
#endif
    }
};

// Number of granules in the block's dynamic shared memory.
DEVICE u32 dynamic_granules() { return dynamic_shared_bytes() / (u32)sizeof(uint4); }

// Waits until all copies are in shared memory. All threads of the block make this call together.
DEVICE void await_row() {
    await_copies();
    __syncthreads();
}

// Loads a piece of a row in global memory. The `before` elements in front of the row may be read too. Elements behind
// the row are set to `fill`. Few registers are left, so the bounds are computed again for each piece.
template <class S>
DEVICE void load_piece(const UnalignedRow<S>& row, u32 column, u32 before, u32 fill, u32 (&words)[4]) {
    const bool is_aligned = row.shift == 0 && column + row.COUNT <= row.cols;
    row.load(column, is_aligned || Inside<S>(row, row, before).has(column), fill, words);
}

// Pieces of a row, starting at its column `head`. Columns are counted from there.
template <class S>
struct RowPieces {
    typedef u32 Words[4];
    static const u32 COUNT = Vectors<S>::COUNT;
    const u32 head;
    const UnalignedRow<S> row;
    // Copy of the row in shared memory, from the first piece on. The copy has the pieces at columns below `end`.
    const uint4* const copied;
    const u32 end;

    DEVICE RowPieces(const StoredRow<S>& of, u32 head)
        : head(head), row(of.row + head, of.cols - head), copied(of.copied + skipped(of, head)),
          end(of.count > skipped(of, head) + 1 ? (of.count - skipped(of, head) - 1) * COUNT : 0) {}

    // Returns the number of granules in front of column `head`.
    static DEVICE u32 skipped(const StoredRow<S>& of, u32 head) {
        return ((u32)((u64)of.row % 16 / sizeof(typename S::Bits)) + head) / COUNT;
    }

    // Loads the elements from `column` on. Elements past the end of the row are 0.
    DEVICE void load(u32 column, Words& words) const {
        if (column < end) {
            const uint4* const at = copied + column / COUNT;
            if (row.shift == 0) {
                words[0] = at->x, words[1] = at->y, words[2] = at->z, words[3] = at->w;
            } else {
                shift_out<sizeof(typename S::Bits)>(words, at[0], at[1], row.shift);
            }
        } else {
            load_piece(row, column, head, 0, words);
        }
    }

    DEVICE void load(u32 column, float* values) const {
        Words words;
        load(column, words);
        Vectors<S>::widen(words, values);
    }
};

// Pieces of an operand, for rows of type S. The operand need not be aligned. Columns are counted from the column
// `head`.
template <class S>
struct OperandPieces {
    const Operand& operand;
    const u32 head;
    // Pieces of an operand of the rows' type.
    const UnalignedRow<S> own;

    DEVICE OperandPieces(const Operand& operand, u32 cols, u32 head)
        : operand(operand), head(head), own((const typename S::Bits*)operand.at + head, cols - head) {}

    // Loads the values of the piece that begins at `column`. Values past the end of the operand are `operand.missing`.
    template <class, u32 COUNT>
    DEVICE void load(u32 column, float* values) const {
        static_assert(COUNT == Vectors<S>::COUNT, "a piece has 16 bytes of a row");
        if (operand.type == NO_OPERAND) {
            for (u32 k = 0; k < COUNT; k++) {
                values[k] = operand.missing;
            }
        } else if (operand.type == operand_type_of<S>()) {
            load_values(own, column, values);
        } else if (operand.type == F32_OPERAND) {
            const UnalignedRow<F32> wide((const u32*)operand.at + head, own.cols);
            for (u32 k = 0; k < COUNT; k += 4) {
                load_values(wide, column + k, values + k);
            }
        } else {
            for (u32 k = 0; k < COUNT; k++) {
                values[k] = operand.missing;
                if (column + k < own.cols) {
                    operand.load<S, 1>(head + column + k, values + k);
                }
            }
        }
    }

    template <class T>
    DEVICE void load_values(const UnalignedRow<T>& from, u32 column, float* values) const {
        u32 words[4];
        load_piece(from, column, head, T::narrow(operand.missing), words);
        Vectors<T>::widen(words, values);
    }
};

// Number of tiles whose sums `RowSums` holds at a time.
const u32 MOST_TILES = 256;

// Shared memory of a block for `N` tiled sums.
template <u32 N>
struct RowSums {
    double tiles[N][MOST_TILES];
    double lanes[N][64];
};

// Computes `N` tiled sums over a row. Every thread gets the results. `add` receives the first column of a piece, an
// index in the piece, and `N` sums for each of the `PART` elements from this index on. It adds the elements' terms to
// these sums. A small `PART` saves registers, but the pieces are read more often.
template <class S, u32 PART, u32 N, class Add>
DEVICE void sum_row(u32 cols, RowSums<N>& shared, double (&sums)[N], Add add) {
    typedef Places<S, Vectors, WARP> At;
    const u32 COUNT = At::COUNT, group = threadIdx.x / At::GROUP, groups = blockDim.x / At::GROUP;
    static_assert(PART == COUNT || PART == COUNT / 2, "sums of two parts are added at the end");
    ROLLED
    for (u32 start = 0; start < cols; start += MOST_TILES * 256) {
        const u32 rest = (cols - start + 255) / 256, count = rest < MOST_TILES ? rest : MOST_TILES;
        ROLLED
        for (u32 first = 0; first < count; first += groups) {
            const u32 tile = start + (first + group) * 256 + threadIdx.x % At::GROUP * COUNT;
            double parts[2][N];
            UNROLLED
            for (u32 part = 0; part < COUNT / PART; part++) {
                double own[PART][N] = {};
                u32 column = tile;
                ROLLED
                for (u32 i = 0; i < At::PIECES; i++) {
                    if (column < cols) {
                        add(column, part * PART, own);
                    }
                    column += At::GROUP * COUNT;
                }
                for (u32 n = 0; n < N; n++) {
                    for (u32 width = PART / 2; width > 0; width /= 2) {
                        for (u32 k = 0; k < width; k++) {
                            own[k][n] = own[2 * k][n] + own[2 * k + 1][n];
                        }
                    }
                    parts[part][n] = own[0][n];
                }
            }
            for (u32 n = 0; n < N; n++) {
                const double of_tile = fold(PART == COUNT ? parts[0][n] : parts[0][n] + parts[1][n], At::GROUP);
                if (threadIdx.x % At::GROUP == 0) {
                    shared.tiles[n][first + group] = of_tile;
                }
            }
        }
        __syncthreads();
        // One thread adds the sums of all tiles of a lane, in the order of the tiles.
        for (u32 lane = threadIdx.x; lane < 64; lane += blockDim.x) {
            for (u32 n = 0; n < N; n++) {
                double sum = start == 0 ? 0.0 : shared.lanes[n][lane];
                ROLLED
                for (u32 tile = lane; tile < count; tile += 64) {
                    sum += shared.tiles[n][tile];
                }
                shared.lanes[n][lane] = sum;
            }
        }
        __syncthreads();
    }
    for (u32 n = 0; n < N; n++) {
        sums[n] = fold_lanes([&](u32 lane) { return shared.lanes[n][lane]; });
    }
}

// Computes the moments of a row.
template <class S>
DEVICE RowMoments find_moments(bool is_centred, const Columns& columns, const StoredRow<S>& row, RowSums<2>& shared) {
    const u32 PART = 4;
    const RowPieces<S> pieces(row, 0);
    double sums[2];
    sum_row<S, PART>(row.cols, shared, sums, [&](u32 column, u32 first, double(&own)[PART][2]) {
        TileRow<S> x;
        pieces.load(column, x.words[0]);
        for (u32 k = 0; k < PART; k++) {
            add_powers((double)x.value(0, first + k), own[k]);
        }
    });
    return moments_of(is_centred, columns, sums, [&](double mean, double(&sums)[2]) {
        sum_row<S, PART>(row.cols, shared, sums, [&](u32 column, u32 first, double(&own)[PART][2]) {
            TileRow<S> x;
            pieces.load(column, x.words[0]);
            for (u32 k = 0; k < PART && column + first + k < row.cols; k++) {
                add_powers((double)x.value(0, first + k) - mean, own[k]);
            }
        });
    });
}

// Stores a piece of results. They are given as bits, or as values that are rounded here. No value may be NaN.
template <class S>
DEVICE void store_piece(typename S::Bits* to, const u32* bits) { Vectors<S>::store(to, bits); }
template <class S>
DEVICE void store_piece(typename S::Bits* to, const float* values) { Vectors<S>::store_rounded(to, values); }
template <class S>
DEVICE void store_element(typename S::Bits* to, u32 bits) { *to = (typename S::Bits)bits; }
template <class S>
DEVICE void store_element(typename S::Bits* to, float value) { *to = (typename S::Bits)S::narrow(value); }

// Calls `piece` for each of the thread's pieces of a row of results, with the distance of that piece from the row's
// first piece. Then calls `edge` with the column of the thread's edge element, if it has one.
template <class S, class Piece, class Edge>
DEVICE void each_result(const Division<S>& parts, Piece piece, Edge edge) {
    ROLLED
    for (u32 column = threadIdx.x * parts.COUNT; column < parts.inner; column += blockDim.x * parts.COUNT) {
        piece(column);
    }
    if (parts.has_edge()) {
        edge(parts.edge());
    }
}

// Defines two kernels of an op for a type. The first is for aligned rows, held in the registers of up to `HELD`
// threads. The second is for any rows, read by up to `ANY` threads. `src/cuda/norm.rs` chooses between them.
#define NORM(OP, ARGUMENTS, HELD, ANY, TYPE, NAME)                                                                     \
    ENTRY_AT_MOST(OP##_##NAME##_held, ARGUMENTS, HELD, (OP##_held<TYPE>(arguments)))                                   \
    ENTRY_AT_MOST(OP##_##NAME##_any, ARGUMENTS, ANY, (OP##_any<TYPE>(arguments)))
