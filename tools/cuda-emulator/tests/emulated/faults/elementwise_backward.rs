//! Faults in the kernels of elementwise gradients and of swiglu, by module.

use super::{Fault, fault};

pub const LOGISTIC: &[Fault] = &[
    fault("the margin of a product of two terms", "approx_derivative.cuh", "(21.75f + further)", "(1.75f + further)"),
    fault("the second operand is not read", "elementwise.cuh", "        if (F::OF_TWO) {", "        if (false) {"),
    fault("an element gets its neighbour's gradient", "elementwise.cuh", "S::high_of(beside)", "S::low_of(beside)"),
    fault("uncertain elements lose their gradient", "elementwise.cuh", "(u32)beside[at] : 0", "0u : 0"),
    fault("the margin of a quotient", "approx_derivative.cuh", "Factors(18.25f,", "Factors(0.25f,"),
    fault("the margin of a share", "approx_derivative.cuh", "Factors(11.25f + further,", "Factors(further - 1.0f,"),
    fault("NaN is clamped", "approx_derivative.cuh", "min_or_nan(max_or_nan(x, -200.0f)", "fminf(fmaxf(x, -200.0f)"),
    fault("infinity is not clamped", "approx_derivative.cuh", "x, -200.0f), 200.0f)", "x, -200.0f), INFINITE)"),
    fault("flushed terms are accepted", "approx_derivative.cuh", "* margin, 0x1p-118f)", "* margin, 0.0f)"),
    fault("flushed quotients are accepted", "approx_derivative.cuh", "size_of(t)), 0x1p-123f)", "size_of(t)), 0.0f)"),
    fault(
        "zero gradients lose their sign",
        "approx_derivative.cuh",
        "{is_zero ? dy : product.from, is_zero ? dy : product.to}",
        "product",
    ),
    fault("NaN is lost", "approx_derivative.cuh", "dy == 0.0f && x == x", "dy == 0.0f"),
    fault(
        "products that are subnormal are accepted",
        "approx_derivative.cuh",
        "product_ftz(factor, derivative.from)",
        "factor * derivative.to",
    ),
    fault(
        "a digit of the derivative of gelu_tanh's argument",
        "approx_derivative.cuh",
        "0x1.b6676cp-3f",
        "0x1.b6576cp-3f",
    ),
    fault("derivatives are clamped too early", "derivative.cuh", "FAR = 300.0", "FAR = 30.0"),
    fault("the rounding error of 1 + t is ignored", "derivative.cuh", "{d.hi, d.lo + plain.lo}", "{d.hi, 0.0}"),
    fault("the power of two is ignored", "derivative.cuh", "* power_of_two(derivative.exponent)", ""),
    fault(
        "a digit of the cubic term of the derivative",
        "derivative.cuh",
        "0x1.b6676bf7450f0p-3",
        "0x1.b6677bf7450f0p-3",
    ),
    fault(
        "pairs near ties are accepted",
        "derivative_pair.cuh",
        "LOGISTIC_UNCERTAINTY, derivative",
        "0.0f, derivative",
    ),
    fault("pairs that underflow are accepted", "derivative_pair.cuh", "fits = 0x1p-100f <", "fits = 0.0f <="),
    fault("a term's magnitude is ignored", "derivative_pair.cuh", "(1.0f + fabsf(second.hi))", "fabsf(sum.hi)"),
    fault("a low digit of the pair's cubic term", "derivative_pair.cuh", "-0x1.175e2p-32f", "0x1.175e2p-32f"),
    fault(
        "positive and negative arguments are swapped",
        "elementwise_backward_logistic.cu",
        "share_derivative(-fabs(x), x < 0.0)",
        "share_derivative(-fabs(x), x > 0.0)",
    ),
];

