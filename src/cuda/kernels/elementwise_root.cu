// Roots and quotients of elements.
#include "elementwise.cuh"
#include "root.cuh"

// f64 has more than twice the precision of f32 and of the 16-bit types. A root or quotient that is first rounded to
// f64, and then to one of these types, is therefore correctly rounded.
FUNCTION(Sqrt, (Sum{sqrt(x), -0.0}), near_sqrt(x))
FUNCTION(Reciprocal, (Sum{1.0 / x, -0.0}), near_reciprocal<S>(x))

FUNCTION(Rsqrt, rsqrt_wide(x), near_rsqrt(x))

// Computes x / d. If |d| is below eps, eps with the sign of d replaces d. The result is limited to the largest value of
// the type.
struct SafeDiv {
    static const bool OF_TWO = true, HAS_NEAR = false, HAS_PAIR = false;
    const double eps, largest;
    DEVICE SafeDiv(const ElementwiseArguments& a) : eps(a.options[0]), largest(a.options[1]) {}
    DEVICE double operator()(double x, double d) const {
        const double least = wide_of(bits_of_wide(eps) | (bits_of_wide(d) & SIGN));
        const double away = fabs(d) < eps ? least : d;
        const double q = x / away;
        // The remainder decides how a quotient halfway between two results is rounded. An infinite quotient has no
        // remainder.
        const double rest = fma(-q, away, x) / away;
        const double odd = rounded(Sum{q, fabs(rest) < INFINITE ? rest : -0.0});
        // The result of 0 / 0, which is possible if eps is 0, is defined as 0.
        return within(x == 0.0 && d == 0.0 ? 0.0 : odd, largest);
    }
};

ELEMENTWISE(Sqrt, sqrt)
ELEMENTWISE(Reciprocal, reciprocal)
ELEMENTWISE(Rsqrt, rsqrt)
ELEMENTWISE(SafeDiv, safe_div)
