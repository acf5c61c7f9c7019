// A row in the registers of a block's threads, as `Held` has it, for kernels whose instructions were counted: the words that
// were read, one address for all that a thread reads, and no question at each piece where all threads of a warp have all
// of theirs, as most have.
#pragma once
#include "common.cuh"

template <class S, u32 WARPS, u32 HELD>
struct Whole {
    typedef typename S::Bits Bits;
    typedef Vectors<S> By;
    typedef Places<S, Vectors, WARPS> At;
    static const u32 COUNT = At::COUNT, WORDS = 4;
    static_assert(HELD % At::PIECES == 0, "whole tiles");
    const u32 cols;
    const bool is_whole;
    u32 words[HELD][WORDS];
    float values[HELD][COUNT];

    DEVICE Whole(const Bits* row, u32 cols) : cols(cols), is_whole(__all_sync(0xffffffffu, At::column(HELD - 1) < cols)) {
        const Bits* own = row + first();
        each([&](bool is_there, u32 i) {
            if (is_there) {
                const uint4 v = *(const uint4*)(own + offset(i));
                words[i][0] = v.x, words[i][1] = v.y, words[i][2] = v.z, words[i][3] = v.w;
            }
        });
    }

    // The column of the thread's first piece, and how far behind it the i-th one is.
    static DEVICE u32 first() { return At::column(0); }
    static DEVICE u32 offset(u32 i) { return i / At::PIECES * (At::TILES * 256) + i % At::PIECES * (At::GROUP * COUNT); }

    // Calls `f` with the index of each piece that a thread of the warp has, in all of its threads at once, and with whether
    // it is this one's too.
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

    // The values of a piece, which are no longer to be changed in its words.
    DEVICE float* widen(u32 i) {
        const u32 IN_WORD = COUNT / WORDS;
        for (u32 w = 0; w < WORDS; w++) {
            values[i][IN_WORD * w] = S::low_of(words[i][w]);
            values[i][IN_WORD * w + IN_WORD - 1] = S::high_of(words[i][w]);
        }
        return values[i];
    }
};
