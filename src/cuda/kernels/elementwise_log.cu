// Logarithms of elements.
#include "elementwise.cuh"
#include "log.cuh"

FUNCTION_NEAR(Log, log_wide(x), near_log(x))
FUNCTION(Log1p, log1p_wide(x))
FUNCTION_NEAR(Log2, log2_wide(x), near_log2(x))

// Computes ln of the larger of x and the floor.
struct ClampedLog {
    static const bool OF_TWO = false, HAS_NEAR = true, HAS_PAIR = false;
    const double floor;
    DEVICE ClampedLog(const ElementwiseArguments& a) : floor(a.options[0]) {}
    DEVICE double operator()(double x, double) const { return rounded(log_of_any(larger(floor, x))); }
    DEVICE float near(float x) const { return floor <= x ? near_log(x) : NOT_NEAR; }
};

ELEMENTWISE(Log, log)
ELEMENTWISE(Log1p, log1p)
ELEMENTWISE(Log2, log2)
ELEMENTWISE(ClampedLog, clamped_log)
