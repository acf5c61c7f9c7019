// Gradient of logsumexp of rows, as `src/ops/logsumexp_backward.rs` defines it: softmax(x) dy, where each row has one
// dy.
#include "softmax_backward.cuh"

struct OfLogSumExp {
    static const bool MEAN = false, IS_OF_ROWS = true;
    static DEVICE double of(double y, double, double dy) { return y * dy; }
};

BACKWARD(OfLogSumExp, logsumexp_backward, F32, f32)
BACKWARD(OfLogSumExp, logsumexp_backward, F16, f16)
BACKWARD(OfLogSumExp, logsumexp_backward, BF16, bf16)
