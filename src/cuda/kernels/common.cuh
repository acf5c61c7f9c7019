// Definitions shared by all kernels: storage types, rows in registers, and reductions over a block.
//
// A device build includes no headers. On a CPU, `emulator.h` replaces the compiler's built-in functions, so that the
// same source runs there. Every operation is explicit: no contraction, no approximation, no flushing of subnormals. The
// elementwise kernels are an exception (`approx_instructions.cuh`).
#pragma once

#ifdef __CUDACC__
#define DEVICE __device__ __forceinline__
// Precedes a loop that must not be unrolled.
#define ROLLED _Pragma("unroll 1")
// Precedes a loop that must be unrolled despite its long body, because its indices have to be constants.
#define UNROLLED _Pragma("unroll")
// Defines a kernel that can be launched by name. `BODY` may use `arguments`.
#define ENTRY(NAME, ARGUMENTS, THREADS, BODY)                                                                          \
    extern "C" __global__ void __launch_bounds__(THREADS, 1) NAME(const ARGUMENTS arguments) { BODY; }
// Defines a kernel for blocks of up to `THREADS` threads. A block's number of threads is a power of two, and at least
// 32.
#define ENTRY_AT_MOST ENTRY
// Defines a kernel like `ENTRY_AT_MOST`, and limits its registers so that a multiprocessor can run 768 threads at a
// time.
#define ENTRY_UP_TO(NAME, ARGUMENTS, THREADS, BODY)                                                                    \
    extern "C" __global__ void __launch_bounds__(THREADS, 768 / THREADS) NAME(const ARGUMENTS arguments) { BODY; }
// Defines a kernel like `ENTRY_UP_TO`. A multiprocessor runs 1024 of its threads at a time.
#define ENTRY_OF_1024(NAME, ARGUMENTS, THREADS, BODY)                                                                  \
    extern "C" __global__ void __launch_bounds__(THREADS, 1024 / THREADS) NAME(const ARGUMENTS arguments) { BODY; }
// Defines a kernel like `ENTRY`, and limits its registers so that a multiprocessor can run `BLOCKS` blocks at a time.
#define ENTRY_OF_BLOCKS(NAME, ARGUMENTS, THREADS, BLOCKS, BODY)                                                        \
    extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS) NAME(const ARGUMENTS arguments) { BODY; }
#else
#include "emulator.h"
#define DEVICE inline
#define ROLLED
#define UNROLLED
#define ENTRY(NAME, ARGUMENTS, THREADS, BODY)                                                                          \
    static void NAME(const ARGUMENTS arguments) { BODY; }                                                              \
    static const emulator::Entry NAME##_entry(#NAME, THREADS, THREADS, NAME);
#define ENTRY_AT_MOST(NAME, ARGUMENTS, THREADS, BODY)                                                                  \
    static void NAME(const ARGUMENTS arguments) { BODY; }                                                              \
    static const emulator::Entry NAME##_entry(#NAME, WARP, THREADS, NAME);
#define ENTRY_UP_TO ENTRY_AT_MOST
#define ENTRY_OF_1024 ENTRY_AT_MOST
#define ENTRY_OF_BLOCKS(NAME, ARGUMENTS, THREADS, BLOCKS, BODY) ENTRY(NAME, ARGUMENTS, THREADS, BODY)
#endif

typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

static_assert(sizeof(u32) == 4 && sizeof(u64) == 8, "the host's structs have these sizes");

const u32 WARP = 32;
const float INFINITE = __builtin_inff();

// Returns the thread's index, for code that seldom runs. The compiler would keep `threadIdx.x` in a register during the
// whole kernel, but it does not keep this function's result.
DEVICE u32 seldom_thread() {
#ifdef __CUDACC__
    u32 index;
    asm volatile("mov.u32 %0, %%tid.x;" : "=r"(index));
    return index;
#else
    return threadIdx.x;
#endif
}

// Returns the argument, for rarely executed code in a loop. Without this function, the compiler would move expressions
// of the argument out of the loop, where every block computes them.
DEVICE u32 seldom(u32 value) {
#ifdef __CUDACC__
    asm volatile("mov.u32 %0, %0;" : "+r"(value));
#endif
    return value;
}

