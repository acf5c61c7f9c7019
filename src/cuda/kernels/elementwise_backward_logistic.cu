// Gradients of the logistic function, and of functions composed from it.
#include "elementwise_backward.cuh"

GRADIENT(SigmoidBackward, logistic_derivative(-fabs(x)), near_sigmoid_derivative(x),
         logistic_derivative_pair(tables, x, 1.0f))
GRADIENT(TanhBackward, tanh_derivative(x), near_tanh_derivative(x),
         logistic_derivative_pair(tables, x * 2.0f, 4.0f))
GRADIENT(SiluBackward, silu_derivative(x), near_silu_derivative(x),
         silu_derivative_pair(tables, x))
GRADIENT(GeluTanhBackward, gelu_tanh_derivative(x), near_gelu_tanh_derivative(x),
         gelu_tanh_derivative_pair(tables, x))
GRADIENT(SoftplusBackward, share_derivative(-fabs(x), x < 0.0), near_softplus_derivative(x),
         softplus_derivative_pair(tables, x))
GRADIENT(LogSigmoidBackward, share_derivative(-fabs(x), 0.0 < x), near_softplus_derivative(-x),
         softplus_derivative_pair(tables, -x))

ELEMENTWISE(SigmoidBackward, sigmoid_backward)
ELEMENTWISE(TanhBackward, tanh_backward)
ELEMENTWISE(SiluBackward, silu_backward)
ELEMENTWISE(GeluTanhBackward, gelu_tanh_backward)
ELEMENTWISE(SoftplusBackward, softplus_backward)
ELEMENTWISE(LogSigmoidBackward, log_sigmoid_backward)
