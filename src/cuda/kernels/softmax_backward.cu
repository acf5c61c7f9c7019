// Gradient of softmax of rows, as `src/ops/softmax_backward.rs` defines it: y (dy - mean), where the mean of dy is
// weighted by y.
#include "softmax_backward.cuh"

struct OfSoftmax {
    static const bool MEAN = true, IS_OF_ROWS = false;
    static DEVICE double term(double e, double dy) { return e * dy; }
    static DEVICE double of(double y, double dy, double mean) { return y * (dy - mean); }
};

BACKWARD(OfSoftmax, softmax_backward, F32, f32)
BACKWARD(OfSoftmax, softmax_backward, F16, f16)
BACKWARD(OfSoftmax, softmax_backward, BF16, bf16)
