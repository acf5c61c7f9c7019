// The error function and gelu, as `src/math/normal.rs`, `erf.rs` and `gelu.rs` define them.
#pragma once
#include "exp.cuh"

// Evaluates a polynomial. Its first two coefficients have low parts, and its first term is the largest.
template <u32 N>
DEVICE Sum polynomial(const double (&c)[N], double low_0, double low_1, double x, double low) {
    const double rest = horner<1>(x, c);
    const double term = x * rest;
    const double term_low = fma(x, rest, -term) + fma(x, low_1, low * rest);
    const Sum sum = fast_two_sum(c[0], term);
    return {sum.hi, sum.lo + (term_low + low_0)};
}

// Computes x * P(x^2).
template <u32 N>
DEVICE Sum odd(double x, const double (&c)[N], double low_0, double low_1) {
    const Sum squared = square(x);
    return product({x, 0.0}, polynomial(c, low_0, low_1, squared.hi, squared.lo));
}

// Tail at `a`: the value e^`power` * P(1 / (a + `pole`) - `centre`) / (a + `pole`), where P is a polynomial, `power` is
// -`share` * a^2, and `share` is a constant.
struct Tail {
    Wide value;
    double power;
};

// Tail probability of the normal distribution, as the product of `scaled` and `exponential`. `exponential` is
// e^`power`.
struct TailFactors {
    Sum scaled;
    Wide exponential;
    double power;
};

template <u32 N>
DEVICE TailFactors tail_factors(double a, double share, double pole, double centre, const double (&c)[N], double low_0,
                                double low_1) {
    const Sum d = two_sum(a, pole);
    const double reciprocal = 1.0 / d.hi;
    const double left_out = reciprocal * (fma(-reciprocal, d.hi, 1.0) - reciprocal * d.lo);
    const Sum u = two_sum(reciprocal, -centre);
    const Sum scaled = quotient(polynomial(c, low_0, low_1, u.hi, u.lo + left_out), d, reciprocal);
    const Sum squared = square(a);
    const double power = squared.hi * -share;
    return {scaled, normalised(exp_parts(power, squared.lo * -share)), power};
}

DEVICE Tail tail_of(const TailFactors& factors) {
    const Wide e = factors.exponential;
    const Sum value = product(factors.scaled, {e.hi, e.lo});
    return {{value.hi, value.lo, e.exponent}, factors.power};
}

__constant__ const double ERF_NEAR[13] = {
    0x1.20dd750429b6dp+0, -0x1.812746b0379e7p-2, 0x1.ce2f21a042be1p-4, -0x1.b82ce31288b15p-6,
    0x1.565bcd0e6922cp-8, -0x1.c02db3ffcd30fp-11, 0x1.f9a326dda1cfap-14, -0x1.f4d257a9827ebp-17,
    0x1.b9e646d15176bp-20, -0x1.5f6a1ac5a6168p-23, 0x1.fbb85ccbae91dp-27, -0x1.48b4ae6559744p-30,
    0x1.3fd60aa4f79d6p-34};
__constant__ const double ERF_FAR[22] = {
    0x1.f9a68a6cb497bp-1, 0x1.5186d39205a38p+1, 0x1.183316dde068p+2, 0x1.4cb41a3294f5p+1, -0x1.43c3e34d5cffbp+2,
    -0x1.e2b9d78ab72b5p+2, 0x1.682e7df2b78dep+3, 0x1.20441ba05adf1p+4, -0x1.4a6d19c71b117p+5,
    -0x1.d344a5fdfff85p+4, 0x1.4dd7b7731a667p+7, -0x1.2a55af3fa1488p+6, -0x1.0ef6b6b7a2525p+9,
    0x1.090b892ad0ea2p+10, 0x1.2c20e2d27517bp+9, -0x1.5c7f438dd68cap+12, 0x1.d235785dec32ep+12,
    0x1.62beb166d3e31p+13, -0x1.cf4973cec2366p+15, 0x1.f019c30833786p+15, 0x1.5b99de1358c87p+17,
    -0x1.ee1f9e4dfbd02p+18};

