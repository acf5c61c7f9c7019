//! Tests that the reciprocal is correctly rounded in every type. All 16-bit inputs are tested.

use crate::support::elementwise::{Function, assert_values};
use crate::support::generate::Bits;
use crate::support::naive;
use evenkeel::reference::Real;
use evenkeel::simd::Output;
use evenkeel::{Element, Limits, Result};

struct Reciprocal;

impl Function for Reciprocal {
    const NAME: &'static str = "reciprocal";
    fn run<E: Element>(x: &[E]) -> Result<Vec<E>> {
        evenkeel::reciprocal(x)
    }
    fn into<'a, E: Element>(x: &[E], out: impl Into<Output<'a, E>>) -> Result<&'a mut [E]> {
        evenkeel::reciprocal_into(x, out)
    }
    fn in_place<E: Element>(x: &mut [E]) -> Result<()> {
        evenkeel::reciprocal_in_place(x)
    }
    fn exact<R: Real>(x: R) -> R {
        R::from(1.0) / x
    }
    fn naive<E: Element>(x: E) -> E {
        naive::reciprocal(x)
    }
    fn points(limits: &Limits) -> Vec<f64> {
        vec![1.0, 2.0, 3.0, 1.0 / limits.max, 1.0 / limits.min_normal, limits.max / 2.0]
    }
}

elementwise_tests!(Reciprocal);

fn special_values<E: Bits>() {
    let limits = E::LIMITS;
    assert_values::<Reciprocal, E>(&[
        (0.0, f64::INFINITY),
        (-0.0, f64::NEG_INFINITY),
        (4.0, 0.25),
        (-0.5, -2.0),
        (f64::INFINITY, 0.0),
        (f64::NEG_INFINITY, -0.0),
        (f64::NAN, f64::NAN),
        (limits.min_subnormal, 1.0 / limits.min_subnormal),
        (-limits.min_subnormal, -1.0 / limits.min_subnormal),
        (limits.max, 1.0 / limits.max),
    ]);
}
