// The gated linear unit with silu in f64, as `src/math/swiglu.rs` defines it: silu(gate) * up.
#pragma once
#include "derivative.cuh"
#include "wide_pair.cuh"

// Computes e^x for x <= 0 with an error of about 1 ULP. For x below -700, the result is 0.
DEVICE double exp_term(double x) {
    const Reduced at = reduced(larger(-700.0, x));
    const double power = fma(at.r * at.r, horner_halves(at.r, EXP_POLY), at.r) + 1.0;
    return -700.0 <= x ? wide_of(bits_of_wide(power) + (at.n << 52)) : 0.0;
}

// Computes silu(gate) * up in f64.
DEVICE double swiglu_wide(double gate, double up) {
    const double x = larger(-FAR, gate), most = x * up;
    const double t = exp_term(0.0 - fabs(x));
    const double y = x * ((x < 0.0 ? t : 1.0) / (1.0 + t)) * up;
    // The result is at most gate * up in magnitude. If gate * up is 0 or -0, the result is gate * up.
    return gate == -INFINITE ? -0.0 * up : most == 0.0 ? most : y;
}
