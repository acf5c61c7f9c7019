// Gradient of logsumexp of rows, as `src/ops/logsumexp_backward.rs` defines it: softmax(x) * dy, with one dy for each
// row.
#include "softmax_backward_any.cuh"

struct OfLogSumExp {
    static const bool MEAN = false, IS_OF_ROWS = true;
    static const u32 KEPT = 0;
    static DEVICE double of(double y, double, double dy) { return y * dy; }

    // The factor is rounded to f32, and so is its product with an exponential. Each rounding has a relative error of at
    // most 2^-24, so the relative error of a gradient is about 2^-23 at most.
    struct Near {
        static constexpr float MARGIN = 0x1.9p-23f; // 3.125 times 2^-24
        float factor, enough;

        DEVICE Near(double reciprocal, double dy, u32 binades) : factor((float)(reciprocal * dy)) {
            enough = fabsf(factor) >= power_of_two(LEAST_NEAR + (int)binades) ? 0.0f : float_of(0x7fffffff);
        }

        DEVICE float of(float e, float, float&) const { return e * factor; }
    };
};

BACKWARD(OfLogSumExp, logsumexp_backward, F32, f32)
BACKWARD(OfLogSumExp, logsumexp_backward, F16, f16)
BACKWARD(OfLogSumExp, logsumexp_backward, BF16, bf16)
