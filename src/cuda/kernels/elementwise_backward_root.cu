// Gradients of logarithms, roots and the reciprocal. Each of these gradients is a quotient.
#include "elementwise_backward.cuh"
#include "root.cuh"

// Returns x, with -0 replaced by +0 and negative numbers by NaN.
DEVICE double from_zero_on(double x) { return 0.0 <= x ? fabs(x) : NOT_A_NUMBER; }

// Multiplies a gradient by -1/2 x^(-3/2), for x >= 0.
DEVICE double times_rsqrt_derivative(double dy, double x) {
    // The CPU scales tiny gradients up. Only f64 gradients need this step, so it is omitted here.
    const Sum root = rsqrt_wide(x);
    const Sum p = product({dy * -0.5, 0.0}, root);
    const double q = p.hi / x;
    const double rest = (fma(-q, x, p.hi) + p.lo) / x;
    // If x is zero or infinite, `rest` is NaN or infinite. 0 then replaces `rest`.
    return q + (fabs(rest) < INFINITE ? rest : 0.0);
}

GRADIENT_WITHIN(LogBackward, dy / from_zero_on(x))
GRADIENT_WITHIN(Log1pBackward, dy / from_zero_on(x + 1.0))
GRADIENT_WITHIN(Log2Backward, dy / from_zero_on(x) * 0x1.71547652b82fep+0)
GRADIENT_WITHIN(SqrtBackward, dy / (sqrt(from_zero_on(x)) * 2.0))
GRADIENT_WITHIN(RsqrtBackward, times_rsqrt_derivative(dy, x))
GRADIENT_WITHIN(ReciprocalBackward, -dy / (x * x))

ELEMENTWISE(LogBackward, log_backward)
ELEMENTWISE(Log1pBackward, log1p_backward)
ELEMENTWISE(Log2Backward, log2_backward)
ELEMENTWISE(SqrtBackward, sqrt_backward)
ELEMENTWISE(RsqrtBackward, rsqrt_backward)
ELEMENTWISE(ReciprocalBackward, reciprocal_backward)
