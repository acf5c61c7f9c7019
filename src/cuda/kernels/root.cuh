// The reciprocal square root, as `src/math/sqrt.rs` defines it.
#pragma once
#include "wide.cuh"

// Computes 1 / sqrt(x).
DEVICE Sum rsqrt_wide(double x) {
    const double root = sqrt(x);
    const double hi = 1.0 / root;
    // Errors of the root and of the quotient, to first order.
    const double of_root = fma(-root, root, x);
    const double of_quotient = fma(-hi, root, 1.0);
    const double lo = hi * (of_quotient - of_root * 0.5 * hi * hi);
    // If x is zero or infinite, `hi` is exact and `lo` is NaN, so 0 replaces `lo`.
    return {hi, lo != lo ? 0.0 : lo};
}
