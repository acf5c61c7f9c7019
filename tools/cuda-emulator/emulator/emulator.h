// Emulation of a CUDA device on the CPU. Each thread of a block is a fiber, and blocks run one after another. Shared
// memory belongs to the running block. Fibers switch only where they synchronise.
#pragma once
#include <cmath>
#include <cstddef>
#include <cstring>
#include <tuple>
#include <utility>

#define __shared__ static thread_local
#define __constant__ static
#define __forceinline__ inline
#define __restrict__ __restrict

struct Index {
    unsigned x, y, z;
};
struct alignas(16) uint4 {
    unsigned x, y, z, w;
};
extern thread_local Index threadIdx, blockIdx, blockDim, gridDim;
// Dynamic shared memory of a block.
extern thread_local uint4* dynamic_shared;
unsigned dynamic_shared_bytes();

namespace emulator {

// Registered kernel: its name, limits for the number of threads in a block, size of its arguments, and how to call it.
struct Entry {
    const char* name;
    unsigned least_threads, most_threads;
    size_t bytes;
    void (*kernel)();
    void (*call)(void (*)(), const void*);
    const Entry* next;
    static const Entry* first;

    template <class A>
    Entry(const char* name, unsigned least_threads, unsigned most_threads, void (*kernel)(A))
        : name(name), least_threads(least_threads), most_threads(most_threads), bytes(sizeof(A)),
          kernel((void (*)())kernel), next(first) {
        call = [](void (*kernel)(), const void* arguments) {
            A copy;
            memcpy(&copy, arguments, sizeof(A));
            ((void (*)(A))kernel)(copy);
        };
        first = this;
    }
};

// Waits for all threads of the block. If one of these threads has ended, the block is stuck.
void barrier();
// Waits for all lanes of the warp, and returns the bits that each lane passed. They are valid until the next exchange.
const unsigned long long* exchange(unsigned long long bits);

float widen_f16(unsigned bits);
unsigned narrow_f16(float v);

// The device's approximate instructions. Their results have pseudo-random errors in both directions, often as large as
// the largest error that NVIDIA documents. So if a kernel allows only for smaller errors, tests over many arguments
// fail.
float fast_exp2_ftz(float x);
float fast_reciprocal_ftz(float x);
float fast_reciprocal(float x);
float fast_log2(float x);
float fast_rsqrt(float x);
float fast_sqrt(float x);
// `product_ftz` replaces subnormal factors and results by zero. `product_up` rounds up.
float product_ftz(float a, float b);
float product_up(float a, float b);

} // namespace emulator

static inline void __syncthreads() { emulator::barrier(); }
static inline void __syncwarp() { emulator::exchange(0); }

template <class T>
static inline T __shfl_sync(unsigned, T value, unsigned from) {
    unsigned long long bits = 0;
    memcpy(&bits, &value, sizeof(T));
    memcpy(&value, &emulator::exchange(bits)[from % 32], sizeof(T));
    return value;
}
template <class T>
static inline T __shfl_xor_sync(unsigned mask, T value, unsigned distance) {
    return __shfl_sync(mask, value, (threadIdx.x % 32) ^ distance);
}

template <class T, class F>
static inline T reduce_over_warp(T value, F f) {
    const unsigned long long* lanes = emulator::exchange((unsigned long long)value);
    value = (T)lanes[0];
    for (unsigned lane = 1; lane < 32; lane++) {
        value = f(value, (T)lanes[lane]);
    }
    return value;
}
static inline unsigned __reduce_add_sync(unsigned, unsigned value) {
    return reduce_over_warp(value, [](unsigned a, unsigned b) { return a + b; });
}
static inline int __reduce_max_sync(unsigned, int value) {
    return reduce_over_warp(value, [](int a, int b) { return a > b ? a : b; });
}
static inline int __reduce_min_sync(unsigned, int value) {
    return reduce_over_warp(value, [](int a, int b) { return a < b ? a : b; });
}
static inline bool __all_sync(unsigned, bool value) {
    return reduce_over_warp((unsigned)value, [](unsigned a, unsigned b) { return a & b; });
}

// Shifts a pair of words to the right by up to 31 bits, and returns the low word.
static inline unsigned __funnelshift_r(unsigned low, unsigned high, unsigned bits) {
    return (unsigned)(((unsigned long long)high << 32 | low) >> (bits % 32));
}

template <class T>
static inline T atomicAdd(T* to, T value) {
    T was = *to;
    *to = was + value;
    return was;
}

template <class T>
static inline T atomicMin(T* to, T value) {
    T was = *to;
    *to = value < was ? value : was;
    return was;
}

static inline unsigned __float_as_uint(float v) {
    unsigned bits;
    memcpy(&bits, &v, 4);
    return bits;
}
static inline float __uint_as_float(unsigned bits) {
    float v;
    memcpy(&v, &bits, 4);
    return v;
}
static inline double __longlong_as_double(long long bits) {
    double v;
    memcpy(&v, &bits, 8);
    return v;
}
static inline long long __double_as_longlong(double v) {
    long long bits;
    memcpy(&bits, &v, 8);
    return bits;
}

// Converts to f32, rounding toward zero.
static inline float __double2float_rz(double v) {
    float near = (float)v;
    return std::fabs((double)near) > std::fabs(v) ? __uint_as_float(__float_as_uint(near) - 1) : near;
}
// Returns the index of the lowest bit that is set, counted from 1.
static inline int __ffs(int bits) { return __builtin_ffs(bits); }
static inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
    return (unsigned long long)(((unsigned __int128)a * b) >> 64);
}

using std::fabs;