pub const EXP: &[Fault] = &[
    fault("the margin of an exponential", "approx_derivative.cuh", "Factors(8.25f,", "Factors(0.25f,"),
    fault("the margin of a base-2 exponential", "approx_derivative.cuh", "Factors(10.25f, 0.0f", "Factors(0.25f, 0.0f"),
    fault(
        "overflown powers are accepted",
        "approx_derivative.cuh",
        "BELOW_OVERFLOW = 0x1p127f",
        "BELOW_OVERFLOW = INFINITE",
    ),
    fault("the error of gelu's terms", "approx_derivative.cuh", "24.25f * U)", "0.25f * U)"),
    fault("a digit of the density", "approx_derivative.cuh", "0x1.988454p-2f", "0x1.987454p-2f"),
    fault("the edge of gelu's polynomial", "elementwise_backward_exp.cu", "a < 1.0,", "a < 3.0,"),
    fault("the range of the tail's power of two", "elementwise_backward_exp.cu", "x <= -1.0;", "x <= -2.0;"),
    fault("a digit of 2 / sqrt(pi)", "derivative.cuh", "0x1.20dd750429b6dp+0", "0x1.20dd7d0429b6dp+0"),
    fault("digits of ln 2", "exp.cuh", "LN2_WIDE = 0x1.62e42fefa39efp-1", "LN2_WIDE = 0x1.62e4p-1"),
    fault("the range is ignored", "elementwise_backward.cuh", "x < min || max < x ? 0.0 : dy", "dy"),
    fault("the range of pairs", "derivative_pair.cuh", "e.power, fabsf(x) < PAIR_LARGEST", "e.power, true"),
    fault("the magnitude of gelu's pair", "elementwise_backward_exp.cu", "fmaf(a, 0.47f, 0.58f)", "0.0f"),
    fault("a low digit of 2 / sqrt(pi)", "derivative_pair.cuh", "-0x1.f7ac92p-25f", "0.0f"),
    fault("the error of gelu's difference from 1", "approx_derivative.cuh", "error + 3.5f * U, 0.0f", "0.0f, 0.0f"),
    fault(
        "a digit of the density in f64",
        "elementwise_backward_exp.cu",
        "{0x1.9884533d43651p-2",
        "{0x1.9884d33d43651p-2",
    ),
];

pub const ROOT: &[Fault] = &[
    fault(
        "the result for numbers below zero",
        "elementwise_backward_root.cu",
        "0.0 <= x ? fabs(x) : NOT_A_NUMBER",
        "x",
    ),
    fault("the result for -0", "elementwise_backward_root.cu", "0.0 <= x ? fabs(x)", "0.0 <= x ? x"),
    fault(
        "the rest of infinite quotients",
        "elementwise_backward_root.cu",
        "fabs(rest) < INFINITE ? rest : 0.0",
        "rest",
    ),
    fault("the sign of a root's derivative", "elementwise_backward_root.cu", "dy * -0.5", "dy * 0.5"),
    fault("a factor of 2", "elementwise_backward_root.cu", "sqrt(from_zero_on(x)) * 2.0", "sqrt(from_zero_on(x))"),
    fault("digits of 1 / ln 2", "elementwise_backward_root.cu", "0x1.71547652b82fep+0", "0x1.71547p+0"),
    fault("zero gradients", "elementwise_backward.cuh", "dy == 0.0 && x == x ? dy : dx", "dx"),
];

pub const SWIGLU: &[Fault] = &[
    fault("the margin of the product", "elementwise_swiglu.cu", "near_share(gate, 8.0f)", "near_share(gate, -8.0f)"),
    fault("infinity is not clamped", "elementwise_swiglu.cu", "        gate = max_or_nan(gate, -200.0f);\n", ""),
    fault("products that are subnormal are accepted", "elementwise_swiglu.cu", "LEAST = 0x1p-100f", "LEAST = 0.0f"),
    fault("the result for minus infinity", "swiglu.cuh", "gate == -INFINITE ? -0.0 * up : ", ""),
    fault("pairs are used for any gate", "elementwise_swiglu.cu", "-PAIR_LARGEST < gate}", "true}"),
    fault("the low part of a pair is ignored", "elementwise_swiglu.cu", "fast_two_sum(y, low).hi", "y"),
    fault(
        "positive and negative gates are swapped",
        "swiglu.cuh",
        "(x < 0.0 ? t : 1.0) / (1.0 + t)",
        "(x > 0.0 ? t : 1.0) / (1.0 + t)",
    ),
];
