//! Tests of the clamped exponential and its gradient on all 16-bit inputs. By default, the exponential must be finite.

use crate::support::compare::{Checker, assert_same_bits};
use crate::support::generate::{self, Bits};
use crate::support::implementations::{each_level, on_threads};
use evenkeel::{
    ClampedExp, Element, clamped_exp, clamped_exp_backward, clamped_exp_backward_in_place, clamped_exp_backward_into,
    clamped_exp_in_place, clamped_exp_into, reference,
};
use half::{bf16, f16};
use std::mem::MaybeUninit;

/// Returns the range to which the options clamp inputs of type `E`.
fn range<E: Element>(options: &ClampedExp) -> (f64, f64) {
    (options.min.unwrap_or(E::LIMITS.exp_min_normal), options.max.unwrap_or(E::LIMITS.exp_max))
}

fn options() -> [ClampedExp; 4] {
    let default = ClampedExp::default();
    [default, default.min(-2.3).max(0.1), default.max(f64::INFINITY), default.min(1.5).max(1.5)]
}

fn check<E: Element>(x: &[E]) {
    let dy: Vec<E> = (0..x.len()).map(|i| E::from_wide([1.0, -0.3, 7.0][i % 3])).collect();
    let checkers = ["clamped_exp", "clamped_exp_backward"].map(Checker::new::<E>);
    for options in options() {
        let (min, max) = range::<E>(&options);
        let exact: Vec<_> = x.iter().map(|&x| reference::clamped_exp(x, min, max)).collect();
        let derivative =
            |(&x, &dy): (&E, &E)| reference::clamped_exp_derivative(x, min, max) * E::Exact::from(dy.widen());
        let derivatives: Vec<_> = x.iter().zip(&dy).map(derivative).collect();
        each_level(|level| {
            checkers[0].check(&format!("{options:?}, {level}"), x, &clamped_exp(x, &options).unwrap(), &exact);
            let dx = clamped_exp_backward(x, &dy, &options).unwrap();
            checkers[1].check(&format!("{options:?}, {level}"), x, &dx, &derivatives);
        });
    }
}

#[test]
fn every_input_of_16_bits() {
    check(&generate::all::<f16>());
    check(&generate::all::<bf16>());
}

fn sampled<E: Bits>() {
    let mut rng = generate::rng("clamped_exp");
    let mut x = generate::any_bits::<E>(&mut rng, 4000);
    x.extend(generate::special::<E>());
    let limits = E::LIMITS;
    x.extend(generate::walk::<E>(&[limits.exp_min_normal, limits.exp_max, -2.3, 0.1, 1.5, 0.0], 200));
    x.extend(generate::spaced::<E>(-800.0, 800.0, 4000));
    check(&x);
}

#[test]
#[ignore = "takes up to a minute: ten million inputs"]
fn ten_million_f32() {
    let mut x = generate::any_bits::<f32>(&mut generate::rng("clamped_exp"), 5_000_000);
    x.extend(generate::spaced::<f32>(-800.0, 800.0, 5_000_000));
    check(&x);
}

fn finite_and_normal_by_default<E: Bits>() {
    for x in [f64::NEG_INFINITY, -E::LIMITS.max, -1e4, 0.0, 1e4, E::LIMITS.max, f64::INFINITY] {
        let y = clamped_exp(&[E::from_wide(x)], &ClampedExp::default()).unwrap()[0].widen();
        assert!(
            y.is_finite() && y >= E::LIMITS.min_normal,
            "clamped_exp({x}): expected a finite normal number, got {y}"
        );
    }
    assert!(clamped_exp(&[E::NAN], &ClampedExp::default()).unwrap()[0].widen().is_nan());
}

fn forms<E: Bits>() {
    let mut rng = generate::rng("clamped_exp forms");
    let options = ClampedExp::default().min(-3.0).max(4.0);
    for len in [1, 17, 5000, 150_000] {
        let (x, dy) = (generate::bell::<E>(&mut rng, len, 0.0, 5.0), generate::bell::<E>(&mut rng, len, 0.0, 5.0));
        let (y, dx) = (clamped_exp(&x, &options).unwrap(), clamped_exp_backward(&x, &dy, &options).unwrap());
        each_level(|level| {
            let mut room = vec![MaybeUninit::<E>::uninit(); len];
            assert_same_bits("into", clamped_exp_into(&x, &mut room[..], &options).unwrap(), &y);
            let (mut a, mut b) = (x.clone(), dy.clone());
            clamped_exp_in_place(&mut a, &options).unwrap();
            assert_same_bits("in place", &a, &y);
            assert_same_bits("on two threads", &on_threads(2, level, || clamped_exp(&x, &options).unwrap()), &y);
            assert_same_bits("dx", clamped_exp_backward_into(&x, &dy, &mut room[..], &options).unwrap(), &dx);
            clamped_exp_backward_in_place(&x, &mut b, &options).unwrap();
            assert_same_bits("dx in place", &b, &dx);
        });
    }
}

for_each_dtype!(sampled, finite_and_normal_by_default, forms);

#[test]
fn ranges_that_are_none() {
    let default = ClampedExp::default();
    for options in [default.min(f64::NAN), default.max(f64::NAN), default.min(1.0).max(0.5), default.min(100.0)] {
        assert_eq!(clamped_exp(&[1.0f32], &options).unwrap_err().name(), "InvalidArgument");
        assert_eq!(clamped_exp_backward(&[1.0f32], &[1.0], &options).unwrap_err().name(), "InvalidArgument");
    }
    let error = clamped_exp(&[1.0f32], &default.min(2.0).max(1.0)).unwrap_err();
    assert_eq!(error.to_string(), "clamped_exp: min is 2; it must be a number, at most max (1)");
    assert_eq!(clamped_exp_into(&[1.0f32], &mut [0.0; 2], &default).unwrap_err().name(), "ShapeMismatch");
    assert_eq!(clamped_exp_backward(&[1.0f32], &[0.0; 2], &default).unwrap_err().name(), "ShapeMismatch");
}
