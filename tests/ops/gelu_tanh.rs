//! Tests that the tanh form of the Gaussian error linear unit is correctly rounded in f32, f16 and bf16. All 16-bit
//! inputs are tested.

use crate::support::elementwise::{Function, assert_values};
use crate::support::generate::Bits;
use crate::support::naive;
use evenkeel::reference::{self, Real};
use evenkeel::simd::Output;
use evenkeel::{DType, Element, Limits, Result};

struct GeluTanh;

impl Function for GeluTanh {
    const NAME: &'static str = "gelu_tanh";
    fn run<E: Element>(x: &[E]) -> Result<Vec<E>> {
        evenkeel::gelu_tanh(x)
    }
    fn into<'a, E: Element>(x: &[E], out: impl Into<Output<'a, E>>) -> Result<&'a mut [E]> {
        evenkeel::gelu_tanh_into(x, out)
    }
    fn in_place<E: Element>(x: &mut [E]) -> Result<()> {
        evenkeel::gelu_tanh_in_place(x)
    }
    fn exact<R: Real>(x: R) -> R {
        R::from_double_double(reference::gelu_tanh(x.to_f64()))
    }
    fn naive<E: Element>(x: E) -> E {
        naive::gelu_tanh(x)
    }
    fn points(limits: &Limits) -> Vec<f64> {
        vec![0.7525, 1.0, 2.0, 5.5, 8.5, 10.6, 11.2, 20.5, 21.1, 50.0, limits.min_subnormal * 64.0]
    }
}

elementwise_tests!(GeluTanh);

fn special_values<E: Bits>() {
    let limits = E::LIMITS;
    assert_values::<GeluTanh, E>(&[
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
        assert_values::<GeluTanh, E>(&[(smallest, smallest), (-smallest, -0.0)]);
    }
}