// Returns the argument. The compiler computes expressions of the result at each use, and keeps none in registers.
DEVICE u32 recomputed(u32 v) {
#ifdef __CUDACC__
    asm volatile("" : "+r"(v));
#endif
    return v;
}
DEVICE u64 recomputed(u64 v) {
#ifdef __CUDACC__
    asm volatile("" : "+l"(v));
#endif
    return v;
}

// Moves 32 bytes to the L2 cache, without waiting.
DEVICE void prefetch(const void* from) {
#ifdef __CUDACC__
    asm volatile("prefetch.global.L2 [%0];" : : "l"(from));
#endif
}

DEVICE u32 bits_of(float v) { return __float_as_uint(v); }
DEVICE float float_of(u32 bits) { return __uint_as_float(bits); }

// Returns the larger number, or NaN if either is NaN.
DEVICE float max_or_nan(float a, float b) {
#ifdef __CUDACC__
    float v;
    asm("max.NaN.f32 %0, %1, %2;" : "=f"(v) : "f"(a), "f"(b));
    return v;
#else
    return a != a || b != b ? float_of(0x7fffffff) : fmaxf(a, b);
#endif
}

// Returns the smaller number, or NaN if either is NaN.
DEVICE float min_or_nan(float a, float b) {
#ifdef __CUDACC__
    float v;
    asm("min.NaN.f32 %0, %1, %2;" : "=f"(v) : "f"(a), "f"(b));
    return v;
#else
    return a != a || b != b ? float_of(0x7fffffff) : fminf(a, b);
#endif
}

// Defines a function of two words. Each word holds two values. The low value of the result comes from the low
// values of the words, and the high value from the high values. A device uses `INSTRUCTION`, and a CPU uses `FUNCTION`.
// `largest` propagates NaN, and the other functions ignore NaN.
#ifdef __CUDACC__
#define OF_PAIRS(NAME, INSTRUCTION, FUNCTION)                                                                          \
    static DEVICE u32 NAME(u32 a, u32 b) {                                                                             \
        u32 word;                                                                                                      \
        asm(INSTRUCTION " %0, %1, %2;" : "=r"(word) : "r"(a), "r"(b));                                                 \
        return word;                                                                                                   \
    }
#else
#define OF_PAIRS(NAME, INSTRUCTION, FUNCTION)                                                                          \
    static DEVICE u32 NAME(u32 a, u32 b) {                                                                             \
        const float low = FUNCTION(low_of(a), low_of(b)), high = FUNCTION(high_of(a), high_of(b));                     \
        return (low != low ? NOT_A_NUMBER : narrow(low)) | (high != high ? NOT_A_NUMBER : narrow(high)) << 16;         \
    }
#endif

// Storage type. `widen` converts its bits to f32, and `narrow` rounds an f32 to nearest even. `narrow` converts NaN to
// 0x7fff in a 16-bit type, but results must have the NaN `NOT_A_NUMBER`. A 32-bit word holds two values of a 16-bit
// type, low and high. A word of `F32` holds one value: `low_of` and `high_of` return the same value.
struct F32 {
    typedef u32 Bits;
    static const u32 NOT_A_NUMBER = 0x7fc00000;
    static const u32 INFINITE_WORD = 0x7f800000, SIGNS = 0x80000000;
    static DEVICE float low_of(u32 word) { return float_of(word); }
    static DEVICE float high_of(u32 word) { return float_of(word); }
    static DEVICE u32 largest(u32 a, u32 b) { return bits_of(max_or_nan(float_of(a), float_of(b))); }
    static DEVICE u32 smallest(u32 a, u32 b) { return bits_of(fminf(float_of(a), float_of(b))); }
    static DEVICE float widen(u32 bits) { return float_of(bits); }
    static DEVICE u32 narrow(float v) { return bits_of(v); }
    // Rounds two values into one word. For f32, the word holds only the first value.
    static DEVICE u32 narrow_two(float low, float) { return narrow(low); }
};

