// Gradient of softmax of rows, as `src/ops/softmax_backward.rs` defines it: (dy - mean) * y, where the mean of dy is
// weighted by y.
#include "softmax_backward_any.cuh"

struct OfSoftmax {
    static const bool MEAN = true, IS_OF_ROWS = false;
    // Number of pieces of incoming gradients that fit in registers, in addition to four pieces of exponentials.
    static const u32 KEPT = 3;
    // The product of two f32 values is exact in f64, so a fused operation and separate ones give the same bits.
    static DEVICE double with_term(double sum, double e, double dy) { return fma(e, dy, sum); }
    static DEVICE double of(double y, double dy, double mean) { return y * (dy - mean); }

    // Let u be 2^-24. The difference from the mean has an error of 1.04 u, because the subtraction of the mean's high
    // part is rounded, and `enough` limits the low part to 1/32 of the difference. The reciprocal adds u, its product
    // with the exponential u, the product with the low part u/32, and the last operation u. The sum is below 4.15 u.
    struct Near {
        static constexpr float MARGIN = 0x1.5p-22f; // 5.25 u
        float high, low, scale, enough;

        DEVICE Near(double reciprocal, double mean, u32 binades)
            : high((float)mean), low((float)(mean - (double)high)), scale((float)reciprocal) {
            const int least_weight = LEAST_RECIPROCAL - (int)binades;
            const float floor = power_of_two(LEAST_NEAR - least_weight);
            enough = least_weight < -120 ? float_of(0x7fffffff) : fmaxf(fabsf(high) * 0x1p-19f, floor);
        }

        DEVICE float of(float e, float dy, float& least) const {
            const float difference = dy - high, weight = e * scale;
            least = fminf(least, fabsf(difference));
            return fmaf(difference, weight, -(weight * low));
        }
    };
};

BACKWARD(OfSoftmax, softmax_backward, F32, f32)
BACKWARD(OfSoftmax, softmax_backward, F16, f16)
BACKWARD(OfSoftmax, softmax_backward, BF16, bf16)
