//! Gradient of log-softmax of a row: `dy - y * sum(dy)`, where `y` is the softmax.

use super::scores_backward::{Backward, Formula};
use crate::simd::{Float, Isa};

pub type LogSoftmaxBackward<'m, E> = Backward<'m, E, LogSoftmax>;

#[derive(Clone, Copy)]
pub struct LogSoftmax;

impl Formula for LogSoftmax {
    const MEAN: bool = false;

    #[inline(always)]
    fn term<I: Isa>(isa: I, _: I::F64, dy: I::F64) -> (I::F64, I::F64) {
        (dy, isa.f64(0.0))
    }

    #[inline(always)]
    fn gradient<I: Isa>(isa: I, y: I::F64, dy: I::F64, sum: (I::F64, I::F64)) -> I::F64 {
        let minus = isa.f64(-0.0) - y;
        // The low part of the sum decides whether a result near the largest finite number overflows.
        minus.mul_add(sum.1, minus.mul_add(sum.0, dy))
    }
}
