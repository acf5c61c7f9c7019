//! Tests that the binary logarithm is correctly rounded in f32, f16 and bf16, and exact for powers of two. All 16-bit
//! inputs are tested.

use crate::support::elementwise::{Function, assert_values};
use crate::support::generate::Bits;
use crate::support::naive;
use evenkeel::reference::Real;
use evenkeel::simd::Output;
use evenkeel::{Element, Limits, Result};

struct Log2;

impl Function for Log2 {
    const NAME: &'static str = "log2";
    fn run<E: Element>(x: &[E]) -> Result<Vec<E>> {
        evenkeel::log2(x)
    }
    fn into<'a, E: Element>(x: &[E], out: impl Into<Output<'a, E>>) -> Result<&'a mut [E]> {
        evenkeel::log2_into(x, out)
    }
    fn in_place<E: Element>(x: &mut [E]) -> Result<()> {
        evenkeel::log2_in_place(x)
    }
    fn exact<R: Real>(x: R) -> R {
        x.log2()
    }
    fn naive<E: Element>(x: E) -> E {
        naive::log2(x)
    }
    fn points(_: &Limits) -> Vec<f64> {
        vec![1.0, std::f64::consts::FRAC_1_SQRT_2, std::f64::consts::SQRT_2, 2.0, 0.5, 0.96875, 1.0625, 3.0, 10.0]
    }
}

elementwise_tests!(Log2);

fn special_values<E: Bits>() {
    let limits = E::LIMITS;
    assert_values::<Log2, E>(&[
        (0.0, f64::NEG_INFINITY),
        (-0.0, f64::NEG_INFINITY),
        (1.0, 0.0),
        (f64::INFINITY, f64::INFINITY),
        (f64::NEG_INFINITY, f64::NAN),
        (-1.0, f64::NAN),
        (-limits.min_subnormal, f64::NAN),
        (f64::NAN, f64::NAN),
    ]);
    let (first, last) = (limits.min_subnormal.log2() as i32, limits.max.log2().ceil() as i32);
    let powers = std::iter::successors(Some(limits.min_subnormal), |power| Some(power * 2.0));
    let whole: Vec<(f64, f64)> = powers.zip((first..last).map(f64::from)).collect();
    assert_values::<Log2, E>(&whole);
}
