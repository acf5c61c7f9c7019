// Fibers that emulate a block's threads, and the function that the host calls.
#include "emulator.h"
#include <cstdint>
#include <ucontext.h>
#include <vector>

thread_local Index threadIdx, blockIdx, blockDim, gridDim;
thread_local uint4* dynamic_shared;
static thread_local std::vector<uint4> dynamic_memory;
static thread_local unsigned dynamic_bytes;
unsigned dynamic_shared_bytes() { return dynamic_bytes; }

namespace emulator {

const Entry* Entry::first = nullptr;

namespace {

enum State : unsigned char { READY, AT_BARRIER, AT_EXCHANGE, ENDED };

const unsigned WARP = 32;
// Stack of a fiber. The size is not a power of two, so that the frames of a warp's fibers are in different cache sets.
const size_t STACK = (64 << 10) + 5 * 64;
// Limit on the scheduling rounds of a block. Threads that exceed it are in an endless loop.
const unsigned MOST_MEETINGS = 1 << 22;

struct Warp {
    State states[WARP];
    // Bits that each lane contributes to the pending exchange.
    unsigned long long brought[WARP];
    // Bits that each lane passed to the last exchange of the warp.
    unsigned long long published[WARP];

    bool all(State state) const {
        bool all = true;
        for (State other : states) {
            all &= other == state;
        }
        return all;
    }
    void set_all(State state) {
        for (State& other : states) {
            other = state;
        }
    }
};

// Point at which a fiber or the scheduler resumes. `__builtin_setjmp` writes only the address, the stack pointer and the
// frame pointer here, so it is faster than `_setjmp`.
typedef void* Point[5];

struct Fiber {
    Point at;
    bool started;
};

// Each host thread has its own emulated device.
struct Device {
    Point scheduler;
    // A block uses the first elements of these vectors.
    std::vector<Warp> warps;
    std::vector<Fiber> fibers;
    std::vector<char> stacks;
    // The lanes of the warp `warp` run one after another. `turn` counts the lanes that ran, that are running, or that were
    // skipped because they were not ready.
    unsigned warp, turn, order;
    uint64_t random;
    unsigned running;
    const Entry* entry;
    const void* given;
};
thread_local Device own_device;
// The thread's `own_device`, or null before the first launch. Each use of `own_device` checks whether it is initialised;
// uses of this pointer do not.
thread_local Device* device;

// Returns the i-th of the indices from 0 to n - 1 in the given order; n is a power of two. Order 0 is forward, order 1
// is backward, and any other order is a permutation that `random` determines.
inline unsigned in_order(unsigned order, uint64_t random, unsigned i, unsigned n) {
    if (order == 0) {
        return i;
    }
    if (order == 1) {
        return n - 1 - i;
    }
    return (unsigned)((i * ((random >> 20) | 1) + (random >> 40)) % n);
}

void body();

// Continues with the next ready lane of the warp, or with the scheduler if there is none. This is a separate function,
// because GCC forbids `__builtin_longjmp` in the function that sets the point. GCC's manual also forbids jumps between
// stacks, but they work while the function that set the point has not returned.
__attribute__((noinline, noreturn)) void continue_elsewhere(Device& on) {
    while (on.turn < WARP) {
        const unsigned lane = in_order(on.order, on.random, on.turn++, WARP);
        if (on.warps[on.warp].states[lane] != READY) {
            continue;
        }
        on.running = WARP * on.warp + lane;
        threadIdx = {on.running, 0, 0};
        Fiber& fiber = on.fibers[on.running];
        if (fiber.started) {
            __builtin_longjmp(fiber.at, 1);
        }
        fiber.started = true;
        ucontext_t context;
        getcontext(&context);
        context.uc_stack.ss_sp = &on.stacks[on.running * STACK];
        context.uc_stack.ss_size = STACK;
        context.uc_link = nullptr;
        makecontext(&context, body, 0);
        setcontext(&context);
    }
    __builtin_longjmp(on.scheduler, 1);
}

__attribute__((noinline)) void yield(Device& on, State state) {
    on.warps[on.running / WARP].states[on.running % WARP] = state;
    if (__builtin_setjmp(on.fibers[on.running].at) == 0) {
        continue_elsewhere(on);
    }
    // Other fibers have changed the memory.
    asm volatile("" ::: "memory");
}

// Body of a fiber: runs the kernel as one thread of each block, one block after another.
void body() {
    for (;;) {
        device->entry->call(device->entry->kernel, device->given);
        yield(*device, ENDED);
    }
}

// Completes an exchange once all lanes of a warp have reached it. Returns whether the exchange was completed. A lane
// that ended never arrives, so its warp stays blocked.
bool release_exchange(Warp& warp) {
    if (!warp.all(AT_EXCHANGE)) {
        return false;
    }
    memcpy(warp.published, warp.brought, sizeof(warp.published));
    warp.set_all(READY);
    return true;
}

bool all(unsigned warps, State state) {
    for (unsigned i = 0; i < warps; i++) {
        if (!device->warps[i].all(state)) {
            return false;
        }
    }
    return true;
}

void set_all(unsigned warps, State state) {
    for (unsigned i = 0; i < warps; i++) {
        device->warps[i].set_all(state);
    }
}

// Runs the lanes of a warp that are ready, and returns whether any was ready.
__attribute__((noinline)) bool run_warp(Device& on, unsigned warp, unsigned order, uint64_t random) {
    bool ready = false;
    for (State state : on.warps[warp].states) {
        ready |= state == READY;
    }
    on.warp = warp;
    on.turn = 0;
    on.order = order;
    on.random = random;
    if (ready && __builtin_setjmp(on.scheduler) == 0) {
        continue_elsewhere(on);
    }
    // The fibers have changed the memory.
    asm volatile("" ::: "memory");
    return on.turn != 0;
}

// Runs a block. Returns false if some threads never end, or wait for threads that never arrive.
bool run_block(unsigned warps, unsigned order, uint64_t& random) {
    set_all(warps, READY);
    unsigned meetings = 0;
    while (meetings < MOST_MEETINGS) {
        random = random * 6364136223846793005u + 1442695040888963407u;
        bool ran = false;
        for (unsigned i = 0; i < warps; i++) {
            const unsigned warp = in_order(order, random, i, warps);
            // In forward order, all warps advance in step. In other orders, each warp runs ahead as far as it can.
            do {
                ran |= run_warp(*device, warp, order, random);
                meetings++;
            } while (release_exchange(device->warps[warp]) && order != 0 && meetings < MOST_MEETINGS);
        }
        if (all(warps, ENDED)) {
            return true;
        }
        if (!ran) {
            // A barrier opens once all threads of the block have reached it.
            if (!all(warps, AT_BARRIER)) {
                return false;
            }
            set_all(warps, READY);
        }
    }
    return false;
}

} // namespace

void barrier() { yield(*device, AT_BARRIER); }

const unsigned long long* exchange(unsigned long long bits) {
    Device& on = *device;
    Warp& warp = on.warps[on.running / WARP];
    warp.brought[on.running % WARP] = bits;
    yield(on, AT_EXCHANGE);
    return warp.published;
}

float widen_f16(unsigned bits) {
    uint16_t narrow = (uint16_t)bits;
    _Float16 v;
    memcpy(&v, &narrow, 2);
    return (float)v;
}

unsigned narrow_f16(float v) {
    _Float16 narrow = (_Float16)v;
    uint16_t bits;
    memcpy(&bits, &narrow, 2);
    return bits;
}

// Returns a number from -1 to 1 that depends only on the bits of x. Two thirds of the numbers are -1 or 1.
static double disturbance(float x) {
    uint64_t bits = __float_as_uint(x) * 0x9e3779b97f4a7c15ull;
    bits = (bits ^ bits >> 29) * 0xbf58476d1ce4e5b9ull;
    bits ^= bits >> 32;
    return bits % 3 < 2 ? (bits % 3 == 0 ? -1.0 : 1.0) : (double)(bits >> 11 & 0xfffff) / 0x80000 - 1.0;
}

// Returns `near`, moved by up to `most` units in the last place. The bits of `x` determine the distance.
static float off_by_ulps(float near, float x, int most) {
    if (near == 0 || !std::isfinite(near)) {
        return near;
    }
    return __uint_as_float(__float_as_uint(near) + (int)std::lrint(disturbance(x) * most));
}

// Moves `exact` up or down by at most `most`, rounds the moved number to f32 toward `exact`, and returns the f32. The
// bits of `x` determine the distance.
static float off_by(double exact, float x, double most) {
    if (most == 0 || !std::isfinite(exact)) {
        return (float)exact;
    }
    const double moved = exact + disturbance(x) * most;
    const float near = (float)moved;
    return (near > moved) == (moved > exact) && near != moved ? std::nextafterf(near, (float)exact) : near;
}

static float flush(float v) { return std::fabs(v) < 0x1p-126f ? std::copysign(0.0f, v) : v; }

float product_ftz(float a, float b) { return flush(flush(a) * flush(b)); }
float product_up(float a, float b) {
    // The product of two f32 is exact in f64.
    const double exact = (double)a * (double)b;
    const float near = (float)exact;
    return (double)near < exact ? std::nextafterf(near, INFINITY) : near;
}

float fast_exp2_ftz(float x) { return flush(off_by_ulps(flush((float)std::exp2((double)flush(x))), x, 2)); }
float fast_reciprocal_ftz(float x) { return flush(off_by_ulps(flush((float)(1.0 / (double)flush(x))), x, 1)); }
float fast_reciprocal(float x) { return off_by_ulps((float)(1.0 / (double)x), x, 1); }
float fast_log2(float x) {
    const double exact = std::log2((double)x);
    return off_by(exact, x, 0x1p-22 * (0.5f < x && x < 2.0f ? 1.0 : std::fabs(exact)));
}
float fast_rsqrt(float x) {
    const double exact = 1.0 / std::sqrt((double)x);
    return off_by(exact, x, std::exp2(-22.9) * exact);
}
float fast_sqrt(float x) {
    const double exact = std::sqrt((double)x);
    return off_by(exact, x, 0x1p-23 * exact);
}

} // namespace emulator

