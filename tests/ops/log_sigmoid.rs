//! Tests that the logarithm of the logistic function is correctly rounded in f32, f16 and bf16. All 16-bit inputs are
//! tested.

use crate::support::elementwise::{Function, assert_values};
use crate::support::generate::Bits;
use crate::support::naive;
use evenkeel::reference::{self, Real};
use evenkeel::simd::Output;
use evenkeel::{Element, Limits, Result};

struct LogSigmoid;

impl Function for LogSigmoid {
    const NAME: &'static str = "log_sigmoid";
    fn run<E: Element>(x: &[E]) -> Result<Vec<E>> {
        evenkeel::log_sigmoid(x)
    }
    fn into<'a, E: Element>(x: &[E], out: impl Into<Output<'a, E>>) -> Result<&'a mut [E]> {
        evenkeel::log_sigmoid_into(x, out)
    }
    fn in_place<E: Element>(x: &mut [E]) -> Result<()> {
        evenkeel::log_sigmoid_in_place(x)
    }
    fn exact<R: Real>(x: R) -> R {
        reference::log_sigmoid_of(x)
    }
    fn naive<E: Element>(x: E) -> E {
        naive::log_sigmoid(x)
    }
    fn points(limits: &Limits) -> Vec<f64> {
        vec![0.88, 1.0, 45.0, limits.exp_max, limits.exp_min, limits.exp_min_normal]
    }
}

elementwise_tests!(LogSigmoid);

fn special_values<E: Bits>() {
    let limits = E::LIMITS;
    assert_values::<LogSigmoid, E>(&[
        (f64::INFINITY, -0.0),
        (f64::NEG_INFINITY, f64::NEG_INFINITY),
        (f64::NAN, f64::NAN),
        (0.0, -std::f64::consts::LN_2),
        (-0.0, -std::f64::consts::LN_2),
        (limits.max, -0.0),
        (-limits.max, -limits.max),
    ]);
}
