// Gradient of log_softmax of rows, as `src/ops/log_softmax_backward.rs` defines it: dy - e^y * sum(dy).
#include "softmax_backward_any.cuh"

struct OfLogSoftmax {
    static const bool MEAN = false, IS_OF_ROWS = false;
    // Number of pieces of incoming gradients that fit in registers, in addition to four pieces of exponentials.
    static const u32 KEPT = 4;
    static DEVICE double with_term(double sum, double, double dy) { return sum + dy; }
    static DEVICE double of(double y, double dy, double sum) { return fma(-y, sum, dy); }

    // Let u be 2^-24. The gradient is dy minus the product of an exponential and a factor. The factor is a float-float
    // pair with a relative error of 2^-48. `enough` ensures that the product is at most 2^20 times the result. So the
    // error of the factor adds at most u / 16 to the result's error, the inner fused operation at most 1.04 u, and the
    // outer one 1 u.
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
            // If 2^19 |near| - |dy| is at least `enough`, then |dy| is at most 2^19 |near|.
            least = fminf(least, fmaf(fabsf(near), 0x1p19f, -fabsf(dy)));
            return near;
        }
    };
};

BACKWARD(OfLogSoftmax, log_softmax_backward, F32, f32)
BACKWARD(OfLogSoftmax, log_softmax_backward, F16, f16)
BACKWARD(OfLogSoftmax, log_softmax_backward, BF16, bf16)
