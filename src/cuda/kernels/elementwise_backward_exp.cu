// Gradients of exponentials, of the error function and of gelu.
#include "elementwise_backward.cuh"
#include "normal.cuh"
#include "normal_pair.cuh"

// Computes the normal distribution function plus x times the density.
DEVICE Wide gelu_derivative(double x) {
    const Sum DENSITY = {0x1.9884533d43651p-2, -0x1.cbc0d30ebfd15p-56};
    // The limit is sqrt(2 * `FAR`), rounded as on the CPU.
    x = within(x, 0x1.87eb1990b697ap+4);
    const double a = fabs(x);
    const TailFactors tail = normal_tail(a);
    const Wide e = tail.exponential;

    // For x below -1, the derivative is tail - |x| * density. Both terms have the factor `e`, which multiplies their
    // sum `rest`. For x above 1, the derivative is 1 minus the derivative at -x.
    const Sum second = product({-a, 0.0}, DENSITY);
    const Sum rest = two_sum(tail.scaled.hi, second.hi);
    const Sum t = product({rest.hi, rest.lo + (tail.scaled.lo + second.lo)}, {e.hi, e.lo});
    const Sum plain = below_one({t.hi, t.lo, e.exponent}, tail.power);
    const Sum above = two_sum(1.0, -plain.hi);

    // Near zero, the derivative is 1/2 plus the density's integral plus x times the density.
    const double small = within(x, 1.0);
    const Sum integral = normal_integral(small);
    const Sum term = product(product({small, 0.0}, DENSITY), below_one(e, tail.power));
    const Sum half = two_sum(0.5, integral.hi);
    const Sum near = two_sum(half.hi, term.hi);
    const double near_low = near.lo + (half.lo + (integral.lo + term.lo));

    const bool is_near = a < 1.0, is_tail = x <= -1.0;
    const double hi = is_near ? near.hi : is_tail ? t.hi : above.hi;
    const double lo = is_near ? near_low : is_tail ? t.lo : above.lo - plain.lo;
    return {hi, lo, is_tail ? e.exponent : 0};
}

// Computes the derivative of gelu in f64 with reduced precision. With a = |x|, the derivative at -a is the tail beyond
// a, minus a times the density. The derivative at a is 1 minus the derivative at -a.
template <class Tables>
DEVICE DerivativePair gelu_derivative_pair(const Tables& tables, float x) {
    const float LARGEST = 9.0f;
    const float a = fabsf(clamped(x, LARGEST));
    const double e = exponential_of(tables, a, 0.5f), wide = (double)a;
    const double terms = fma(wide * -0x1.9884533d43651p-2, e, tail_by(wide, e));
    const double value = x < 0.0f ? terms : 1.0 - terms;
    const float hi = (float)value;
    // The error bound is a multiple of `magnitude`. The first summand is an upper bound of the sum of the two terms'
    // magnitudes, because both terms have the relative error of gelu's tail. The second summand covers the error of the
    // product with a gradient if the derivative is near 1.
    const float magnitude = fmaf((float)e, fmaf(a, 0.47f, 0.58f), x < 0.0f ? 0.0f : 0x1p-10f);
    return {{hi, (float)(value - (double)hi)}, magnitude, -LARGEST < x};
}

GRADIENT(ExpBackward, exp_derivative(x, 0.0), near_exp_derivative(x), exp_derivative_pair(tables, x))
GRADIENT(Exp2Backward, exp2_derivative(x), near_exp2_derivative(x), exp2_derivative_pair(tables, x))
GRADIENT(ErfBackward, erf_derivative(x), near_erf_derivative(x), erf_derivative_pair(tables, x))
GRADIENT(GeluBackward, gelu_derivative(x), near_gelu_derivative(x), gelu_derivative_pair(tables, x))
GRADIENT_WITHIN(ClampedExpBackward, times_derivative(dy, exp_derivative(x, 0.0)))

ELEMENTWISE(ExpBackward, exp_backward)
ELEMENTWISE(Exp2Backward, exp2_backward)
ELEMENTWISE(ErfBackward, erf_backward)
ELEMENTWISE(GeluBackward, gelu_backward)
ELEMENTWISE(ClampedExpBackward, clamped_exp_backward)
