// Gradient of log_softmax of rows, as `src/ops/log_softmax_backward.rs` defines it: dy - e^y sum(dy).
#include "softmax_backward.cuh"

struct OfLogSoftmax {
    static const bool MEAN = false, IS_OF_ROWS = false;
    static DEVICE double term(double, double dy) { return dy; }
    static DEVICE double of(double y, double dy, double sum) { return fma(-y, sum, dy); }
};

BACKWARD(OfLogSoftmax, log_softmax_backward, F32, f32)
BACKWARD(OfLogSoftmax, log_softmax_backward, F16, f16)
BACKWARD(OfLogSoftmax, log_softmax_backward, BF16, bf16)
