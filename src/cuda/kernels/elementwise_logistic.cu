// The logistic function of elements, and what is made of it.
#include "elementwise.cuh"
#include "logistic.cuh"

FUNCTION_NEAR(Sigmoid, sigmoid_wide(x), near_sigmoid(x))
FUNCTION_NEAR(Silu, silu_wide(x), near_silu(x))
FUNCTION_NEAR(Tanh, tanh_wide(x), near_tanh(x))
FUNCTION_NEAR(GeluTanh, gelu_tanh_wide(x), near_gelu_tanh(x))

ELEMENTWISE(Sigmoid, sigmoid)
ELEMENTWISE(Silu, silu)
ELEMENTWISE(Tanh, tanh)
ELEMENTWISE(GeluTanh, gelu_tanh)