struct BF16 {
    typedef u16 Bits;
    static const u32 NOT_A_NUMBER = 0x7fc0;
    static const u32 INFINITE_WORD = 0x7f807f80, SIGNS = 0x80008000;
    static DEVICE float widen(u32 bits) { return float_of(bits << 16); }
    static DEVICE float low_of(u32 word) { return widen(word); }
    static DEVICE float high_of(u32 word) { return float_of(word & 0xffff0000); }
#ifdef __CUDACC__
    static DEVICE u32 narrow(float v) {
        u16 bits;
        asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(bits) : "f"(v));
        return bits;
    }
    static DEVICE u32 narrow_two(float low, float high) {
        u32 bits;
        asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(bits) : "f"(high), "f"(low));
        return bits;
    }
#else
    static DEVICE u32 narrow(float v) {
        const u32 bits = bits_of(v);
        return v != v ? 0x7fff : (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
    }
    static DEVICE u32 narrow_two(float low, float high) { return narrow(low) | narrow(high) << 16; }
#endif
    OF_PAIRS(largest, "max.NaN.bf16x2", max_or_nan)
    OF_PAIRS(larger_number, "max.bf16x2", fmaxf)
    OF_PAIRS(smallest, "min.bf16x2", fminf)
};

struct F16 {
    typedef u16 Bits;
    static const u32 NOT_A_NUMBER = 0x7e00;
    static const u32 INFINITE_WORD = 0x7c007c00, SIGNS = 0x80008000;
#ifdef __CUDACC__
    static DEVICE float widen(u32 bits) {
        float v;
        asm("cvt.f32.f16 %0, %1;" : "=f"(v) : "h"((u16)bits));
        return v;
    }
    static DEVICE u32 narrow(float v) {
        u16 bits;
        asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(v));
        return bits;
    }
    static DEVICE u32 narrow_two(float low, float high) {
        u32 bits;
        asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(bits) : "f"(high), "f"(low));
        return bits;
    }
#else
    static DEVICE float widen(u32 bits) { return emulator::widen_f16(bits); }
    static DEVICE u32 narrow(float v) { return v != v ? 0x7fff : emulator::narrow_f16(v); }
    static DEVICE u32 narrow_two(float low, float high) { return narrow(low) | narrow(high) << 16; }
#endif
    static DEVICE float low_of(u32 word) { return widen(word & 0xffff); }
    static DEVICE float high_of(u32 word) { return widen(word >> 16); }
    OF_PAIRS(largest, "max.NaN.f16x2", max_or_nan)
    OF_PAIRS(larger_number, "max.f16x2", fmaxf)
    OF_PAIRS(smallest, "min.f16x2", fminf)
};

// Moves 16 bytes at a time, the most that one instruction can. The row's address and its size in bytes must be
// multiples of 16.
template <class S>
struct Vectors {
    typedef typename S::Bits Bits;
    static const u32 COUNT = 16 / sizeof(Bits);
    static DEVICE void load(const Bits* from, float* values) {
        const uint4 v = *(const uint4*)from;
        const u32 words[4] = {v.x, v.y, v.z, v.w};
        widen(words, values);
    }
    static DEVICE void widen(const u32* words, float* values) {
        for (u32 i = 0; i < COUNT; i++) {
            values[i] = S::widen(COUNT == 4 ? words[i] : words[i / 2] >> (i % 2 * 16) & 0xffff);
        }
    }
    static DEVICE void store(Bits* to, const u32* bits) { store_words(to, packed(bits)); }
    static DEVICE void store_in_shared(Bits* to, const u32* bits) { *(uint4*)to = packed(bits); }
    // Rounds and stores values. None may be NaN.
    static DEVICE void store_rounded(Bits* to, const float* values) {
        u32 words[4];
        for (u32 i = 0; i < 4; i++) {
            words[i] = COUNT == 4 ? S::narrow(values[i]) : S::narrow_two(values[COUNT / 4 * i], values[COUNT / 4 * i + 1]);
        }
        store_words(to, {words[0], words[1], words[2], words[3]});
    }
    static DEVICE uint4 packed(const u32* bits) {
        u32 words[4];
        for (u32 i = 0; i < 4; i++) {
            words[i] = COUNT == 4 ? bits[i] : bits[COUNT / 4 * i] | bits[COUNT / 4 * i + 1] << 16;
        }
        return {words[0], words[1], words[2], words[3]};
    }
    static DEVICE void store_words(Bits* to, const uint4& v) {
#ifdef __CUDACC__
        // The compiler splits an assignment of a `uint4` into four stores in some kernels.
        asm volatile("st.global.v4.u32 [%0], {%1, %2, %3, %4};" : : "l"(to), "r"(v.x), "r"(v.y), "r"(v.z), "r"(v.w) : "memory");
#else
        *(uint4*)to = v;
#endif
    }
};

