// Exponentials of elements.
#include "elementwise.cuh"
#include "exp.cuh"

FUNCTION_PAIR(Exp, exp_wide(x), near_exp<S>(x), exp_sides)
FUNCTION_PAIR(Exp2, exp2_wide(x), near_exp2<S>(x), exp2_sides)
FUNCTION(Expm1, expm1_wide(x), near_expm1<S>(x))

// Computes e^x for x clamped to a range.
struct ClampedExp {
    typedef PairTables Tables;
    static const bool OF_TWO = false, HAS_NEAR = true, HAS_PAIR = false;
    const double min, max;
    DEVICE ClampedExp(const ElementwiseArguments& a) : min(a.options[0]), max(a.options[1]) {}
    DEVICE double operator()(double x, double) const { return rounded(exp_wide(smaller(max, larger(min, x)))); }
    template <class S>
    DEVICE Interval near(float x) const {
        // Let u be 2^-24, and t = limit * log2(e). Rounding a limit to f32 causes a relative error of at most u |limit|
        // = 0.69 u |t| in e^limit. Together with the error 0.853 u |t| of `near_exp`, this is less than 1.625 u |t|.
        return near_exp<S>(min_or_nan((float)max, max_or_nan((float)min, x)), 1.625f);
    }
};

ELEMENTWISE(Exp, exp)
ELEMENTWISE(Exp2, exp2)
ELEMENTWISE(Expm1, expm1)
ELEMENTWISE(ClampedExp, clamped_exp)
