// Row in the registers of a block's threads, like `Held`, for kernels in which every instruction counts. The row keeps
// its words as they were read, and uses one address for all loads. In most warps, the pieces of all threads are within
// the row. Such a warp does not check each piece.
#pragma once
#include "common.cuh"

template <class S, u32 WARPS, u32 HELD>
struct RegisterRow {
    typedef typename S::Bits Bits;
    typedef Vectors<S> By;
    typedef Places<S, Vectors, WARPS> At;
    static const u32 COUNT = At::COUNT, WORDS = 4;
    static_assert(HELD % At::PIECES == 0, "a thread holds pieces of whole tiles");
    const u32 cols;
    const bool is_whole;
    u32 words[HELD][WORDS];
    float values[HELD][COUNT];

    DEVICE RegisterRow(const Bits* row, u32 cols)
        : cols(cols), is_whole(__all_sync(0xffffffffu, At::column(HELD - 1) < cols)) {
        const Bits* own = row + first();
        each([&](bool is_there, u32 i) {
            if (is_there) {
                const uint4 v = *(const uint4*)(own + offset(i));
                words[i][0] = v.x, words[i][1] = v.y, words[i][2] = v.z, words[i][3] = v.w;
            }
        });
    }

    // `first` returns the column of the thread's first piece, and `offset` the distance of the i-th piece from the
    // first.
    static DEVICE u32 first() { return At::column(0); }
    static DEVICE u32 offset(u32 i) { return i / At::PIECES * (At::tiles() * 256) + i % At::PIECES * (At::GROUP * COUNT); }

    // Calls `f` for each piece that at least one thread of the warp has. All threads of the warp make this call
    // together. The first argument tells whether the calling thread has the piece; the second is the piece's index.
    template <class F>
    DEVICE void each(F f) const {
        if (is_whole) {
            UNROLLED
            for (u32 i = 0; i < HELD; i++) {
                f(true, i);
            }
        } else {
            const u32 behind = threadIdx.x % WARP / At::GROUP * 256 + threadIdx.x % At::GROUP * COUNT;
            UNROLLED
            for (u32 i = 0; i < HELD; i++) {
                if (At::column(i) - behind < cols) {
                    f(At::column(i) < cols, i);
                }
            }
        }
    }

    // Widens a piece to f32, and returns its values. The piece's words must not change afterwards.
    DEVICE float* widen(u32 i) {
        const u32 IN_WORD = COUNT / WORDS;
        for (u32 w = 0; w < WORDS; w++) {
            values[i][IN_WORD * w] = S::low_of(words[i][w]);
            values[i][IN_WORD * w + IN_WORD - 1] = S::high_of(words[i][w]);
        }
        return values[i];
    }
};