// Moves one element at a time, for rows at any address.
template <class S>
struct Singles {
    typedef typename S::Bits Bits;
    static const u32 COUNT = 1;

    static DEVICE void load(const Bits* from, float* values) { values[0] = S::widen(*from); }
    static DEVICE void store(Bits* to, const u32* bits) { *to = (Bits)bits[0]; }
    static DEVICE void store_in_shared(Bits* to, const u32* bits) { store(to, bits); }
    static DEVICE void store_rounded(Bits* to, const float* values) { *to = (Bits)S::narrow(values[0]); }
};

// Moves one element at a time, like `Singles`, for long or rarely used code. Loops over the pieces of a tile are not
// unrolled, so the code is not repeated for each piece.
template <class S>
struct Rolled : Singles<S> {};

template <class By>
struct IsRolled {
    static const bool VALUE = false;
};
template <class S>
struct IsRolled<Rolled<S>> {
    static const bool VALUE = true;
};

// Returns the number of elements of an array.
template <u32 N>
DEVICE constexpr u32 length_of(const float (&)[N]) { return N; }

// Assigns the elements of a row to the threads of a block. The row is divided into tiles of 256 elements, as for a
// tiled sum. A group of threads processes a tile. A piece is the elements that a thread loads by one access.
// Neighbouring threads of a group process neighbouring pieces.
template <class S, template <class> class By, u32 WARPS>
struct Places {
    static const u32 COUNT = By<S>::COUNT;
    // `GROUP` is the number of threads per tile. `PIECES` is the number of a tile's pieces that each thread holds.
    // `TILES` is the number of tiles that a block of `WARPS` warps processes at a time.
    static const u32 GROUP = COUNT == 1 ? 32 : 64 / COUNT;
    static const u32 PIECES = 256 / (GROUP * COUNT);
    static const u32 TILES = WARPS * WARP / GROUP;

    // Returns the number of tiles that this block processes at a time. If `WARPS` is below 32, the block may have fewer
    // than `WARPS` warps.
    static DEVICE u32 tiles() { return WARPS < WARP ? blockDim.x / GROUP : TILES; }

    // Returns the column at which the thread's i-th piece begins.
    static DEVICE u32 column(u32 i) {
        const u32 first = threadIdx.x / GROUP * 256 + threadIdx.x % GROUP * COUNT;
        return first + (i / PIECES * (tiles() * 256) + i % PIECES * (GROUP * COUNT));
    }
};

// Row in the registers of a block's threads, with `HELD` pieces per thread. With `HELD` = 0, each access reads memory.
template <class S, template <class> class By, u32 WARPS, u32 HELD>
struct Held {
    typedef Places<S, By, WARPS> At;
    static const u32 COUNT = At::COUNT, BLOCK_WARPS = WARPS;
    static_assert(HELD % At::PIECES == 0, "a thread holds pieces of whole tiles");
    const u32 cols;
    float values[HELD][COUNT];

    // Creates a row of values that the caller sets.
    DEVICE explicit Held(u32 cols) : cols(cols) {}

    DEVICE Held(const typename S::Bits* row, u32 cols) : cols(cols) {
        for (u32 i = 0; i < HELD; i++) {
            if (At::column(i) < cols) {
                By<S>::load(row + At::column(i), values[i]);
            }
        }
    }

    // Calls `f` with the first column of each piece and with the piece. Later calls of this function see the changes
    // that `f` makes to a piece.
    template <class F>
    DEVICE void each(F f) {
        UNROLLED
        for (u32 i = 0; i < HELD; i++) {
            if (At::column(i) < cols) {
                f(At::column(i), values[i]);
            }
        }
    }

