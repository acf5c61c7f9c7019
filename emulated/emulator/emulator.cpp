// Fibers, and the one function that the host calls.
#include "emulator.h"
#include <cstdint>
#include <ucontext.h>
#include <vector>

Index threadIdx, blockIdx, blockDim, gridDim;

namespace emulator {

const Entry* Entry::first = nullptr;

namespace {

enum State { READY, AT_BARRIER, AT_EXCHANGE, ENDED };

struct Fiber {
    ucontext_t context;
    State state;
    unsigned long long brought;
    // What its warp's lanes brought, once all were there.
    unsigned long long published;
    unsigned from;
};

const size_t STACK = 64 << 10;
const unsigned WARP = 32;

ucontext_t scheduler;
std::vector<Fiber> fibers;
std::vector<char> stacks;
unsigned running;
const Entry* entry;
const void* given;

void yield(State state) {
    unsigned own = running;
    fibers[own].state = state;
    swapcontext(&fibers[own].context, &scheduler);
}

void body() {
    entry->call(entry->kernel, given);
    yield(ENDED);
}

// Wakes the warps whose lanes are all at an exchange. A lane that ended brings nothing, and can't be asked.
bool release_exchanges() {
    bool released = false;
    for (size_t first = 0; first < fibers.size(); first += WARP) {
        bool all = true;
        for (unsigned lane = 0; lane < WARP; lane++) {
            all = all && fibers[first + lane].state == AT_EXCHANGE;
        }
        if (!all) {
            continue;
        }
        for (unsigned lane = 0; lane < WARP; lane++) {
            Fiber& fiber = fibers[first + lane];
            fiber.published = fibers[first + fiber.from].brought;
        }
        for (unsigned lane = 0; lane < WARP; lane++) {
            fibers[first + lane].state = READY;
        }
        released = true;
    }
    return released;
}

// Wakes the block if all of it is at a barrier.
bool release_barrier() {
    for (const Fiber& fiber : fibers) {
        if (fiber.state != AT_BARRIER) {
            return false;
        }
    }
    for (Fiber& fiber : fibers) {
        fiber.state = READY;
    }
    return true;
}

bool have_ended() {
    for (const Fiber& fiber : fibers) {
        if (fiber.state != ENDED) {
            return false;
        }
    }
    return true;
}

// The i-th of n in an order that is another one each time.
unsigned in_order(unsigned order, uint64_t& random, unsigned i, unsigned n) {
    if (order == 0) {
        return i;
    }
    if (order == 1) {
        return n - 1 - i;
    }
    // All of 0 .. n - 1, n a power of two: an odd factor and an offset of this turn.
    return (unsigned)((i * ((random >> 20) | 1) + (random >> 40)) % n);
}

// Runs a block; false if some threads wait for others that will never come.
bool run_block(unsigned order, uint64_t& random) {
    unsigned n = (unsigned)fibers.size();
    for (unsigned i = 0; i < n; i++) {
        Fiber& fiber = fibers[i];
        getcontext(&fiber.context);
        fiber.context.uc_stack.ss_sp = &stacks[i * STACK];
        fiber.context.uc_stack.ss_size = STACK;
        fiber.context.uc_link = nullptr;
        makecontext(&fiber.context, body, 0);
        fiber.state = READY;
    }
    for (;;) {
        random = random * 6364136223846793005u + 1442695040888963407u;
        for (unsigned i = 0; i < n; i++) {
            running = in_order(order, random, i, n);
            if (fibers[running].state == READY) {
                threadIdx = {running, 0, 0};
                swapcontext(&scheduler, &fibers[running].context);
            }
        }
        if (have_ended()) {
            return true;
        }
        if (!release_exchanges() && !release_barrier()) {
            return false;
        }
    }
}

} // namespace

void barrier() { yield(AT_BARRIER); }

unsigned long long exchange(unsigned long long bits, unsigned from) {
    unsigned own = running;
    fibers[own].brought = bits;
    fibers[own].from = from;
    yield(AT_EXCHANGE);
    return fibers[own].published;
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

} // namespace emulator

enum Outcome { DONE, UNKNOWN_KERNEL, OTHER_THREADS, OTHER_ARGUMENTS, STUCK };

// Runs a kernel. `order` is that in which threads take turns: 0 forward, 1 backward, else a seed.
extern "C" int emulator_launch(const char* name, unsigned blocks, unsigned threads, const void* arguments, size_t bytes,
                               unsigned order) {
    using namespace emulator;
    const Entry* found = Entry::first;
    while (found && strcmp(found->name, name) != 0) {
        found = found->next;
    }
    if (!found) {
        return UNKNOWN_KERNEL;
    }
    if (found->threads != threads) {
        return OTHER_THREADS;
    }
    if (found->bytes != bytes) {
        return OTHER_ARGUMENTS;
    }
    entry = found;
    given = arguments;
    fibers.assign(threads, Fiber());
    stacks.resize(threads * STACK);
    blockDim = {threads, 1, 1};
    gridDim = {blocks, 1, 1};
    uint64_t random = order;
    for (unsigned block = 0; block < blocks; block++) {
        blockIdx = {block, 0, 0};
        if (!run_block(order, random)) {
            return STUCK;
        }
    }
    return DONE;
}
