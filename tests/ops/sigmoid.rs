//! Tests that the logistic function is correctly rounded in f32, f16 and bf16. All 16-bit inputs are tested.

use crate::support::elementwise::{Function, assert_values};
use crate::support::generate::Bits;
use crate::support::naive;
use evenkeel::reference::{self, Real};
use evenkeel::simd::Output;
use evenkeel::{Element, Limits, Result};

struct Sigmoid;

impl Function for Sigmoid {
    const NAME: &'static str = "sigmoid";
    fn run<E: Element>(x: &[E]) -> Result<Vec<E>> {
        evenkeel::sigmoid(x)
    }
    fn into<'a, E: Element>(x: &[E], out: impl Into<Output<'a, E>>) -> Result<&'a mut [E]> {
        evenkeel::sigmoid_into(x, out)
    }
    fn in_place<E: Element>(x: &mut [E]) -> Result<()> {
        evenkeel::sigmoid_in_place(x)
    }
    fn exact<R: Real>(x: R) -> R {
        reference::sigmoid_of(x)
    }
    fn naive<E: Element>(x: E) -> E {
        naive::sigmoid(x)
    }
    fn points(limits: &Limits) -> Vec<f64> {
        vec![0.35, 1.0, limits.exp_max, limits.exp_min_normal, limits.exp_min, -f64::ln(limits.epsilon / 2.0)]
    }
}

elementwise_tests!(Sigmoid);

fn special_values<E: Bits>() {
    let limits = E::LIMITS;
    assert_values::<Sigmoid, E>(&[
        (0.0, 0.5),
        (-0.0, 0.5),
        (f64::INFINITY, 1.0),
        (f64::NEG_INFINITY, 0.0),
        (f64::NAN, f64::NAN),
        (limits.min_subnormal, 0.5),
        (limits.max, 1.0),
        (-limits.max, 0.0),
    ]);
}
