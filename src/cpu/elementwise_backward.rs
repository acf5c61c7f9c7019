//! Gradients of the functions of one element: the gradient of the result times the derivative.

use super::elementwise::Derivative;
use super::pairwise::{self, Pairwise};
use crate::element::Element;
use crate::simd::{Float, Isa, Kernel, Select};
use std::marker::PhantomData;

/// Derivative, and the range of x outside which the derivative is replaced by 0.
#[derive(Clone, Copy)]
pub struct Gradient {
    pub derivative: Derivative,
    pub within: Option<(f64, f64)>,
}

impl From<Derivative> for Gradient {
    fn from(derivative: Derivative) -> Self {
        Gradient { derivative, within: None }
    }
}

/// Sets the gradient to 0 where x is outside the range.
#[inline(always)]
fn keep_within<I: Isa>(isa: I, x: &[f64], dy: &mut [f64], (min, max): (f64, f64)) {
    let (min, max, zero) = (isa.f64(min), isa.f64(max), isa.f64(0.0));
    pairwise::map(
        isa,
        x,
        dy,
        #[inline(always)]
        |x, dy| I::F64::select(x.lt(min) | max.lt(x), zero, dy),
    );
}

/// Product of a gradient and a derivative.
pub trait Product: Copy {
    /// Returns `dy` times the derivative at x, as f64. The caller rounds the result to `E`: f64 for f64 tensors, f32
    /// for all other tensors. Must be `#[inline(always)]`, like everything it calls.
    fn eval<I: Isa, E: Element>(self, isa: I, x: I::F64, dy: I::F64) -> I::F64;
}

impl Pairwise for Gradient {
    #[inline(always)]
    fn run<I: Isa, E: Element>(self, isa: I, x: &[f64], dy: &mut [f64]) {
        if let Some(range) = self.within {
            keep_within(isa, x, dy, range);
        }
        self.derivative.run::<I, E>(isa, x, dy);
    }
}

/// Kernel that computes the gradient of a slice, compiled as a separate function because its code is long.
pub struct Each<'a, P, E> {
    pub product: P,
    pub x: &'a [f64],
    pub dy: &'a mut [f64],
    pub rounded_to: PhantomData<E>,
}

impl<P: Product, E: Element> Kernel for Each<'_, P, E> {
    type Out = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        pairwise::map(
            isa,
            self.x,
            self.dy,
            #[inline(always)]
            |x, dy| {
                let dx = self.product.eval::<I, E>(isa, x, dy);
                // A dy of 0 gives a gradient of 0, however large the derivative is.
                I::F64::select(dy.eq(isa.f64(0.0)) & x.eq(x), dy, dx)
            },
        );
    }
}
