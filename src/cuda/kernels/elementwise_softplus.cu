// Softplus, log-sigmoid and log-add-exp of elements.
#include "elementwise.cuh"
#include "logistic.cuh"
#include "softplus_pair.cuh"

FUNCTION_PAIR(Softplus, softplus_wide(x), near_softplus<S>(x), softplus_sides)
FUNCTION_PAIR(LogSigmoid, log_sigmoid_wide(x), near_log_sigmoid<S>(x), log_sigmoid_sides)

// Computes ln(e^x + e^other).
struct LogAddExp {
    static const bool OF_TWO = true, HAS_NEAR = false, HAS_PAIR = false;
    DEVICE LogAddExp(const ElementwiseArguments&) {}
    DEVICE double operator()(double x, double other) const { return rounded(log_add_exp_wide(x, other)); }
};

ELEMENTWISE(Softplus, softplus)
ELEMENTWISE(LogSigmoid, log_sigmoid)
ELEMENTWISE(LogAddExp, log_add_exp)
