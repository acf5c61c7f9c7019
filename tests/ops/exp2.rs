//! Tests that 2^x is correctly rounded in f32, f16 and bf16, and exact for integers. All 16-bit inputs are tested.

use crate::support::elementwise::{Function, assert_values};
use crate::support::generate::Bits;
use crate::support::naive;
use evenkeel::reference::Real;
use evenkeel::simd::Output;
use evenkeel::{Element, Limits, Result};

struct Exp2;

impl Function for Exp2 {
    const NAME: &'static str = "exp2";
    fn run<E: Element>(x: &[E]) -> Result<Vec<E>> {
        evenkeel::exp2(x)
    }
    fn into<'a, E: Element>(x: &[E], out: impl Into<Output<'a, E>>) -> Result<&'a mut [E]> {
        evenkeel::exp2_into(x, out)
    }
    fn in_place<E: Element>(x: &mut [E]) -> Result<()> {
        evenkeel::exp2_in_place(x)
    }
    fn exact<R: Real>(x: R) -> R {
        x.exp2()
    }
    fn naive<E: Element>(x: E) -> E {
        naive::exp2(x)
    }
    fn points(limits: &Limits) -> Vec<f64> {
        vec![0.5, 1.0, 1.5, 108.0, limits.max.log2(), limits.min_normal.log2(), limits.min_subnormal.log2() - 1.0]
    }
}

elementwise_tests!(Exp2);

fn special_values<E: Bits>() {
    let limits = E::LIMITS;
    assert_values::<Exp2, E>(&[
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
    // Tests every power of two that the type represents, and the first powers outside its range. Half of the smallest
    // number is a tie, which rounds to 0.
    let (first, last) = (limits.min_subnormal.log2() as i32, limits.max.log2().ceil() as i32);
    let powers = std::iter::successors(Some(limits.min_subnormal), |power| Some(power * 2.0));
    let whole: Vec<(f64, f64)> = (first..last).map(f64::from).zip(powers).collect();
    assert_values::<Exp2, E>(&whole);
    assert_values::<Exp2, E>(&[(f64::from(first - 1), 0.0), (f64::from(last), f64::INFINITY)]);
}
