// The logistic function of elements, and functions composed from it.
#include "elementwise.cuh"
#include "logistic.cuh"

FUNCTION_PAIR(Sigmoid, sigmoid_wide(x), near_sigmoid<S>(x), sigmoid_sides)
FUNCTION_PAIR(Silu, silu_wide(x), near_silu<S>(x), silu_sides)
FUNCTION_PAIR(Tanh, tanh_wide(x), near_tanh(x), tanh_sides)
FUNCTION_PAIR(GeluTanh, gelu_tanh_wide(x), near_gelu_tanh<S>(x), gelu_tanh_sides)

ELEMENTWISE(Sigmoid, sigmoid)
ELEMENTWISE(Silu, silu)
ELEMENTWISE(Tanh, tanh)
ELEMENTWISE(GeluTanh, gelu_tanh)
