//! Tests of the clamped logarithm and its gradient on all 16-bit inputs. By default, finite inputs give finite
//! logarithms.

use crate::support::compare::{Checker, assert_same_bits};
use crate::support::generate::{self, Bits};
use crate::support::implementations::{each_level, on_threads};
use evenkeel::{
    ClampedLog, Element, clamped_log, clamped_log_backward, clamped_log_backward_in_place, clamped_log_backward_into,
    clamped_log_in_place, clamped_log_into, reference,
};
use half::{bf16, f16};
use std::mem::MaybeUninit;

/// Returns the floor that the options set for inputs of type `E`.
fn floor<E: Element>(options: &ClampedLog) -> f64 {
    options.floor.unwrap_or(E::LIMITS.min_normal)
}

fn options() -> [ClampedLog; 3] {
    [ClampedLog::default(), ClampedLog::default().floor(0.3), ClampedLog::default().floor(1e-300)]
}

fn check<E: Element>(x: &[E]) {
    let dy: Vec<E> = (0..x.len()).map(|i| E::from_wide([1.0, -0.3, 7.0][i % 3])).collect();
    let checkers = ["clamped_log", "clamped_log_backward"].map(Checker::new::<E>);
    for options in options() {
        let floor = floor::<E>(&options);
        let exact: Vec<_> = x.iter().map(|&x| reference::clamped_log(x, floor)).collect();
        let derivative = |(&x, &dy): (&E, &E)| reference::clamped_log_derivative(x, floor) * E::Exact::from(dy.widen());
        let derivatives: Vec<_> = x.iter().zip(&dy).map(derivative).collect();
        each_level(|level| {
            checkers[0].check(&format!("{options:?}, {level}"), x, &clamped_log(x, &options).unwrap(), &exact);
            let dx = clamped_log_backward(x, &dy, &options).unwrap();
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
    let mut rng = generate::rng("clamped_log");
    let mut x = generate::any_bits::<E>(&mut rng, 4000);
    x.extend(generate::special::<E>());
    x.extend(generate::walk::<E>(&[E::LIMITS.min_normal, 0.3, 1.0, 0.0, -1.0], 200));
    x.extend(generate::spaced::<E>(-800.0, 800.0, 4000));
    check(&x);
}

#[test]
#[ignore = "takes up to a minute: ten million inputs"]
fn ten_million_f32() {
    let mut x = generate::any_bits::<f32>(&mut generate::rng("clamped_log"), 5_000_000);
    x.extend(generate::spaced::<f32>(-800.0, 800.0, 5_000_000));
    check(&x);
}

fn finite_by_default<E: Bits>() {
    for x in [f64::NEG_INFINITY, -E::LIMITS.max, -1.0, -0.0, 0.0, E::LIMITS.min_subnormal, E::LIMITS.max] {
        let y = clamped_log(&[E::from_wide(x)], &ClampedLog::default()).unwrap()[0].widen();
        assert!(y.is_finite(), "clamped_log({x}): expected a finite number, got {y}");
    }
    assert!(clamped_log(&[E::NAN], &ClampedLog::default()).unwrap()[0].widen().is_nan());
}

fn forms<E: Bits>() {
    let mut rng = generate::rng("clamped_log forms");
    let options = ClampedLog::default().floor(0.5);
    for len in [1, 17, 5000, 150_000] {
        let (x, dy) = (generate::bell::<E>(&mut rng, len, 0.0, 5.0), generate::bell::<E>(&mut rng, len, 0.0, 5.0));
        let (y, dx) = (clamped_log(&x, &options).unwrap(), clamped_log_backward(&x, &dy, &options).unwrap());
        each_level(|level| {
            let mut room = vec![MaybeUninit::<E>::uninit(); len];
            assert_same_bits("into", clamped_log_into(&x, &mut room[..], &options).unwrap(), &y);
            let (mut a, mut b) = (x.clone(), dy.clone());
            clamped_log_in_place(&mut a, &options).unwrap();
            assert_same_bits("in place", &a, &y);
            assert_same_bits("on two threads", &on_threads(2, level, || clamped_log(&x, &options).unwrap()), &y);
            assert_same_bits("dx", clamped_log_backward_into(&x, &dy, &mut room[..], &options).unwrap(), &dx);
            clamped_log_backward_in_place(&x, &mut b, &options).unwrap();
            assert_same_bits("dx in place", &b, &dx);
        });
    }
}

for_each_dtype!(sampled, finite_by_default, forms);

#[test]
fn floors_that_are_none() {
    let default = ClampedLog::default();
    for floor in [f64::NAN, 0.0, -1.0, f64::INFINITY] {
        assert_eq!(clamped_log(&[1.0f32], &default.floor(floor)).unwrap_err().name(), "InvalidArgument");
        assert_eq!(
            clamped_log_backward(&[1.0f32], &[1.0], &default.floor(floor)).unwrap_err().name(),
            "InvalidArgument"
        );
    }
    let error = clamped_log(&[1.0f32], &default.floor(0.0)).unwrap_err();
    assert_eq!(error.to_string(), "clamped_log: floor is 0; it must be finite and above 0");
    assert_eq!(clamped_log_into(&[1.0f32], &mut [0.0; 2], &default).unwrap_err().name(), "ShapeMismatch");
    assert_eq!(clamped_log_backward(&[1.0f32], &[0.0; 2], &default).unwrap_err().name(), "ShapeMismatch");
}
