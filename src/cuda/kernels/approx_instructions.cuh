// The device's approximate instructions, for the certainty test of `approx_f32.cuh` only. Their results differ between
// architectures, so no result may depend on them without that test.
//
// NVIDIA documents these bounds (PTX ISA, section Floating Point Instructions; an f32 unit in the last place, ULP, is
// at most 2^-23 of the value). Zeros, infinities and NaN give the results of the exact functions.
//
// | instruction | largest error |
// |---|---|
// | ex2.approx | 2 ULP from the correctly rounded result, so less than 2.5 ULP from the exact one |
// | lg2.approx | 2^-22 for arguments between 0.5 and 2, else 2^-22 of the result |
// | rcp.approx | 1 ULP, of the exact or of the correctly rounded result; this file assumes 1.5 ULP for both cases |
// | rsqrt.approx | 2^-22.9 of the result |
// | sqrt.approx | 2^-23 of the result |
//
// With `.ftz`, subnormal arguments and results become zeros. Without it, the assembler adds instructions that scale.
// For the ends of intervals, this file also has a product that flushes subnormals and a product that is rounded up.
#pragma once
#include "common.cuh"

#ifdef __CUDACC__
#define APPROXIMATION(NAME, INSTRUCTION)                                                                               \
    DEVICE float NAME(float x) {                                                                                       \
        float v;                                                                                                       \
        asm(INSTRUCTION " %0, %1;" : "=f"(v) : "f"(x));                                                                \
        return v;                                                                                                      \
    }
#else
#define APPROXIMATION(NAME, INSTRUCTION)                                                                               \
    DEVICE float NAME(float x) { return emulator::NAME(x); }
#endif

// Multiplies and rounds to nearest, with subnormal factors and results replaced by zero.
DEVICE float product_ftz(float a, float b) {
#ifdef __CUDACC__
    float v;
    asm("mul.rn.ftz.f32 %0, %1, %2;" : "=f"(v) : "f"(a), "f"(b));
    return v;
#else
    return emulator::product_ftz(a, b);
#endif
}

// Multiplies and rounds up.
DEVICE float product_up(float a, float b) {
#ifdef __CUDACC__
    float v;
    asm("mul.rp.f32 %0, %1, %2;" : "=f"(v) : "f"(a), "f"(b));
    return v;
#else
    return emulator::product_up(a, b);
#endif
}

APPROXIMATION(fast_exp2_ftz, "ex2.approx.ftz.f32")
APPROXIMATION(fast_reciprocal_ftz, "rcp.approx.ftz.f32")
APPROXIMATION(fast_reciprocal, "rcp.approx.f32")
APPROXIMATION(fast_log2, "lg2.approx.f32")
APPROXIMATION(fast_rsqrt, "rsqrt.approx.f32")
APPROXIMATION(fast_sqrt, "sqrt.approx.f32")
