//! Tests that the exponential is correctly rounded in f32, f16 and bf16. All 16-bit inputs are tested.

use crate::support::elementwise::{Function, assert_values};
use crate::support::generate::Bits;
use crate::support::naive;
use evenkeel::reference::Real;
use evenkeel::simd::Output;
use evenkeel::{Element, Limits, Result};

struct Exp;

impl Function for Exp {
    const NAME: &'static str = "exp";
    fn run<E: Element>(x: &[E]) -> Result<Vec<E>> {
        evenkeel::exp(x)
    }
    fn into<'a, E: Element>(x: &[E], out: impl Into<Output<'a, E>>) -> Result<&'a mut [E]> {
        evenkeel::exp_into(x, out)
    }
    fn in_place<E: Element>(x: &mut [E]) -> Result<()> {
        evenkeel::exp_in_place(x)
    }
    fn exact<R: Real>(x: R) -> R {
        x.exp()
    }
    fn naive<E: Element>(x: E) -> E {
        naive::exp(x)
    }
    fn points(limits: &Limits) -> Vec<f64> {
        let half_ln_2 = std::f64::consts::LN_2 / 2.0;
        vec![half_ln_2, 1.0, 3.0 * half_ln_2, limits.exp_max, limits.exp_min_normal, limits.exp_min]
    }
}

elementwise_tests!(Exp);

fn special_values<E: Bits>() {
    let limits = E::LIMITS;
    assert_values::<Exp, E>(&[
        (0.0, 1.0),
        (-0.0, 1.0),
        (f64::INFINITY, f64::INFINITY),
        (f64::NEG_INFINITY, 0.0),
        (f64::NAN, f64::NAN),
        (limits.min_subnormal, 1.0),
        (-limits.min_subnormal, 1.0),
        (limits.max, f64::INFINITY),
        (-limits.max, 0.0),
    ]);
    // Just beyond the input limits of a type, results are infinite, subnormal or zero.
    let exp = |place: i64| evenkeel::exp(&[E::at_place(place)]).unwrap()[0].widen();
    let place = |x: f64| E::from_wide(x).place();
    assert!(exp(place(limits.exp_max)).is_finite() && exp(place(limits.exp_max) + 1).is_infinite());
    assert!(exp(place(limits.exp_min_normal)) >= limits.min_normal);
    assert!(exp(place(limits.exp_min_normal) - 1) < limits.min_normal);
    assert!(exp(place(limits.exp_min)) > 0.0 && exp(place(limits.exp_min) - 1) == 0.0);
}
