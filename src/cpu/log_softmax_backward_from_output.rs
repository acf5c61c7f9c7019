//! Gradient of log-softmax from its result `y`: `dy - e^y * sum(dy)`.

use super::output_backward::Formula;
use crate::element::Element;
use crate::math::exp::{clamped, exp_parts};
use crate::math::softmax_exp::SoftmaxExp;
use crate::simd::{BLOCK, Float, Isa, Select};

#[derive(Clone, Copy)]
pub struct LogSoftmax;

/// A y above 0 is replaced by 0, so that e^y is at most 1.
impl Formula for LogSoftmax {
    const MASKED: f64 = f64::NEG_INFINITY;
    const LONG: bool = true;
    const PRODUCTS: bool = false;
    const ROUNDED_EXP: bool = true;
    type Exp<I: Isa> = SoftmaxExp<I>;

    #[inline(always)]
    fn exp<I: Isa>(isa: I) -> SoftmaxExp<I> {
        SoftmaxExp::new(isa, 0.0, f32::NEG_INFINITY)
    }

    #[inline(always)]
    fn add_short<I: Isa, E: Element>(isa: I, y: &[E; BLOCK], dy: &[E; BLOCK], sum: I::F64) -> I::F64 {
        Self::add(isa, y, dy, sum)
    }

    #[inline(always)]
    fn add<I: Isa, E: Element>(isa: I, y: &[E; BLOCK], dy: &[E; BLOCK], sum: I::F64) -> I::F64 {
        let (y, dy) = (E::load(isa, y), E::load(isa, dy));
        // The term is `dy + y * 0`, which is NaN if y is NaN or +inf. A y of -inf is masked, so its term is 0.
        sum + isa.widen(live(isa, y, y.mul_add(isa.f32(0.0), dy)))
    }

    #[inline(always)]
    fn terms<I: Isa>(isa: I, y: I::F64, dy: I::F64) -> (I::F64, I::F64) {
        (live_wide(isa, y, y.mul_add(isa.f64(0.0), dy)), isa.f64(0.0))
    }

    #[inline(always)]
    fn short<I: Isa>(
        isa: I,
        exp: SoftmaxExp<I>,
        y: I::F32,
        dy: I::F32,
        scale: I::F32,
        (sum, _): (I::F32, I::F32),
    ) -> I::F32 {
        let power = exp.any(isa.f32(0.0).min(y));
        live(isa, y, power.mul_add(isa.f32(-0.0) - sum, dy * scale))
    }

    #[inline(always)]
    fn wide<I: Isa>(isa: I, exp: SoftmaxExp<I>, y: I::F32, dy: I::F32, scale: I::F64, sum: I::F64) -> I::F32 {
        let power = isa.widen(exp.any(isa.f32(0.0).min(y)));
        live(isa, y, isa.narrow(power.mul_add(isa.f64(-0.0) - sum, isa.widen(dy) * scale)))
    }

    #[inline(always)]
    fn double<I: Isa>(isa: I, y: I::F64, dy: I::F64, sum: (I::F64, I::F64)) -> I::F64 {
        let power = exp_parts(isa, clamped::<I, f64>(isa, isa.f64(0.0).min(y)), isa.f64(0.0)).round::<f64>(isa);
        let minus = isa.f64(-0.0) - power;
        live_wide(isa, y, minus.mul_add(sum.1, minus.mul_add(sum.0, dy)))
    }
}

/// Returns `value`, with 0 in the lanes where y is -inf.
#[inline(always)]
fn live<I: Isa>(isa: I, y: I::F32, value: I::F32) -> I::F32 {
    I::F32::select(y.eq(isa.f32(f32::NEG_INFINITY)), isa.f32(0.0), value)
}

/// Returns `value`, with 0 in the lanes where y is -inf.
#[inline(always)]
fn live_wide<I: Isa>(isa: I, y: I::F64, value: I::F64) -> I::F64 {
    I::F64::select(y.eq(isa.f64(f64::NEG_INFINITY)), isa.f64(0.0), value)
}
