// Results with more precision than f64, as `src/math/wide.rs` defines them: a pair times a power of two, rounded once.
#pragma once
#include "common.cuh"

DEVICE u64 bits_of_wide(double v) { return (u64)__double_as_longlong(v); }
DEVICE double wide_of(u64 bits) { return __longlong_as_double((long long)bits); }

const u64 SIGN = 1ull << 63, ONE_BITS = 0x3ff0000000000000;
const double NOT_A_NUMBER = __builtin_nan("");
// Adding this number to a value and subtracting it again rounds the value to an integer. The sum holds the integer in
// its low bits.
const double SHIFTER = 0x1.8p52;

// Pair hi + lo, with the larger part first.
struct Sum {
    double hi, lo;
};

// Number (hi + lo) * 2^exponent.
struct Wide {
    double hi, lo;
    u64 exponent;
};

// `larger` and `smaller` return the second argument if either is NaN, like the CPU's instructions.
DEVICE double larger(double a, double b) { return a > b ? a : b; }
DEVICE double smaller(double a, double b) { return a < b ? a : b; }
DEVICE double within(double x, double limit) { return smaller(limit, larger(-limit, x)); }

DEVICE Sum fast_two_sum(double a, double b) {
    const double sum = a + b;
    return {sum, b - (sum - a)};
}

DEVICE Sum two_sum(double a, double b) {
    const double sum = a + b, part = sum - a;
    return {sum, (a - (sum - part)) + (b - part)};
}

DEVICE Sum square(double a) {
    const double hi = a * a;
    return {hi, fma(a, a, -hi)};
}

DEVICE Sum product(Sum a, Sum b) {
    const double hi = a.hi * b.hi;
    return {hi, fma(a.hi, b.hi, -hi) + fma(a.hi, b.lo, a.lo * b.hi)};
}

// Computes n / d, given the reciprocal of d's high part.
DEVICE Sum quotient(Sum n, Sum d, double reciprocal) {
    const double q = n.hi * reciprocal;
    const double rest = fma(-q, d.hi, n.hi) + fma(-q, d.lo, n.lo);
    return {q, rest * reciprocal};
}

// Evaluates the polynomial whose constant term is `c[FIRST]`. The coefficients of higher powers follow it.
template <u32 FIRST = 0, u32 N>
DEVICE double horner(double x, const double (&c)[N]) {
    double sum = c[N - 1];
    for (u32 i = N - 1; i > FIRST; i--) {
        sum = fma(sum, x, c[i - 1]);
    }
    return sum;
}

DEVICE double power_of_two(u64 exponent) { return wide_of((exponent + 1023) << 52); }

// Returns 1 with the sign of x.
DEVICE double sign_of(double x) { return wide_of((bits_of_wide(x) & SIGN) | ONE_BITS); }

// Normalises a number, so that the low part is below half a unit in the last place of the high part.
DEVICE Wide normalised(Wide v) {
    const Sum sum = fast_two_sum(v.hi, v.lo);
    return {sum.hi, sum.lo, v.exponent};
}

// Rounds to odd, so that rounding to a narrower type afterwards equals rounding once (Boldo and Melquiond, 2008).
DEVICE double rounded(Wide v) {
    const Sum sum = fast_two_sum(v.hi, v.lo);
    u64 bits = bits_of_wide(sum.hi);
    if (fabs(sum.lo) > 0.0 && (bits & 1) == 0) {
        // Moves to the neighbour farther from zero if `hi` and `lo` have the same sign, else to the neighbour nearer to
        // zero.
        bits += ((bits ^ bits_of_wide(sum.lo)) & SIGN) == 0 ? 1 : ~0ull;
    }
    return wide_of(bits + (v.exponent << 52));
}
DEVICE double rounded(Sum v) { return rounded(Wide{v.hi, v.lo, 0}); }

// Returns the bits of the storage value nearest to `v`. `v` may already be rounded to odd.
template <class S>
DEVICE u32 store_wide(double v) {
    if (v != v) {
        return S::NOT_A_NUMBER;
    }
    if (sizeof(typename S::Bits) == 4) {
        return S::narrow((float)v);
    }
    // Rounds to odd again.
    const float near = __double2float_rz(v);
    return S::narrow(float_of(bits_of(near) | ((double)near != v ? 1 : 0)));
}
