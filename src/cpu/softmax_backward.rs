//! Gradient of softmax of a row: `y * (dy - mean)`, where `y` is the softmax, and `mean` is the mean of `dy` with
//! weights `y`.

use super::scores_backward::{Backward, Formula};
use crate::simd::{Float, Isa};

pub type SoftmaxBackward<'m, E> = Backward<'m, E, Softmax>;

#[derive(Clone, Copy)]
pub struct Softmax;

impl Formula for Softmax {
    const MEAN: bool = true;

    #[inline(always)]
    fn term<I: Isa>(isa: I, e: I::F64, dy: I::F64) -> (I::F64, I::F64) {
        let term = e * dy;
        (term, e.mul_add(dy, isa.f64(-0.0) - term))
    }

    #[inline(always)]
    fn gradient<I: Isa>(_: I, y: I::F64, dy: I::F64, mean: (I::F64, I::F64)) -> I::F64 {
        y * ((dy - mean.0) - mean.1)
    }
}
