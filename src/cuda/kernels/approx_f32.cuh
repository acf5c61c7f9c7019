// Approximations in f32 for arguments of 16-bit types. The error is a few f32 units in the last place. Where the error
// may be larger, the result is NaN. The caller recomputes in f64 any result that may round incorrectly. All 16-bit
// arguments have been tested. The result for a NaN argument is unspecified.
#pragma once
#include "common.cuh"

const float NOT_NEAR = __builtin_nanf("");
const float NEAR_SHIFTER = 12582912.0f; // 1.5 * 2^23
const float NEAR_LN2 = 0x1.62e43p-1f;

template <u32 N>
DEVICE float near_horner(float x, const float (&c)[N]) {
    float sum = c[N - 1];
    for (u32 i = N - 1; i > 0; i--) {
        sum = fmaf(sum, x, c[i - 1]);
    }
    return sum;
}

// Coefficients of (e^r - 1) / r for |r| <= ln2/2; error 2^-25.
__constant__ const float EXP_NEAR[6] = {
    0x1p+0f, 0x1p-1f, 0x1.55547cp-3f, 0x1.5554e8p-5f, 0x1.123dbap-7f, 0x1.6d434ep-10f};
// Coefficients of atanh(s) / s in powers of s^2 for |s| <= 1/3; error 2^-29.
__constant__ const float ATANH_NEAR[7] = {
    0x1p+0f, 0x1.555556p-2f, 0x1.9999c2p-3f, 0x1.2489aep-3f, 0x1.c8cf1cp-4f, 0x1.5eab62p-4f, 0x1.bfb468p-4f};
// Coefficients of (tanh x - x) / x^3 in powers of x^2 for |x| <= 0.35; error 2^-24.
__constant__ const float TANH_NEAR[5] = {
    -0x1.555556p-2f, 0x1.111108p-3f, -0x1.ba11fep-5f, 0x1.649168p-6f, -0x1.0118bep-7f};
// Coefficients of the polynomial P of `src/math/normal_pair.rs`: the tail of the normal distribution beyond a is
// e^(-a^2/2) P(u) / (a + 9/2), with u = 1/(a + 9/2) - 4/27.
__constant__ const float TAIL_NEAR[13] = {
    0x1.0982b4p+0f, 0x1.2bcb2p+3f, 0x1.fdf854p+5f, 0x1.41d1ep+8f, 0x1.19de18p+10f, 0x1.0d01a2p+11f,
    -0x1.42f468p+10f, -0x1.151ff6p+14f, -0x1.f68ca6p+13f, 0x1.fc31e6p+16f, 0x1.9b0376p+17f, -0x1.e3d34ep+19f,
    -0x1.919902p+20f};

// Computes e^(r + low) times 2^n, with n in the low bits of `shifted`. Results may be subnormal.
DEVICE float near_power(float r, float low, float shifted) {
    const float power = fmaf(near_horner(r, EXP_NEAR), r, low) + 1.0f;
    const int n = (int)(bits_of(shifted) - bits_of(NEAR_SHIFTER)), half = n >> 1;
    return power * float_of((u32)(half + 127) << 23) * float_of((u32)(n - half + 127) << 23);
}

// Computes e^(x + low).
DEVICE float near_exp(float x, float low = 0.0f) {
    x = fminf(fmaxf(x, -110.0f), 90.0f);
    const float shifted = fmaf(x, 0x1.715476p+0f, NEAR_SHIFTER);
    const float n = shifted - NEAR_SHIFTER;
    return near_power(fmaf(n, -0x1.7f7d1cp-20f, fmaf(n, -0x1.62e4p-1f, x)), low, shifted);
}

DEVICE float near_exp2(float x) {
    x = fminf(fmaxf(x, -160.0f), 130.0f);
    const float shifted = x + NEAR_SHIFTER;
    return near_power((x - (shifted - NEAR_SHIFTER)) * NEAR_LN2, 0.0f, shifted);
}

// Parts of the logarithm of x = 2^k m: the exponent k, and the logarithm of m.
struct NearLog {
    float k, of_m;
};

DEVICE NearLog near_log_parts(float x) {
    const u32 SQRT_HALF = 0x3f3504f3, ONE = 0x3f800000;
    const u32 offset = bits_of(x) + (ONE - SQRT_HALF);
    const float f = float_of((offset & 0x007fffff) + SQRT_HALF) - 1.0f;
    const float s = f / (2.0f + f);
    // The argument must be positive and normal.
    const bool serves = 0x1p-126f <= x && x < INFINITE;
    return {serves ? (float)((int)(offset >> 23) - 127) : NOT_NEAR, 2.0f * s * near_horner(s * s, ATANH_NEAR)};
}

DEVICE float near_log(float x) {
    const NearLog log = near_log_parts(x);
    return fmaf(log.k, NEAR_LN2, log.of_m);
}

DEVICE float near_log2(float x) {
    const NearLog log = near_log_parts(x);
    return fmaf(log.of_m, 0x1.715476p+0f, log.k);
}

DEVICE float near_rsqrt(float x) { return 1.0f / sqrtf(x); }

// Computes 1 / (1 + t), or t / (1 + t) if `negative`, with t = e^(minus + low) and `minus` <= 0.
DEVICE float near_logistic(float minus, float low, bool negative) {
    const float t = near_exp(minus, low);
    const float reciprocal = 1.0f / (1.0f + t);
    return negative ? t * reciprocal : reciprocal;
}

DEVICE float near_sigmoid(float x) { return near_logistic(-fabsf(x), 0.0f, x < 0.0f); }
DEVICE float near_silu(float x) { return fmaxf(x, -120.0f) * near_sigmoid(x); }

DEVICE float near_gelu_tanh(float x) {
    const float a = fminf(fabsf(x), 12.0f);
    // Computes 2 sqrt(2/pi) (a + 0.044715 a^3) as a pair.
    const float SLOPE = 0x1.988454p+0f, CUBIC = 0x1.2444f2p-4f;
    const float square = a * a;
    const float factor = fmaf(square, CUBIC, SLOPE);
    const float factor_low = fmaf(square, CUBIC, SLOPE - factor);
    const float z = a * factor;
    const float low = fmaf(a, factor, -z) + a * factor_low;
    return fmaxf(x, -12.0f) * near_logistic(-z, -low, x < 0.0f);
}

DEVICE float near_gelu(float x) {
    const float a = fminf(fabsf(x), 14.0f);
    const float reciprocal = 1.0f / (a + 4.5f);
    const float square = a * a;
    const float e = near_exp(square * -0.5f, fmaf(a, a, -square) * -0.5f);
    const float tail = near_horner(reciprocal - 0x1.2f684cp-3f, TAIL_NEAR) * (reciprocal * e);
    return fmaxf(x, -14.0f) * (x < 0.0f ? tail : 1.0f - tail);
}

DEVICE float near_tanh(float x) {
    const float a = fminf(fabsf(x), 20.0f);
    const float square = a * a;
    const float t = near_exp(-2.0f * a);
    const float value = a < 0.35f ? fmaf(a * square, near_horner(square, TANH_NEAR), a) : (1.0f - t) / (1.0f + t);
    return float_of(bits_of(value) | (bits_of(x) & 0x80000000));
}

// Computes max(x, 0) + ln(1 + e^-|x|).
DEVICE float near_softplus(float x) {
    const float t = near_exp(-fabsf(x));
    const float s = t / (2.0f + t);
    return fmaf(2.0f * s, near_horner(s * s, ATANH_NEAR), fmaxf(x, 0.0f));
}
