// Logarithms of elements.
#include "elementwise.cuh"
#include "log.cuh"

FUNCTION(Log, log_wide(x))
FUNCTION(Log1p, log1p_wide(x))
FUNCTION(Log2, log2_wide(x))

// ln x for x not below the floor.
struct ClampedLog {
    static const bool OF_TWO = false;
    const double floor;
    DEVICE ClampedLog(const ElementwiseArguments& a) : floor(a.options[0]) {}
    DEVICE double operator()(double x, double) const { return rounded(log_of_any(larger(floor, x))); }
};

ELEMENTWISE(Log, log)
ELEMENTWISE(Log1p, log1p)
ELEMENTWISE(Log2, log2)
ELEMENTWISE(ClampedLog, clamped_log)
