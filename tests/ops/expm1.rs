//! Tests that e^x - 1 is correctly rounded in f32, f16 and bf16. All 16-bit inputs are tested.

use crate::support::elementwise::{Function, assert_values};
use crate::support::generate::Bits;
use crate::support::naive;
use evenkeel::reference::Real;
use evenkeel::simd::Output;
use evenkeel::{Element, Limits, Result};

struct Expm1;

impl Function for Expm1 {
    const NAME: &'static str = "expm1";
    fn run<E: Element>(x: &[E]) -> Result<Vec<E>> {
        evenkeel::expm1(x)
    }
    fn into<'a, E: Element>(x: &[E], out: impl Into<Output<'a, E>>) -> Result<&'a mut [E]> {
        evenkeel::expm1_into(x, out)
    }
    fn in_place<E: Element>(x: &mut [E]) -> Result<()> {
        evenkeel::expm1_in_place(x)
    }
    fn exact<R: Real>(x: R) -> R {
        x.exp_m1()
    }
    fn naive<E: Element>(x: E) -> E {
        naive::expm1(x)
    }
    fn points(limits: &Limits) -> Vec<f64> {
        let half_ln_2 = std::f64::consts::LN_2 / 2.0;
        vec![half_ln_2, 3.0 * half_ln_2, 1.0, 17.0, 40.0, 42.0, limits.exp_max, 2f64.powi(-27)]
    }
}

elementwise_tests!(Expm1);

fn special_values<E: Bits>() {
    let limits = E::LIMITS;
    assert_values::<Expm1, E>(&[
        (0.0, 0.0),
        (-0.0, -0.0),
        (f64::INFINITY, f64::INFINITY),
        (f64::NEG_INFINITY, -1.0),
        (f64::NAN, f64::NAN),
        (limits.min_subnormal, limits.min_subnormal),
        (-limits.min_subnormal, -limits.min_subnormal),
        (limits.max, f64::INFINITY),
        (-limits.max, -1.0),
    ]);
}
