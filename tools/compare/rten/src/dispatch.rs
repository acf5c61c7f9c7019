//! Choice of the instruction set: the best one of the CPU, or AVX2.

use crate::call::Slices;
use rten_simd::functional::simd_map;
use rten_simd::{Isa, SimdOp, SimdUnaryOp};
use std::mem::MaybeUninit;

/// Runs an operation with rten's own choice of the instruction set.
#[cfg(not(feature = "avx2"))]
pub fn run<O: SimdOp>(op: O) -> O::Output {
    op.dispatch()
}

/// Runs an operation on AVX2, which the build's target must support.
#[cfg(feature = "avx2")]
pub fn run<O: SimdOp>(op: O) -> O::Output {
    op.eval(rten_simd::isa::Avx2Isa::new().expect("the CPU must support AVX2"))
}

/// Applies a function to each element. rten's own `map` would choose the instruction set itself.
pub fn map<F: SimdUnaryOp<f32>>(function: F, slices: Slices<'_>) {
    run(Map { function, x: slices.x, y: slices.y });
}

struct Map<'a, F> {
    function: F,
    x: &'a [f32],
    y: &'a mut [MaybeUninit<f32>],
}

impl<F: SimdUnaryOp<f32>> SimdOp for Map<'_, F> {
    type Output = ();

    #[inline(always)]
    fn eval<I: Isa>(self, isa: I) {
        simd_map(
            isa.f32(),
            (self.x, self.y),
            #[inline(always)]
            |x| self.function.eval(isa, x),
        );
    }
}