enum Outcome { DONE, UNKNOWN_KERNEL, OTHER_THREADS, OTHER_ARGUMENTS, STUCK };

// Runs a kernel with `shared` bytes of dynamic shared memory. `order` selects the order in which threads run: 0 is
// forward, 1 is backward, and any other value is the seed of a random order.
extern "C" int emulator_launch(const char* name, unsigned blocks, unsigned threads, unsigned shared,
                               const void* arguments, size_t bytes, unsigned order) {
    using namespace emulator;
    const Entry* found = Entry::first;
    while (found && strcmp(found->name, name) != 0) {
        found = found->next;
    }
    if (!found) {
        return UNKNOWN_KERNEL;
    }
    if (threads < found->least_threads || threads > found->most_threads || threads % WARP != 0) {
        return OTHER_THREADS;
    }
    if (found->bytes != bytes) {
        return OTHER_ARGUMENTS;
    }
    device = &own_device;
    device->entry = found;
    device->given = arguments;
    if (device->fibers.size() < threads) {
        device->warps.resize(threads / WARP);
        device->stacks.resize(threads * STACK);
        // Their stacks may have moved, so all fibers start anew.
        device->fibers.assign(threads, Fiber());
    }
    // Memory that no thread wrote holds NaN.
    const uint4 nan = {~0u, ~0u, ~0u, ~0u};
    dynamic_memory.assign(shared / sizeof(uint4), nan);
    dynamic_shared = dynamic_memory.data();
    dynamic_bytes = shared;
    blockDim = {threads, 1, 1};
    gridDim = {blocks, 1, 1};
    uint64_t random = order;
    for (unsigned block = 0; block < blocks; block++) {
        blockIdx = {block, 0, 0};
        if (!run_block(threads / WARP, order, random)) {
            // The fibers stopped inside the kernel and can't run another block.
            device->fibers.clear();
            return STUCK;
        }
    }
    return DONE;
}
