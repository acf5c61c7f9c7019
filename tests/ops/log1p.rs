//! Tests that ln(1 + x) is correctly rounded in f32, f16 and bf16. All 16-bit inputs are tested.

use crate::support::elementwise::{Function, assert_values};
use crate::support::generate::Bits;
use crate::support::naive;
use evenkeel::reference::Real;
use evenkeel::simd::Output;
use evenkeel::{Element, Limits, Result};

struct Log1p;

impl Function for Log1p {
    const NAME: &'static str = "log1p";
    fn run<E: Element>(x: &[E]) -> Result<Vec<E>> {
        evenkeel::log1p(x)
    }
    fn into<'a, E: Element>(x: &[E], out: impl Into<Output<'a, E>>) -> Result<&'a mut [E]> {
        evenkeel::log1p_into(x, out)
    }
    fn in_place<E: Element>(x: &mut [E]) -> Result<()> {
        evenkeel::log1p_in_place(x)
    }
    fn exact<R: Real>(x: R) -> R {
        x.ln_1p()
    }
    fn naive<E: Element>(x: E) -> E {
        naive::log1p(x)
    }
    fn points(_: &Limits) -> Vec<f64> {
        let root = std::f64::consts::SQRT_2;
        vec![1.0, root - 1.0, 1.0 - 1.0 / root, 2.0 * root - 1.0, 0.5, 2f64.powi(-54), 2f64.powi(53), 1e30]
    }
}

elementwise_tests!(Log1p);

fn special_values<E: Bits>() {
    let limits = E::LIMITS;
    assert_values::<Log1p, E>(&[
        (0.0, 0.0),
        (-0.0, -0.0),
        (-1.0, f64::NEG_INFINITY),
        (-1.5, f64::NAN),
        (f64::INFINITY, f64::INFINITY),
        (f64::NEG_INFINITY, f64::NAN),
        (f64::NAN, f64::NAN),
        (limits.min_subnormal, limits.min_subnormal),
        (-limits.min_subnormal, -limits.min_subnormal),
        (limits.max, limits.max.ln()),
    ]);
}
