//! Tests that the sigmoid-weighted linear unit is correctly rounded in f32, f16 and bf16. All 16-bit inputs are tested.

use crate::support::elementwise::{Function, assert_values};
use crate::support::generate::Bits;
use crate::support::naive;
use evenkeel::reference::{self, Real};
use evenkeel::simd::Output;
use evenkeel::{DType, Element, Limits, Result};

struct Silu;

impl Function for Silu {
    const NAME: &'static str = "silu";
    fn run<E: Element>(x: &[E]) -> Result<Vec<E>> {
        evenkeel::silu(x)
    }
    fn into<'a, E: Element>(x: &[E], out: impl Into<Output<'a, E>>) -> Result<&'a mut [E]> {
        evenkeel::silu_into(x, out)
    }
    fn in_place<E: Element>(x: &mut [E]) -> Result<()> {
        evenkeel::silu_in_place(x)
    }
    fn exact<R: Real>(x: R) -> R {
        reference::silu_of(x)
    }
    fn naive<E: Element>(x: E) -> E {
        naive::silu(x)
    }
    fn points(limits: &Limits) -> Vec<f64> {
        let vanishing = limits.exp_min - f64::ln(-limits.exp_min);
        vec![
            0.35,
            1.0,
            1.278,
            limits.exp_max,
            limits.exp_min_normal,
            limits.exp_min,
            vanishing,
            limits.min_subnormal * 64.0,
        ]
    }
}

elementwise_tests!(Silu);

fn special_values<E: Bits>() {
    let limits = E::LIMITS;
    assert_values::<Silu, E>(&[
        (0.0, 0.0),
        (-0.0, -0.0),
        (f64::INFINITY, f64::INFINITY),
        (f64::NEG_INFINITY, -0.0),
        (f64::NAN, f64::NAN),
        (limits.max, limits.max),
        (-limits.max, -0.0),
    ]);
    if E::DTYPE != DType::F64 {
        // At the smallest positive number s, the exact result is slightly above s / 2, and rounds to s. At -s, the
        // magnitude is slightly below s / 2, and the result rounds to -0.
        let smallest = limits.min_subnormal;
        assert_values::<Silu, E>(&[(smallest, smallest), (-smallest, -0.0)]);
    }
}