    // Calls `f` for each piece that the thread processes in one step of `steps`. The arguments are the index of the
    // piece among the thread's pieces of the tile, the piece's first column, and its values.
    template <class F>
    DEVICE void each_of_tile(u32 step, F f) {
        for (u32 i = 0; i < At::PIECES; i++) {
            if (At::column(step * At::PIECES + i) < cols) {
                f(i, At::column(step * At::PIECES + i), values[step * At::PIECES + i]);
            }
        }
    }

    // Calls `f` with the index of each step. In a step, the block processes `TILES` tiles. The loop is unrolled,
    // because registers cannot be indexed.
    template <class F>
    DEVICE void steps(F f) const {
        for (u32 step = 0; step < HELD / At::PIECES; step++) {
            f(step);
        }
    }
};

template <class S, template <class> class By, u32 WARPS>
struct Held<S, By, WARPS, 0> {
    typedef Places<S, By, WARPS> At;
    static const u32 COUNT = At::COUNT, BLOCK_WARPS = WARPS;
    const typename S::Bits* row;
    const u32 cols;

    DEVICE Held(const typename S::Bits* row, u32 cols) : row(row), cols(cols) {}

    template <class F>
    DEVICE void each(F f) {
        ROLLED
        for (u32 i = 0; i / At::PIECES * (At::tiles() * 256) < cols; i++) {
            const u32 column = At::column(i);
            if (column < cols) {
                float values[COUNT];
                By<S>::load(row + column, values);
                f(column, values);
            }
        }
    }

    template <class F>
    DEVICE void each_of_tile(u32 step, F f) {
        const auto piece = [&](u32 i) {
            const u32 column = At::column(step * At::PIECES + i);
            if (column < cols) {
                float values[COUNT];
                By<S>::load(row + column, values);
                f(i, column, values);
            }
        };
        if (IsRolled<By<S>>::VALUE) {
            ROLLED
            for (u32 i = 0; i < At::PIECES; i++) {
                piece(i);
            }
        } else {
            for (u32 i = 0; i < At::PIECES; i++) {
                piece(i);
            }
        }
    }

    template <class F>
    DEVICE void steps(F f) const {
        ROLLED
        for (u32 step = 0; step * At::tiles() * 256 < cols; step++) {
            f(step);
        }
    }
};

// Reduces the values of all threads of a block, and returns the result in all threads. `warp(value, n)` combines the
// lane's value with the values of the lanes at the distances n, n / 2, ..., 1. The order must not affect the result.
// The caller needs a barrier before it uses the same `partial` again.
template <u32 WARPS, class T, class Warp>
DEVICE T over_block(T value, T* partial, Warp warp) {
    value = warp(value, WARP / 2);
    if (WARPS == 1) {
        return value;
    }
    if (threadIdx.x % WARP == 0) {
        partial[threadIdx.x / WARP] = value;
    }
    __syncthreads();
    // A block may have fewer than `WARPS` warps. The number of warps is a power of two.
    const u32 warps = blockDim.x / WARP;
    return warp(partial[threadIdx.x & (warps - 1)], warps / 2);
}

template <class T>
DEVICE T lane_beside(T value, u32 distance) {
    return __shfl_xor_sync(0xffffffffu, value, distance);
}

// Returns the largest of the block's values. None may be NaN.
template <u32 WARPS>
DEVICE double largest_of_block(double own, double* partial) {
    return over_block<WARPS>(own, partial, [](double own, u32 distance) {
        for (; distance > 0; distance /= 2) {
            const double beside = lane_beside(own, distance);
            own = beside > own ? beside : own;
        }
        return own;
    });
}

// The following functions reduce integers over a warp. All threads of the warp get the result.
DEVICE u32 sum_of_warp(u32 value) { return __reduce_add_sync(0xffffffffu, value); }
DEVICE int largest_of_warp(int value) { return __reduce_max_sync(0xffffffffu, value); }
DEVICE int smallest_of_warp(int value) { return __reduce_min_sync(0xffffffffu, value); }
