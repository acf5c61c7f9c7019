//! Tests that the reciprocal square root is correctly rounded in f32, f16 and bf16. All 16-bit inputs are tested.

use crate::support::elementwise::{Function, assert_values};
use crate::support::generate::Bits;
use crate::support::naive;
use evenkeel::reference::Real;
use evenkeel::simd::Output;
use evenkeel::{Element, Limits, Result};

struct Rsqrt;

impl Function for Rsqrt {
    const NAME: &'static str = "rsqrt";
    fn run<E: Element>(x: &[E]) -> Result<Vec<E>> {
        evenkeel::rsqrt(x)
    }
    fn into<'a, E: Element>(x: &[E], out: impl Into<Output<'a, E>>) -> Result<&'a mut [E]> {
        evenkeel::rsqrt_into(x, out)
    }
    fn in_place<E: Element>(x: &mut [E]) -> Result<()> {
        evenkeel::rsqrt_in_place(x)
    }
    fn exact<R: Real>(x: R) -> R {
        R::from(1.0) / x.sqrt()
    }
    fn naive<E: Element>(x: E) -> E {
        naive::rsqrt(x)
    }
    fn points(limits: &Limits) -> Vec<f64> {
        vec![1.0, 2.0, 4.0, limits.max.sqrt(), limits.min_normal.sqrt(), limits.min_normal * 2f64.powi(12)]
    }
}

elementwise_tests!(Rsqrt);

fn special_values<E: Bits>() {
    let limits = E::LIMITS;
    assert_values::<Rsqrt, E>(&[
        (0.0, f64::INFINITY),
        (-0.0, f64::NEG_INFINITY),
        (4.0, 0.5),
        (-1.0, f64::NAN),
        (f64::INFINITY, 0.0),
        (f64::NEG_INFINITY, f64::NAN),
        (f64::NAN, f64::NAN),
        (-limits.min_subnormal, f64::NAN),
        (limits.min_subnormal, 1.0 / limits.min_subnormal.sqrt()),
    ]);
}
