//! silu(gate) * up and its gradients.

use super::derivative::{self, far};
use super::exp_pair::{LARGEST, PER_STEP, POLY, STEP_HI, STEP_LO, power, table_low};
use super::softmax_exp::{SHIFTER, SoftmaxExp};
use super::wide::{Wide, fast_two_sum};
use super::{exp, sigmoid_pair};
use crate::element::Element;
use crate::simd::{Float, Isa, Select};

/// Lower limit for the magnitudes of silu(gate) and of the result in [`Narrow::product`]. Below the limit, f32 may be
/// unable to represent the rounding error of a product.
const LEAST: f32 = f32::from_bits((127 - 100) << 23);

/// Computes gate / (1 + e^-gate) * up for any numbers. The caller rounds the result to `E`.
#[inline(always)]
pub fn swiglu<I: Isa, E: Element>(isa: I, gate: I::F64, up: I::F64) -> I::F64 {
    let zero = isa.f64(0.0);
    // If the gate is below this bound, silu(gate) times any finite number of the type rounds to zero.
    let x = isa.f64(-far::<E>()).max(gate);
    let minus = zero - x.abs();
    // The result has the sign of gate * up, and at most the same magnitude. If gate * up is 0 or -0, the result is
    // therefore gate * up.
    let most = x * up;
    let y = if E::IS_F64 {
        let share = derivative::share::<I, f64>(isa, minus, x.lt(zero));
        let (product, moved) = product(isa, x, up);
        derivative::times::<I, f64>(isa, product, with_exponent(isa, share, moved))
    } else {
        let t = exp::term(isa, minus);
        let share = I::F64::select(x.lt(zero), t, isa.f64(1.0)) / (isa.f64(1.0) + t);
        x * share * up
    };
    let y = I::F64::select(most.eq(zero), most, y);
    // At gate = -inf the result is -0 times `up`, which is NaN for an infinite `up`.
    I::F64::select(gate.eq(isa.f64(f64::NEG_INFINITY)), isa.f64(-0.0) * up, y)
}

/// Computes `dy` times the derivative of [`swiglu`] with respect to its gate: `dy * up * (s + gate * s * (1 - s))` with
/// `s = 1 / (1 + e^-gate)`. The caller rounds the result to `E`.
#[inline(always)]
pub fn by_gate<I: Isa, E: Element>(isa: I, gate: I::F64, up: I::F64, dy: I::F64) -> I::F64 {
    let zero = isa.f64(0.0);
    let x = derivative::within(isa, gate, far::<E>());
    let derivative = derivative::gate::<I, E>(isa, (isa.f64(-0.0) - x.abs(), zero), (x, zero), x.lt(zero));
    let dx = if E::IS_F64 {
        let (product, moved) = product(isa, dy, up);
        derivative::times::<I, f64>(isa, product, with_exponent(isa, derivative, moved))
    } else {
        // The product of two f32 is exact in f64.
        derivative::times::<I, E>(isa, dy * up, derivative)
    };
    without_derivative(isa, dy, gate.either_nan(up), dx)
}

/// Computes `dy` times the derivative of [`swiglu`] with respect to `up`. The caller rounds the result to `E`.
#[inline(always)]
pub fn by_up<I: Isa, E: Element>(isa: I, gate: I::F64, dy: I::F64) -> I::F64 {
    without_derivative(isa, dy, gate.is_nan(), swiglu::<I, E>(isa, gate, dy))
}

/// Returns `dy` where `dy` is zero and `is_nan` is not set, and `dx` elsewhere. So a zero gradient stays zero, even if
/// the derivative is infinite.
#[inline(always)]
fn without_derivative<I: Isa>(isa: I, dy: I::F64, is_nan: I::M64, dx: I::F64) -> I::F64 {
    I::F64::select(dy.eq(isa.f64(0.0)) & !is_nan, dy, dx)
}

/// Scales a and b nearer to 1. Returns the product p of the scaled numbers, and the n for which a * b = p * 2^n.
#[inline(always)]
fn product<I: Isa>(isa: I, a: I::F64, b: I::F64) -> (I::F64, I::I64) {
    let ((a, moved_a), (b, moved_b)) = (nearer(isa, a), nearer(isa, b));
    (a * b, moved_a + moved_b)
}

#[inline(always)]
fn nearer<I: Isa>(isa: I, x: I::F64) -> (I::F64, I::I64) {
    let power = |n: i64| isa.f64(f64::from_bits(((1023 + n) as u64) << 52));
    let (tiny, huge) = (x.abs().lt(power(-400)), power(400).lt(x.abs()));
    let factor = I::F64::select(tiny, power(600), I::F64::select(huge, power(-600), isa.f64(1.0)));
    (x * factor, I::I64::select(tiny, isa.i64(-600), I::I64::select(huge, isa.i64(600), isa.i64(0))))
}

