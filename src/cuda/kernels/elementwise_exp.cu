// Exponentials of elements.
#include "elementwise.cuh"
#include "exp.cuh"

FUNCTION(Exp, exp_wide(x))
FUNCTION(Exp2, exp2_wide(x))
FUNCTION(Expm1, expm1_wide(x))

// e^x for x brought to within two bounds.
struct ClampedExp {
    static const bool OF_TWO = false;
    const double min, max;
    DEVICE ClampedExp(const ElementwiseArguments& a) : min(a.options[0]), max(a.options[1]) {}
    DEVICE double operator()(double x, double) const { return rounded(exp_wide(smaller(max, larger(min, x)))); }
};

ELEMENTWISE(Exp, exp)
ELEMENTWISE(Exp2, exp2)
ELEMENTWISE(Expm1, expm1)
ELEMENTWISE(ClampedExp, clamped_exp)
