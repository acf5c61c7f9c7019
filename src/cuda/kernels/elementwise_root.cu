// Roots and quotients of elements.
#include "elementwise.cuh"

// f64 has more than twice the digits of the types here: its rounding does not show in theirs.
FUNCTION_NEAR(Sqrt, (Sum{sqrt(x), -0.0}), sqrtf(x))
FUNCTION_NEAR(Reciprocal, (Sum{1.0 / x, -0.0}), 1.0f / x)

DEVICE Sum rsqrt_wide(double x) {
    const double root = sqrt(x);
    const double hi = 1.0 / root;
    // What the root and the quotient leave out, to first order.
    const double of_root = fma(-root, root, x);
    const double of_quotient = fma(-hi, root, 1.0);
    const double lo = hi * (of_quotient - of_root * 0.5 * hi * hi);
    // At zero and infinity there is nothing left out, but a product of the two.
    return {hi, lo != lo ? 0.0 : lo};
}
FUNCTION_NEAR(Rsqrt, rsqrt_wide(x), near_rsqrt(x))

// x / d with |d| not below eps, at most the largest value of the type.
struct SafeDiv {
    static const bool OF_TWO = true, HAS_NEAR = false, HAS_PAIR = false;
    const double eps, largest;
    DEVICE SafeDiv(const ElementwiseArguments& a) : eps(a.options[0]), largest(a.options[1]) {}
    DEVICE double operator()(double x, double d) const {
        const double least = wide_of(bits_of_wide(eps) | (bits_of_wide(d) & SIGN));
        const double away = fabs(d) < eps ? least : d;
        const double q = x / away;
        // What is left out decides a tie; of an infinite quotient nothing is.
        const double rest = fma(-q, away, x) / away;
        const double odd = rounded(Sum{q, fabs(rest) < INFINITE ? rest : -0.0});
        // 0 / 0, with an eps of 0.
        return within(x == 0.0 && d == 0.0 ? 0.0 : odd, largest);
    }
};

ELEMENTWISE(Sqrt, sqrt)
ELEMENTWISE(Reciprocal, reciprocal)
ELEMENTWISE(Rsqrt, rsqrt)
ELEMENTWISE(SafeDiv, safe_div)
