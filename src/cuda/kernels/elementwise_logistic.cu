// The logistic function of elements, and what is made of it.
#include "elementwise.cuh"
#include "logistic.cuh"

FUNCTION(Sigmoid, sigmoid_wide(x))
FUNCTION(Silu, silu_wide(x))
FUNCTION(Tanh, tanh_wide(x))
FUNCTION(GeluTanh, gelu_tanh_wide(x))

ELEMENTWISE(Sigmoid, sigmoid)
ELEMENTWISE(Silu, silu)
ELEMENTWISE(Tanh, tanh)
ELEMENTWISE(GeluTanh, gelu_tanh)
