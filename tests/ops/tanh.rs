//! Tests that the hyperbolic tangent is correctly rounded in f32, f16 and bf16. All 16-bit inputs are tested.

use crate::support::elementwise::{Function, assert_values};
use crate::support::generate::Bits;
use crate::support::naive;
use evenkeel::reference::Real;
use evenkeel::simd::Output;
use evenkeel::{Element, Limits, Result};

struct Tanh;

impl Function for Tanh {
    const NAME: &'static str = "tanh";
    fn run<E: Element>(x: &[E]) -> Result<Vec<E>> {
        evenkeel::tanh(x)
    }
    fn into<'a, E: Element>(x: &[E], out: impl Into<Output<'a, E>>) -> Result<&'a mut [E]> {
        evenkeel::tanh_into(x, out)
    }
    fn in_place<E: Element>(x: &mut [E]) -> Result<()> {
        evenkeel::tanh_in_place(x)
    }
    fn exact<R: Real>(x: R) -> R {
        x.tanh()
    }
    fn naive<E: Element>(x: E) -> E {
        naive::tanh(x)
    }
    fn points(limits: &Limits) -> Vec<f64> {
        vec![0.17328679513998632, 0.5198603854199589, 1.0, 9.01, 20.0, 2f64.powi(-27), limits.epsilon.sqrt()]
    }
}

elementwise_tests!(Tanh);

fn special_values<E: Bits>() {
    let limits = E::LIMITS;
    assert_values::<Tanh, E>(&[
        (0.0, 0.0),
        (-0.0, -0.0),
        (f64::INFINITY, 1.0),
        (f64::NEG_INFINITY, -1.0),
        (f64::NAN, f64::NAN),
        (limits.min_subnormal, limits.min_subnormal),
        (-limits.min_subnormal, -limits.min_subnormal),
        (limits.max, 1.0),
        (-limits.max, -1.0),
    ]);
}
