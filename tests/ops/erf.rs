//! Tests that the error function is correctly rounded in f32, f16 and bf16. All 16-bit inputs are tested.

use crate::support::elementwise::{Function, assert_values};
use crate::support::generate::Bits;
use crate::support::naive;
use evenkeel::reference::{self, Real};
use evenkeel::simd::Output;
use evenkeel::{Element, Limits, Result};

struct Erf;

impl Function for Erf {
    const NAME: &'static str = "erf";
    fn run<E: Element>(x: &[E]) -> Result<Vec<E>> {
        evenkeel::erf(x)
    }
    fn into<'a, E: Element>(x: &[E], out: impl Into<Output<'a, E>>) -> Result<&'a mut [E]> {
        evenkeel::erf_into(x, out)
    }
    fn in_place<E: Element>(x: &mut [E]) -> Result<()> {
        evenkeel::erf_in_place(x)
    }
    fn exact<R: Real>(x: R) -> R {
        R::from_double_double(reference::erf(x.to_f64()))
    }
    fn naive<E: Element>(x: E) -> E {
        naive::erf(x)
    }
    fn points(limits: &Limits) -> Vec<f64> {
        vec![2f64.powi(-40), 0.0625, 0.1875, 0.75, 1.0, 2.0, 3.83, 3.93, 5.92, 7.0, limits.epsilon.sqrt()]
    }
}

elementwise_tests!(Erf);

fn special_values<E: Bits>() {
    let limits = E::LIMITS;
    assert_values::<Erf, E>(&[
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
