// Exponentials of elements.
#include "elementwise.cuh"
#include "exp.cuh"

FUNCTION_PAIR(Exp, exp_wide(x), near_exp(x), exp_sides)
FUNCTION_NEAR(Exp2, exp2_wide(x), near_exp2(x))
FUNCTION(Expm1, expm1_wide(x))

// Computes e^x for x clamped to a range.
struct ClampedExp {
    static const bool OF_TWO = false, HAS_NEAR = true, HAS_PAIR = false;
    const double min, max;
    DEVICE ClampedExp(const ElementwiseArguments& a) : min(a.options[0]), max(a.options[1]) {}
    DEVICE double operator()(double x, double) const { return rounded(exp_wide(smaller(max, larger(min, x)))); }
    DEVICE float near(float x) const { return min <= x && x <= max ? near_exp(x) : NOT_NEAR; }
};

ELEMENTWISE(Exp, exp)
ELEMENTWISE(Exp2, exp2)
ELEMENTWISE(Expm1, expm1)
ELEMENTWISE(ClampedExp, clamped_exp)
