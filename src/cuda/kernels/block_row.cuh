// Rows at any address. Accesses of 16 bytes move the part of a row that begins and ends at multiples of 16 bytes. The
// few elements before and behind this part, the edge elements, are moved one at a time.
#pragma once
#include "common.cuh"

// Dynamic shared memory of a block. The launch determines its size, which may be 0. `start_copy` starts a copy of 16
// bytes from global memory to shared memory, and `await_copies` waits for all copies that the thread started.
#ifdef __CUDACC__
extern __shared__ uint4 dynamic_shared[];
DEVICE u32 dynamic_shared_bytes() {
    u32 bytes;
    asm("mov.u32 %0, %%dynamic_smem_size;" : "=r"(bytes));
    return bytes;
}
DEVICE void start_copy(uint4* to, const void* from) {
    const u32 address = (u32)__cvta_generic_to_shared(to);
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" : : "r"(address), "l"(from) : "memory");
}
DEVICE void await_copies() { asm volatile("cp.async.wait_all;" : : : "memory"); }
#else
DEVICE void start_copy(uint4* to, const void* from) { *to = *(const uint4*)from; }
DEVICE void await_copies() {}
#endif

// Division of a row: `head` edge elements, `inner` elements in pieces of 16 bytes, and further edge elements. There are
// at most 14 edge elements, one for each of the first threads.
template <class S>
struct Division {
    typedef typename S::Bits Bits;
    static const u32 COUNT = Vectors<S>::COUNT;
    const u32 cols, head, inner;

    DEVICE Division(const Bits* row, u32 cols)
        : cols(cols), head(smaller_of((u32)(0 - (u64)row / sizeof(Bits)) % COUNT, cols)),
          inner((cols - head) / COUNT * COUNT) {}

    static DEVICE u32 smaller_of(u32 a, u32 b) { return a < b ? a : b; }

    // `has_edge` returns whether the thread has an edge element, and `edge` returns the element's column.
    DEVICE bool has_edge() const { return threadIdx.x < cols - inner; }
    DEVICE u32 edge() const { return threadIdx.x < head ? threadIdx.x : inner + threadIdx.x; }
};

// Results of a row. They are written 16 bytes at a time if the row and its results are equally aligned.
template <class S>
struct Results {
    typedef typename S::Bits Bits;
    Bits* const row;
    const bool are_parallel;

    // `from` is the row's address. The results have the same offset in `a.y` as the row has in `a.x`.
    template <class Arguments>
    DEVICE Results(const Arguments& a, const Bits* from)
        : row((Bits*)(a.y + ((u64)from - a.x))), are_parallel((a.y - a.x) % 16 == 0) {}

    // Stores the same bits for each element of a piece.
    template <u32 N>
    DEVICE void fill(u32 column, const float (&)[N], u32 bits) const {
        for (u32 i = 0; i < N; i++) {
            row[column + i] = (Bits)bits;
        }
    }

    // Rounds and stores values. None may be NaN.
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

// Row in memory, for rarely used code. Each call of `each` reads the row again.
template <class S, u32 WARPS>
struct EdgedRow {
    typedef typename S::Bits Bits;
    static const u32 COUNT = Vectors<S>::COUNT, BLOCK_WARPS = WARPS;
    const Bits* const row;
    const Division<S> parts;

    DEVICE EdgedRow(const Bits* row, u32 cols) : row(row), parts(row, cols) {}

    // Calls `f` for each of the thread's pieces, and for its edge element, with the first column and the values.
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

// Row whose first pieces are in the registers of a block's threads, with up to `HELD` pieces in each thread. The next
// pieces are copied to dynamic shared memory, as many as fit. Each thread reads only the pieces that it copied, so no
// barrier is necessary. Further pieces stay in global memory. Each pass reads `BATCH` of them at a time. An offset is
// the distance of a piece from the thread's first piece, in elements. The lanes of a warp have the same offsets, and
// skip pieces beyond the row together.
template <class S, u32 HELD, u32 BATCH>
struct BlockRow {
    typedef typename S::Bits Bits;
    typedef u32 Words[4];
    static const u32 COUNT = Vectors<S>::COUNT, OF_WARP = WARP * COUNT;
    const Bits* const row;
    const Division<S> parts;
    // Column of the thread's first piece.
    u32 first;
    // The thread's pieces at offsets below `end` are in the row. `end_of_warp` is the `end` of the warp's first lane.
    u32 end, end_of_warp;
    // Offsets of the thread's first piece that is not in registers, and of its first piece that is not in shared memory
    // either.
    u32 behind, beyond;
    Words held[HELD];
    float edge;

