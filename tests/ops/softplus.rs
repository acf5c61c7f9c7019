//! Tests that softplus is correctly rounded in f32, f16 and bf16. All 16-bit inputs are tested.

use crate::support::elementwise::{Function, assert_values};
use crate::support::generate::Bits;
use crate::support::naive;
use evenkeel::reference::{self, Real};
use evenkeel::simd::Output;
use evenkeel::{Element, Limits, Result};

struct Softplus;

impl Function for Softplus {
    const NAME: &'static str = "softplus";
    fn run<E: Element>(x: &[E]) -> Result<Vec<E>> {
        evenkeel::softplus(x)
    }
    fn into<'a, E: Element>(x: &[E], out: impl Into<Output<'a, E>>) -> Result<&'a mut [E]> {
        evenkeel::softplus_into(x, out)
    }
    fn in_place<E: Element>(x: &mut [E]) -> Result<()> {
        evenkeel::softplus_in_place(x)
    }
    fn exact<R: Real>(x: R) -> R {
        reference::softplus_of(x)
    }
    fn naive<E: Element>(x: E) -> E {
        naive::softplus(x)
    }
    fn points(limits: &Limits) -> Vec<f64> {
        vec![0.88, 1.0, 20.0, 45.0, limits.exp_max, limits.exp_min, limits.exp_min_normal]
    }
}

elementwise_tests!(Softplus);

fn special_values<E: Bits>() {
    let limits = E::LIMITS;
    assert_values::<Softplus, E>(&[
        (f64::INFINITY, f64::INFINITY),
        (f64::NEG_INFINITY, 0.0),
        (f64::NAN, f64::NAN),
        (0.0, std::f64::consts::LN_2),
        (-0.0, std::f64::consts::LN_2),
        (limits.max, limits.max),
        (-limits.max, 0.0),
    ]);
}
