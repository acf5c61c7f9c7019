// Rows at any address. Accesses of 16 bytes move the part of a row between multiples of 16 bytes. The few elements
// before and behind this part, the edge elements, are moved one at a time.
#pragma once
#include "common.cuh"

// Division of a row: `head` edge elements, `inner` elements in pieces of 16 bytes, and further edge elements. There are
// at most 14 edge elements, at most one for each of the first threads.
template <class S>
struct Division {
    typedef typename S::Bits Bits;
    static const u32 COUNT = Vectors<S>::COUNT;
    const u32 cols, head, inner;

    DEVICE Division(const Bits* row, u32 cols)
        : cols(cols), head(smaller_of((u32)(0 - (u64)row / sizeof(Bits)) % COUNT, cols)),
          inner((cols - head) / COUNT * COUNT) {}

    static DEVICE u32 smaller_of(u32 a, u32 b) { return a < b ? a : b; }

    // Returns whether the thread has an edge element, and the element's column.
    DEVICE bool has_edge() const { return threadIdx.x < cols - inner; }
    DEVICE u32 edge() const { return threadIdx.x < head ? threadIdx.x : inner + threadIdx.x; }
};

// Results of a row. They are written 16 bytes at a time where pieces of the row are also pieces of the results.
template <class S>
struct Results {
    typedef typename S::Bits Bits;
    Bits* const row;
    const bool are_parallel;

    DEVICE Results(const Bits* from, Bits* to) : row(to), are_parallel(((u64)from - (u64)to) % 16 == 0) {}

    // Stores the same bits for each element of a piece.
    template <u32 N>
    DEVICE void fill(u32 column, const float (&)[N], u32 bits) const {
        for (u32 i = 0; i < N; i++) {
            row[column + i] = (Bits)bits;
        }
    }

    // Rounds and stores values other than NaN.
    template <u32 N>
    DEVICE void store_rounded(u32 column, const float (&values)[N]) const {
        if (N > 1 && are_parallel) {
            Vectors<S>::store_rounded(row + column, values);
        } else {
            for (u32 i = 0; i < N; i++) {
                row[column + i] = (Bits)S::narrow(values[i]);
            }
        }
    }
};

// Row in memory, for rarely used code. `each` reads it again.
template <class S, u32 WARPS>
struct EdgedRow {
    typedef typename S::Bits Bits;
    static const u32 COUNT = Vectors<S>::COUNT, BLOCK_WARPS = WARPS;
    const Bits* const row;
    const Division<S> parts;

    DEVICE EdgedRow(const Bits* row, u32 cols) : row(row), parts(row, cols) {}

    // Calls `f` with the first column and the values of each of the thread's pieces, and of its edge element.
    template <class F>
    DEVICE void each(F f) const {
        ROLLED
        for (u32 column = threadIdx.x * COUNT; column < parts.inner; column += blockDim.x * COUNT) {
            float values[COUNT];
            Vectors<S>::load(row + parts.head + column, values);
            f(parts.head + column, values);
        }
        if (parts.has_edge()) {
            float value[1] = {S::widen(row[parts.edge()])};
            f(parts.edge(), value);
        }
    }
};

// Row whose first pieces are in the registers of a block's threads, with up to `HELD` pieces in each thread. Further
// pieces stay in memory. Each pass reads `BATCH` of them at a time. A place is the index of a piece's first element,
// counted from the first whole piece. A warp skips pieces that are beyond the row for all of its threads.
template <class S, u32 HELD, u32 BATCH>
struct BlockRow {
    typedef typename S::Bits Bits;
    typedef u32 Words[4];
    static const u32 COUNT = Vectors<S>::COUNT, OF_WARP = WARP * COUNT;
    const Bits* const row;
    const Division<S> parts;
    // Index of the warp. The shuffle tells the compiler that it is the same in all lanes, so that branches on it do not
    // diverge.
    const u32 warp;
    Words held[HELD];
    float edge;

    DEVICE BlockRow(const Bits* row, u32 cols)
        : row(row), parts(row, cols), warp(__shfl_sync(0xffffffffu, threadIdx.x / WARP, 0)) {
        UNROLLED
        for (u32 i = 0; i < HELD; i++) {
            if (place(i) < parts.inner) {
                read(place(i), held[i]);
            }
        }
        if (parts.has_edge()) {
            edge = S::widen(row[parts.edge()]);
        }
    }