    DEVICE BlockRow(const Bits* row, u32 cols) : row(row), parts(row, cols) {
        // The shuffle tells the compiler that branches on this index do not diverge.
        const u32 warp = __shfl_sync(0xffffffffu, threadIdx.x / WARP, 0);
        const u32 of_warp = warp * (HELD * OF_WARP), own = of_warp + threadIdx.x % WARP * COUNT;
        first = parts.head + own;
        end = own < parts.inner ? parts.inner - own : 0;
        end_of_warp = of_warp < parts.inner ? parts.inner - of_warp : 0;
        behind = HELD * COUNT * blockDim.x - warp * ((HELD - 1) * OF_WARP);
        // Rounds the number of pieces that fit in shared memory down to a multiple of the number of threads, which is a
        // power of two.
        beyond = behind + (dynamic_shared_bytes() / sizeof(uint4) & (0 - blockDim.x)) * COUNT;
        // All loads start before the copies, so that the row is read in one go. `recomputed` makes the compiler use one
        // address for all loads.
        const Bits* from = (const Bits*)recomputed((u64)(row + first));
        UNROLLED
        for (u32 i = 0; i < HELD; i++) {
            if (i * OF_WARP < end) {
                read(from + i * OF_WARP, held[i]);
            }
        }
        if (behind < beyond) {
            uint4* stored = dynamic_shared + threadIdx.x;
            ROLLED
            for (u32 at = behind; at < beyond && at < end; at += COUNT * blockDim.x) {
                start_copy(stored, from + at);
                stored += blockDim.x;
            }
        }
        if (parts.has_edge()) {
            edge = S::widen(row[parts.edge()]);
        }
    }

    static DEVICE void read(const Bits* from, Words& words) {
#ifdef __CUDACC__
        // The compiler splits a load of a `uint4` into four loads in some loops.
        asm volatile("ld.global.v4.u32 {%0, %1, %2, %3}, [%4];"
                     : "=r"(words[0]), "=r"(words[1]), "=r"(words[2]), "=r"(words[3])
                     : "l"(from));
#else
        unpack(*(const uint4*)from, words);
#endif
    }

    static DEVICE void unpack(const uint4& v, Words& words) {
        words[0] = v.x, words[1] = v.y, words[2] = v.z, words[3] = v.w;
    }

    // Calls `f` with the offset and the words of each of the thread's pieces in registers.
    template <class F>
    DEVICE void each_held(F f) const {
        UNROLLED
        for (u32 i = 0; i < HELD; i++) {
            if (i * OF_WARP < end) {
                f(i * OF_WARP, held[i]);
            }
        }
    }

    // Works like `each_held`, but calls `f` for each piece that any lane of the warp holds. All lanes make this call
    // together.
    template <class F>
    DEVICE void each_of_warp(F f) {
        UNROLLED
        for (u32 i = 0; i < HELD; i++) {
            if (i * OF_WARP < end_of_warp) {
                f(i * OF_WARP, held[i]);
            }
        }
    }

    // Waits until the copies of the thread are in shared memory.
    DEVICE void await_rest() const {
        if (behind < beyond) {
            await_copies();
        }
    }

    // Reads the pieces of the row that are not held in registers, and calls `f` with each. All lanes of a warp call `f`
    // together, once for each piece of the lane that has the most pieces. `f` gets the piece's offset, whether this
    // thread has such a piece, and the piece's words. If the thread has none, all words are `fill`. `await_rest` must
    // have been called.
    template <class F>
    DEVICE void each_behind(u32 fill, F f) const {
        if (behind >= end_of_warp) {
            return;
        }
        const u32 stride = COUNT * blockDim.x;
        const uint4* stored = dynamic_shared + threadIdx.x;
        ROLLED
        for (u32 at = behind; at < beyond && at < end_of_warp; at += stride) {
            Words words = {fill, fill, fill, fill};
            if (at < end) {
                unpack(*stored, words);
            }
            stored += blockDim.x;
            f(at, at < end, words);
        }
        ROLLED
        for (u32 offset = beyond; offset < end_of_warp; offset += BATCH * stride) {
            Words batch[BATCH];
            UNROLLED
            for (u32 i = 0; i < BATCH; i++) {
                const u32 at = offset + i * stride;
                if (at < end) {
                    read(row + first + at, batch[i]);
                } else {
                    batch[i][0] = batch[i][1] = batch[i][2] = batch[i][3] = fill;
                }
            }
            UNROLLED
            for (u32 i = 0; i < BATCH; i++) {
                const u32 at = offset + i * stride;
                if (at < end_of_warp) {
                    f(at, at < end, batch[i]);
                }
            }
        }
    }

    // Sets the words and the edge element that the thread lacks to `fill`.
    DEVICE void fill_missing(u32 fill) {
        if (end_of_warp > 0 && end_of_warp < HELD * OF_WARP) {
            UNROLLED
            for (u32 i = 0; i < HELD; i++) {
                if (i * OF_WARP >= end) {
                    held[i][0] = held[i][1] = held[i][2] = held[i][3] = fill;
                }
            }
        }
        if (!parts.has_edge()) {
            edge = S::low_of(fill);
        }
    }

    // Prefetches a later row into the L2 cache, up to the length that a block holds in registers. If each block has one
    // row and a multiprocessor runs `THREADS` threads at a time, another block starts to read that row at about the
    // time when this block ends.
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
