//! Gradient of softmax from its result `y`: `y * (dy - mean)`, where `mean` is the sum of `y * dy`.

use super::output_backward::Formula;
use crate::element::Element;
use crate::simd::{BLOCK, Float, Isa};

#[derive(Clone, Copy)]
pub struct Softmax;

/// `short` and `wide` add +0 to the last product, because a result must not be -0.
impl Formula for Softmax {
    const MASKED: f64 = 0.0;
    const LONG: bool = false;
    const PRODUCTS: bool = true;
    const ROUNDED_EXP: bool = false;
    type Exp<I: Isa> = ();

    #[inline(always)]
    fn exp<I: Isa>(_: I) {}

    /// Multiplies in f32, because then only the product is converted to f64, and not both factors.
    #[inline(always)]
    fn add_short<I: Isa, E: Element>(isa: I, y: &[E; BLOCK], dy: &[E; BLOCK], sum: I::F64) -> I::F64 {
        sum + isa.widen(E::load(isa, y) * E::load(isa, dy))
    }

    #[inline(always)]
    fn add<I: Isa, E: Element>(isa: I, y: &[E; BLOCK], dy: &[E; BLOCK], sum: I::F64) -> I::F64 {
        E::load_wide(isa, y).mul_add(E::load_wide(isa, dy), sum)
    }

    #[inline(always)]
    fn terms<I: Isa>(isa: I, y: I::F64, dy: I::F64) -> (I::F64, I::F64) {
        let term = y * dy;
        (term, y.mul_add(dy, isa.f64(-0.0) - term))
    }

    #[inline(always)]
    fn short<I: Isa>(isa: I, (): (), y: I::F32, dy: I::F32, scale: I::F32, mean: (I::F32, I::F32)) -> I::F32 {
        let difference = dy.mul_add(scale, isa.f32(-0.0) - mean.0) - mean.1;
        y.mul_add(difference, isa.f32(0.0))
    }

    #[inline(always)]
    fn wide<I: Isa>(isa: I, (): (), y: I::F32, dy: I::F32, scale: I::F64, mean: I::F64) -> I::F32 {
        let difference = isa.widen(dy).mul_add(scale, isa.f64(-0.0) - mean);
        isa.narrow(isa.widen(y).mul_add(difference, isa.f64(0.0)))
    }

    #[inline(always)]
    fn double<I: Isa>(_: I, y: I::F64, dy: I::F64, mean: (I::F64, I::F64)) -> I::F64 {
        y * ((dy - mean.0) - mean.1)
    }
}
