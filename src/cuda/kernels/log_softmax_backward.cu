// Gradient of log_softmax of rows, as `src/ops/log_softmax_backward.rs` defines it: dy - e^y sum(dy).
#include "softmax_backward.cuh"

struct OfLogSoftmax {
    static const bool MEAN = false, IS_OF_ROWS = false;
    // Number of pieces that fit in registers next to four pieces of exponentials.
    static const u32 KEPT = 4;
    static DEVICE double with_term(double sum, double, double dy) { return sum + dy; }
    static DEVICE double of(double y, double dy, double sum) { return fma(-y, sum, dy); }

    // Let u be 2^-24. The factor has a high part and a low part. `enough` makes the product at most 2^20 times the
    // result, so both fused operations add at most 1.04 u and the factor's error 2^-48 adds u / 16.
    struct Near {
        static constexpr float MARGIN = 0x1.9p-23f; // 3.125 u
        float high, low, enough;

        DEVICE Near(double reciprocal, double sum, u32) {
            const double factor = reciprocal * sum;
            high = (float)factor;
            low = (float)(factor - (double)high);
            enough = fabs(factor) < 0x1p100 ? power_of_two(LEAST_NEAR + 19) : float_of(0x7fffffff);
        }

        DEVICE float of(float e, float dy, float& least) const {
            const float near = fmaf(-e, low, fmaf(-e, high, dy));
            // At least `enough` only if the magnitude of dy is at most 2^19 times the result's.
            least = fminf(least, fmaf(fabsf(near), 0x1p19f, -fabsf(dy)));
            return near;
        }
    };
};

BACKWARD(OfLogSoftmax, log_softmax_backward, F32, f32)
BACKWARD(OfLogSoftmax, log_softmax_backward, F16, f16)
BACKWARD(OfLogSoftmax, log_softmax_backward, BF16, bf16)
