//! Tests that the square root is correctly rounded in f32, f16 and bf16. All 16-bit inputs are tested.

use crate::support::elementwise::{Function, assert_values};
use crate::support::generate::Bits;
use crate::support::naive;
use evenkeel::reference::Real;
use evenkeel::simd::Output;
use evenkeel::{Element, Limits, Result};

struct Sqrt;

impl Function for Sqrt {
    const NAME: &'static str = "sqrt";
    fn run<E: Element>(x: &[E]) -> Result<Vec<E>> {
        evenkeel::sqrt(x)
    }
    fn into<'a, E: Element>(x: &[E], out: impl Into<Output<'a, E>>) -> Result<&'a mut [E]> {
        evenkeel::sqrt_into(x, out)
    }
    fn in_place<E: Element>(x: &mut [E]) -> Result<()> {
        evenkeel::sqrt_in_place(x)
    }
    fn exact<R: Real>(x: R) -> R {
        x.sqrt()
    }
    fn naive<E: Element>(x: E) -> E {
        naive::sqrt(x)
    }
    fn points(limits: &Limits) -> Vec<f64> {
        vec![1.0, 2.0, 4.0, limits.max.sqrt()]
    }
}

elementwise_tests!(Sqrt);

fn special_values<E: Bits>() {
    let limits = E::LIMITS;
    assert_values::<Sqrt, E>(&[
        (0.0, 0.0),
        (-0.0, -0.0),
        (4.0, 2.0),
        (-1.0, f64::NAN),
        (f64::INFINITY, f64::INFINITY),
        (f64::NEG_INFINITY, f64::NAN),
        (f64::NAN, f64::NAN),
        (-limits.min_subnormal, f64::NAN),
        (limits.min_subnormal, limits.min_subnormal.sqrt()),
    ]);
}
