// Derivatives of functions of one element in f64, as `src/math/derivative.rs` defines them. Unlike the functions, the
// gradients are not rounded to odd: the product of a derivative and a gradient is rounded to f64, and then to the type.
#pragma once
#include "logistic.cuh"

// Beyond this |x|, e^x times the product of two finite numbers of a storage type is zero or infinite in that type.
const double FAR = 300.0;

// Multiplies a gradient by a derivative.
DEVICE double times_derivative(double dy, Wide derivative) {
    return (derivative.hi + derivative.lo) * power_of_two(derivative.exponent) * dy;
}

// Computes e^(x + low), for any x.
DEVICE Wide exp_derivative(double x, double low) { return normalised(exp_parts(within(x, FAR), low)); }

DEVICE Wide exp2_derivative(double x) {
    const Wide power = normalised(exp2_parts(within(x, FAR)));
    const Sum value = product({power.hi, power.lo}, {LN2_WIDE, LN2_WIDE_LOW});
    return {value.hi, value.lo, power.exponent};
}

// Computes 2 / sqrt(pi) e^(-x^2).
DEVICE Wide erf_derivative(double x) {
    // Clamps |x| to the square root of `FAR`, the limit.
    x = within(x, 0x1.1520cd1372febp+4);
    // x * x is exact if x is an f32. If x was clamped to the limit, x * x has an error that does not matter.
    const Wide e = exp_derivative(x * -x, 0.0);
    const Sum value = product({e.hi, e.lo}, {0x1.20dd750429b6dp+0, 0x1.1ae3a914fed80p-56});
    return {value.hi, value.lo, e.exponent};
}

// The numbers t = e^(minus + low), for `minus` <= 0, and d = 1 + t. `plain` is t without a separate exponent.
struct LogisticParts {
    Wide t;
    Sum plain, d;
};

DEVICE LogisticParts logistic_parts(double minus, double low) {
    minus = larger(-FAR, minus);
    const Wide t = normalised(exp_parts(minus, low));
    const Sum plain = below_one(t, minus);
    const Sum d = fast_two_sum(1.0, plain.hi);
    return {t, plain, {d.hi, d.lo + plain.lo}};
}

// Computes t / (1 + t)^2 with t = e^minus, for `minus` <= 0. This is the derivative of the logistic function.
DEVICE Wide logistic_derivative(double minus) {
    const LogisticParts parts = logistic_parts(minus, 0.0);
    const Sum squared = product(parts.d, parts.d);
    const Sum value = quotient({parts.t.hi, parts.t.lo}, squared, 1.0 / squared.hi);
    return {value.hi, value.lo, parts.t.exponent};
}

// Computes 4 t / (1 + t)^2 with t = e^(-2|x|).
DEVICE Wide tanh_derivative(double x) {
    const Wide v = logistic_derivative(fabs(x) * -2.0);
    return {v.hi * 4.0, v.lo * 4.0, v.exponent};
}

// Computes 1 / (1 + t), or t / (1 + t) if `negative`, with t = e^minus, for `minus` <= 0.
DEVICE Wide share_derivative(double minus, bool negative) {
    const LogisticParts parts = logistic_parts(minus, 0.0);
    const Sum n = {negative ? parts.t.hi : 1.0, negative ? parts.t.lo : 0.0};
    const Sum value = quotient(n, parts.d, 1.0 / parts.d.hi);
    return {value.hi, value.lo, negative ? parts.t.exponent : 0};
}

// Computes s + w * s * (1 - s) with s = 1 / (1 + e^-z). `minus` is -|z|, and `negative` says whether z is below 0.
DEVICE Wide gate_derivative(Sum minus, Sum w, bool negative) {
    const LogisticParts parts = logistic_parts(minus.hi, minus.lo);
    const Sum above = product(w, parts.plain);
    const Sum b = two_sum(parts.d.hi, negative ? w.hi : above.hi);
    const double b_low = b.lo + (parts.d.lo + (negative ? w.lo : above.lo));
    const Sum a = {negative ? parts.t.hi : 1.0, negative ? parts.t.lo : 0.0};
    const Sum squared = product(parts.d, parts.d);
    const Sum value = quotient(product(a, {b.hi, b_low}), squared, 1.0 / squared.hi);
    return {value.hi, value.lo, negative ? parts.t.exponent : 0};
}

DEVICE Wide silu_derivative(double x) {
    x = within(x, FAR);
    return gate_derivative({-fabs(x), 0.0}, {x, 0.0}, x < 0.0);
}

DEVICE Wide gelu_tanh_derivative(double x) {
    const double a = smaller(GELU_TANH_LARGEST, fabs(x));
    const Sum z = gelu_tanh_argument(a);
    // |x| times the derivative of z.
    const Sum w = cubic_of(a, {0x1.b6676bf7450f0p-3, 0x1.bba7351828aabp-57});
    const bool negative = x < 0.0;
    return gate_derivative({-z.hi, -z.lo}, {negative ? -w.hi : w.hi, negative ? -w.lo : w.lo}, negative);
}
