//! Tests that the logarithm is correctly rounded in f32, f16 and bf16. All 16-bit inputs are tested.

use crate::support::elementwise::{Function, assert_values};
use crate::support::generate::Bits;
use crate::support::naive;
use evenkeel::reference::Real;
use evenkeel::simd::Output;
use evenkeel::{Element, Limits, Result};

struct Log;

impl Function for Log {
    const NAME: &'static str = "log";
    fn run<E: Element>(x: &[E]) -> Result<Vec<E>> {
        evenkeel::log(x)
    }
    fn into<'a, E: Element>(x: &[E], out: impl Into<Output<'a, E>>) -> Result<&'a mut [E]> {
        evenkeel::log_into(x, out)
    }
    fn in_place<E: Element>(x: &mut [E]) -> Result<()> {
        evenkeel::log_in_place(x)
    }
    fn exact<R: Real>(x: R) -> R {
        x.ln()
    }
    fn naive<E: Element>(x: E) -> E {
        naive::log(x)
    }
    fn points(_: &Limits) -> Vec<f64> {
        vec![1.0, std::f64::consts::FRAC_1_SQRT_2, std::f64::consts::SQRT_2, 2.0, 0.5, std::f64::consts::E, 10.0]
    }
}

elementwise_tests!(Log);

fn special_values<E: Bits>() {
    assert_values::<Log, E>(&[
        (0.0, f64::NEG_INFINITY),
        (-0.0, f64::NEG_INFINITY),
        (1.0, 0.0),
        (f64::INFINITY, f64::INFINITY),
        (f64::NEG_INFINITY, f64::NAN),
        (-1.0, f64::NAN),
        (-E::LIMITS.min_subnormal, f64::NAN),
        (f64::NAN, f64::NAN),
    ]);
}