    // Returns the place of the thread's i-th piece in registers. The pieces of a warp are neighbours, at a constant
    // distance from each other.
    DEVICE u32 place(u32 i) const { return of_warp(0) + i * OF_WARP + threadIdx.x % WARP * COUNT; }
    // Returns the place of the warp's i-th group of pieces in registers.
    DEVICE u32 of_warp(u32 i) const { return warp * (HELD * OF_WARP) + i * OF_WARP; }

    DEVICE void read(u32 place, Words& words) const {
        const uint4 v = *(const uint4*)(row + parts.head + place);
        words[0] = v.x, words[1] = v.y, words[2] = v.z, words[3] = v.w;
    }

    // Calls `f` with the index, place and words of the thread's pieces in registers, as far as the warp reaches. All
    // threads of the warp make this call together. Threads without a piece pass a place beyond the row.
    template <class F>
    DEVICE void each_held(F f) {
        UNROLLED
        for (u32 i = 0; i < HELD; i++) {
            if (of_warp(i) < parts.inner) {
                f(i, place(i), held[i]);
            }
        }
    }

    // Calls `f` with the place and words of the thread's pieces that are not in registers, as far as the warp reaches.
    // Threads without a piece pass a place beyond the row, and the word `fill`.
    template <class F>
    DEVICE void each_behind(u32 fill, F f) const {
        ROLLED
        for (u32 first = HELD * COUNT * blockDim.x; first < parts.inner; first += BATCH * COUNT * blockDim.x) {
            const auto of_warp = [&](u32 i) { return first + i * blockDim.x * COUNT + warp * OF_WARP; };
            const auto place = [&](u32 i) { return of_warp(i) + threadIdx.x % WARP * COUNT; };
            Words batch[BATCH];
            UNROLLED
            for (u32 i = 0; i < BATCH; i++) {
                if (place(i) < parts.inner) {
                    read(place(i), batch[i]);
                } else {
                    batch[i][0] = batch[i][1] = batch[i][2] = batch[i][3] = fill;
                }
            }
            UNROLLED
            for (u32 i = 0; i < BATCH; i++) {
                if (of_warp(i) < parts.inner) {
                    f(place(i), batch[i]);
                }
            }
        }
    }

    // Replaces the words and the edge element that the thread lacks.
    DEVICE void fill_missing(u32 fill) {
        if (of_warp(0) < parts.inner && parts.inner < of_warp(HELD)) {
            UNROLLED
            for (u32 i = 0; i < HELD; i++) {
                if (place(i) >= parts.inner) {
                    held[i][0] = held[i][1] = held[i][2] = held[i][3] = fill;
                }
            }
        }
        if (!parts.has_edge()) {
            edge = S::low_of(fill);
        }
    }

    // Makes the cache load the part of a later row that a block will hold in registers. About when this row is done, a
    // block starts with that row, if each block has one row and a multiprocessor runs `THREADS` threads at a time.
    template <u32 THREADS>
    DEVICE void prefetch_later(u64 rows, u64 index) const {
#ifdef __CUDACC__
        u32 processors;
        asm("mov.u32 %0, %%nsmid;" : "=r"(processors));
        const u32 ahead = processors * (THREADS / blockDim.x), SECTOR = 32 / sizeof(Bits);
        if (index + ahead >= rows) {
            return;
        }
        UNROLLED
        for (u32 i = 0; i < HELD / 2; i++) {
            const u32 column = (i * blockDim.x + threadIdx.x) * SECTOR;
            if (column < parts.cols) {
                asm volatile("prefetch.global.L2 [%0];" : : "l"(row + ((u64)ahead * parts.cols + column)));
            }
        }
#endif
    }

    static DEVICE void widen(const Words& words, float* values) {
        const u32 IN_WORD = COUNT / 4;
        for (u32 w = 0; w < 4; w++) {
            values[IN_WORD * w] = S::low_of(words[w]);
            values[IN_WORD * w + IN_WORD - 1] = S::high_of(words[w]);
        }
    }
};
