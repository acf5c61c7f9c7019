// Philox4x32-10, the counter-based random number generator of `src/math/philox.rs`.
#pragma once
#include "common.cuh"

struct PhiloxWords {
    u32 c[4];
};

// Returns four random words for a counter and a key.
DEVICE PhiloxWords philox4x32(PhiloxWords counter, u32 k0, u32 k1) {
    u32* c = counter.c;
    for (u32 round = 0; round < 10; round++) {
        const u64 a = (u64)0xd2511f53 * c[0], b = (u64)0xcd9e8d57 * c[2];
        c[0] = (u32)(b >> 32) ^ c[1] ^ k0;
        c[1] = (u32)b;
        c[2] = (u32)(a >> 32) ^ c[3] ^ k1;
        c[3] = (u32)a;
        k0 += 0x9e3779b9;
        k1 += 0xbb67ae85;
    }
    return counter;
}