#[inline(always)]
fn with_exponent<I: Isa>(isa: I, wide: Wide<I>, moved: I::I64) -> Wide<I> {
    let n = match wide.exponent {
        Some(n) => n,
        None => isa.i64(0),
    };
    Wide { exponent: Some(n + moved), ..wide }
}

/// Returns 1 / (1 + e^-gate) as the sum of two f32. The gate must be accepted by [`sigmoid_pair::serves`].
///
/// Results of swiglu pass no rounding test, so these operations define their bits, and the CUDA kernel repeats them. So
/// the exponential is not [`exp_pair`](super::exp_pair::exp_pair), whose fewer operations give other bits, and the
/// reciprocal is a division.
#[inline(always)]
fn share<I: Isa>(isa: I, gate: I::F32) -> (I::F32, I::F32) {
    // For a gate above `LARGEST` the quotient rounds to 1, so the exponential need not be exact.
    let x = isa.f32(-LARGEST).max(isa.f32(0.0) - gate.abs());
    let j = x.mul_add(isa.f32(PER_STEP), isa.f32(SHIFTER));
    let n = j - isa.f32(SHIFTER);
    let near = n.mul_add(isa.f32(-STEP_HI), x);
    let r = n.mul_add(isa.f32(-STEP_LO), near);
    let r_low = n.mul_add(isa.f32(-STEP_LO), near - r);
    let low = table_low(isa, j);
    let w = low.mul_add(r, low + r_low);
    let q = isa.f32(POLY[2]).mul_add(r, isa.f32(POLY[1])).mul_add(r, isa.f32(POLY[0]));
    let v = (r * r).mul_add(q, w);
    let s = power(isa, j);
    let hi = s.mul_add(r, s);
    let lo = s.mul_add(v, s.mul_add(r, s - hi));
    // `lo` may be as large as 2^-12 times `hi`. The quotient neglects the square of the low part, so hi + lo is
    // renormalised first.
    let (zero, one) = (isa.f32(0.0), isa.f32(1.0));
    let (t, t_low) = fast_two_sum(hi, lo);
    let (d, d_low) = fast_two_sum(one, t);
    let negative = gate.lt(zero);
    let (n, n_low) = (I::F32::select(negative, t, one), I::F32::select(negative, t_low, zero));
    let reciprocal = one / d;
    let q = n * reciprocal;
    let minus = isa.f32(-0.0) - q;
    let rest = minus.mul_add(d, n) + minus.mul_add(d_low + t_low, n_low);
    (q, rest * reciprocal)
}

/// Kernel that computes [`swiglu`] without f64. It computes f32 results with pairs of f32, and 16-bit results with
/// single f32 numbers.
#[derive(Clone, Copy)]
pub struct Narrow<I: Isa> {
    isa: I,
    exp: SoftmaxExp<I>,
}

impl<I: Isa> Narrow<I> {
    #[inline(always)]
    pub fn new(isa: I) -> Self {
        Narrow { isa, exp: SoftmaxExp::new(isa, 0.0, f32::NEG_INFINITY) }
    }

    /// Returns gate / (1 + e^-gate) * up before rounding to `E`, and the lanes in which this product is valid. In these
    /// lanes, no intermediate value that affects the product underflows or overflows.
    #[inline(always)]
    pub fn product<E: Element>(&self, gate: I::F32, up: I::F32) -> (I::F32, I::M32) {
        let (zero, one) = (self.isa.f32(0.0), self.isa.f32(1.0));
        let (silu, y, serves) = if E::IS_F32 {
            let (share, share_low) = share(self.isa, gate);
            let silu = gate * share;
            let silu_low = gate.mul_add(share_low, gate.mul_add(share, zero - silu));
            let y = silu * up;
            let low = silu_low.mul_add(up, silu.mul_add(up, zero - y));
            (silu, fast_two_sum(y, low).0, sigmoid_pair::serves(self.isa, gate))
        } else {
            let t = self.exp.any(zero - gate.abs());
            let silu = gate * (I::F32::select(gate.lt(zero), t, one) / (one + t));
            (silu, silu * up, gate.eq(gate))
        };
        // The result is at most gate * up in magnitude. If gate * up is zero, the result is therefore gate * up.
        let most = gate * up;
        let is_zero = most.eq(zero);
        let least = self.isa.f32(LEAST);
        let has_room = least.le(silu.abs().min(y.abs())) & y.abs().lt(self.isa.f32(f32::INFINITY));
        (I::F32::select(is_zero, most, y), is_zero | serves & has_room)
    }
}