DEVICE Sum erf_wide(double x) {
    const double a = smaller(7.0, fabs(x));
    const Sum near = odd(a, ERF_NEAR, 0x1.1ae33da531f07p-56, 0x1.f00b345cc99b3p-57);
    const Tail far =
        tail_of(tail_factors(a, 1.0, 2.0, 0x1.e626cd471c586p-3, ERF_FAR, 0x1.13db851a0d348p-55, -0x1.cc903348b2929p-54));
    const Sum t = below_one(far.value, far.power);
    const Sum above = fast_two_sum(1.0, -t.hi);
    const bool is_near = a < 0.75;
    const double hi = is_near ? near.hi : above.hi, lo = is_near ? near.lo : above.lo - t.lo;
    const double sign = sign_of(x);
    return {hi * sign, x == 0.0 ? x : lo * sign};
}

__constant__ const double GELU_NEAR[13] = {
    0x1.9884533d43651p-2, -0x1.1058377e2ceep-4, 0x1.46d04297691dap-7, -0x1.37403f6ba10f3p-10,
    0x1.e42b0d521663p-14, -0x1.3ce8fac13d7dfp-17, 0x1.658a216ec2da4p-21, -0x1.622268a73ae4bp-25,
    0x1.38788370695cap-29, -0x1.f0fec54be7152p-34, 0x1.6738d27196a62p-38, -0x1.d35ed66f3bed2p-43,
    0x1.d176106e9f1dp-48};
__constant__ const double GELU_FAR[24] = {
    0x1.499f989ac86b3p-1, 0x1.4ab2b83c969a2p+1, 0x1.d2c8859e761e6p+2, 0x1.6ac8538fcf0ccp+3,
    -0x1.3f5f960131058p+2, -0x1.c6807addaa308p+5, -0x1.4d73dfff1668p+4, 0x1.4c2c961448379p+8,
    0x1.296448039fde6p+7, -0x1.350d854551a29p+11, 0x1.8243409a08f6cp+8, 0x1.3fe602dd154dbp+14,
    -0x1.b1dc9d4fdb3d1p+14, -0x1.2a50244b0c662p+17, 0x1.023f902ef0429p+19, 0x1.1869346acf7eap+19,
    -0x1.a52ff79876307p+22, 0x1.1ac8efa56a7c5p+23, 0x1.cae160803c43fp+25, -0x1.ea3a20f9e11eap+27,
    -0x1.a269f959f707ep+27, 0x1.82c1823276d61p+31, -0x1.f87820851a966p+29, -0x1.247e56268c93dp+34};

// Computes the integral of the normal density from 0 to x, for |x| <= 1.
DEVICE Sum normal_integral(double x) { return odd(x, GELU_NEAR, -0x1.cbc0db7edd213p-56, -0x1.77fd8f00302cbp-58); }

// Computes the factors of the tail of the normal distribution beyond `a`.
DEVICE TailFactors normal_tail(double a) {
    return tail_factors(a, 0.5, 3.0, 0x1.174774e53aff5p-3, GELU_FAR, -0x1.f44e519207414p-55, -0x1.292afbc23f4e3p-53);
}

// Computes x times the normal distribution function.
DEVICE Wide gelu_wide(double x) {
    // From this magnitude on, the result rounds to x or to zero in f32, f16 and bf16.
    const double LARGEST = 20.0;
    const double a = smaller(LARGEST, fabs(x));
    x = larger(-LARGEST, x);
    const Sum integral = normal_integral(within(x, 1.0));
    const Sum near = fast_two_sum(0.5, integral.hi);
    const Tail far = tail_of(normal_tail(a));
    const Sum t = below_one(far.value, far.power);
    const Sum above = fast_two_sum(1.0, -t.hi);
    const bool negative = x < 0.0, is_near = a < 1.0;
    const Sum beyond = {negative ? far.value.hi : above.hi, negative ? far.value.lo : above.lo - t.lo};
    const Sum share = {is_near ? near.hi : beyond.hi, is_near ? integral.lo + near.lo : beyond.lo};
    const Sum value = product({x, 0.0}, share);
    // At +inf the computed error would be inf - inf, which is NaN, so the error is set to 0. A zero keeps its sign.
    const double lo = value.lo != value.lo ? 0.0 : value.lo;
    return {value.hi, x == 0.0 ? x : lo, x <= -1.0 ? far.value.exponent : 0};
}
