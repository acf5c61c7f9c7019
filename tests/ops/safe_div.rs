//! Tests that `safe_div` is correctly rounded and never infinite.

use crate::support::compare::{Checker, assert_same_bits};
use crate::support::generate::{self, Bits};
use crate::support::implementations::{each_level, on_threads};
use evenkeel::{Element, SafeDiv, reference, safe_div, safe_div_in_place, safe_div_into};
use half::{bf16, f16};
use std::mem::MaybeUninit;

fn options() -> [SafeDiv; 4] {
    [SafeDiv::default(), SafeDiv::default().eps(0.0), SafeDiv::default().eps(0.37), SafeDiv::default().eps(1e-300)]
}

fn check<E: Element>(x: &[E], d: &[E]) {
    let checker = Checker::new::<E>("safe_div");
    for options in options() {
        let eps = options.eps.unwrap_or(E::LIMITS.div_eps);
        let exact: Vec<_> = x.iter().zip(d).map(|(&x, &d)| reference::safe_div(x, d, eps)).collect();
        each_level(|level| {
            let y = safe_div(x, d, &options).unwrap();
            checker.check(&format!("{options:?}, {level}"), x, &y, &exact);
            let broken = |v: &E| v.widen().is_nan();
            for ((x, d), y) in x.iter().zip(d).zip(&y) {
                let nan = broken(x) || broken(d) || (x.widen().is_infinite() && d.widen().is_infinite());
                assert!(
                    if nan { broken(y) } else { y.widen().is_finite() },
                    "{x:?} / {d:?}: expected {}, got {y:?}",
                    if nan { "NaN" } else { "a finite number" }
                );
            }
        });
    }
}

fn every_divisor<E: Bits>() {
    let d = generate::all::<E>();
    for x in [0.0, -1.0, 3.1, E::LIMITS.max, E::LIMITS.min_subnormal, f64::INFINITY] {
        check(&vec![E::from_wide(x); d.len()], &d);
    }
}

#[test]
fn every_divisor_of_16_bits() {
    every_divisor::<f16>();
    every_divisor::<bf16>();
}

fn sampled<E: Bits>() {
    let mut rng = generate::rng("safe_div");
    let special = generate::special::<E>();
    let (mut x, mut d) = (generate::any_bits::<E>(&mut rng, 20_000), generate::any_bits::<E>(&mut rng, 20_000));
    x.extend(generate::bell::<E>(&mut rng, 20_000, 0.0, 3.0));
    d.extend(generate::bell::<E>(&mut rng, 20_000, 0.0, 3.0));
    for &a in &special {
        x.extend(vec![a; special.len()]);
        d.extend(&special);
    }
    check(&x, &d);
}

#[test]
#[ignore = "takes up to a minute: ten million inputs"]
fn ten_million_f32() {
    let mut rng = generate::rng("safe_div");
    let mut pair =
        |_| (generate::any_bits::<f32>(&mut rng, 5_000_000), generate::bell::<f32>(&mut rng, 5_000_000, 0.0, 3.0));
    let [(mut x, near), (mut d, close)] = [0, 1].map(&mut pair);
    x.extend(near);
    d.extend(close);
    check(&x, &d);
}

fn forms<E: Bits>() {
    let mut rng = generate::rng("safe_div forms");
    for len in [1, 17, 513, 150_000] {
        let (x, d) = (generate::bell::<E>(&mut rng, len, 0.0, 5.0), generate::bell::<E>(&mut rng, len, 0.0, 5.0));
        let options = SafeDiv::default();
        let y = safe_div(&x, &d, &options).unwrap();
        each_level(|level| {
            let mut room = vec![MaybeUninit::<E>::uninit(); len];
            assert_same_bits("into", safe_div_into(&x, &d, &mut room[..], &options).unwrap(), &y);
            let mut data = x.clone();
            safe_div_in_place(&mut data, &d, &options).unwrap();
            assert_same_bits("in place", &data, &y);
            assert_same_bits("on two threads", &on_threads(2, level, || safe_div(&x, &d, &options).unwrap()), &y);
        });
    }
}

for_each_dtype!(sampled, forms);

#[test]
fn what_does_not_fit() {
    for eps in [f64::NAN, -1e-9, f64::INFINITY] {
        let refused = safe_div(&[1.0f32], &[1.0], &SafeDiv::default().eps(eps)).unwrap_err();
        assert_eq!(refused.name(), "InvalidArgument");
    }
    assert_eq!(safe_div(&[1.0f32], &[1.0; 2], &SafeDiv::default()).unwrap_err().name(), "ShapeMismatch");
    assert!(safe_div_into(&[1.0f32], &[1.0], &mut [0.0; 2], &SafeDiv::default()).is_err());
    assert!(safe_div_in_place(&mut [1.0f32], &[], &SafeDiv::default()).is_err());
}
