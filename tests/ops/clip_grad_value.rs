//! Tests of clipping by value, on special values and random bit patterns. Some limits cannot be represented in the
//! type. Results must have the same bits on every instruction set and with any number of threads.

use crate::support::compare::{Checker, assert_same_bits};
use crate::support::generate::{self, Bits};
use crate::support::implementations::{each_level, on_threads};
use evenkeel::simd::Level;
use evenkeel::{Element, FloatsMut, clip_grad_value, reference, report};
use half::f16;

for_each_dtype!(values, threads);

fn clipped<E: Element>(x: &[E], limit: f64) -> Vec<E> {
    let mut y = x.to_vec();
    clip_grad_value(&mut [(&mut y).into()], limit).unwrap();
    y
}

fn values<E: Bits>() {
    let mut rng = generate::rng("clip_grad_value");
    let checker = Checker::new::<E>("clip_grad_value");
    let limits = E::LIMITS;
    let mut x = generate::special::<E>();
    x.extend(generate::any_bits::<E>(&mut rng, 3000));
    x.extend(generate::walk::<E>(&[0.1, -0.1], 20));
    for limit in [0.0, limits.min_subnormal, 0.1, 1.0, limits.max, 1e300, f64::INFINITY] {
        let exact: Vec<E::Exact> =
            x.iter().map(|x| reference::clip_grad_value(E::Exact::from(x.widen()), limit)).collect();
        each_level(|level| {
            let y = clipped(&x, limit);
            checker.check(&format!("to {limit}, {level}"), &x, &y, &exact);
            for (x, y) in x.iter().zip(&y).filter(|(x, _)| x.widen().abs() <= limit) {
                assert_eq!(x.bits(), y.bits(), "{x:?} is within the limit {limit} and must be unchanged, got {y:?}");
            }
            for (x, y) in x.iter().zip(&y).filter(|(x, _)| !x.widen().is_nan()) {
                assert_eq!(
                    x.widen().is_sign_negative(),
                    y.widen().is_sign_negative(),
                    "clipping {x:?} to {limit} must not change the sign, got {y:?}"
                );
            }
        });
    }
}

fn threads<E: Bits>() {
    let mut rng = generate::rng("clip_grad_value, threads");
    let mut x = generate::bell::<E>(&mut rng, 300_001, 0.3, 5.0);
    x[200_000] = E::NAN;
    x[300_000] = E::NEG_INFINITY;
    let alone = on_threads(1, Level::Portable, || clipped(&x, 0.7));
    each_level(|level| {
        for threads in [1, 2, 3] {
            let (y, report) = on_threads(threads, level, || report::scope(|| clipped(&x, 0.7)));
            assert_same_bits(&format!("{level}, {threads} threads"), &y, &alone);
            assert_eq!((report.op("clip_grad_value").nan, report.op("clip_grad_value").infinite), (1, 1));
        }
    });
}

#[test]
fn what_is_no_limit() {
    for limit in [-1.0, f64::NEG_INFINITY, f64::NAN] {
        let mut grads = [3.0f32];
        let refused = clip_grad_value(&mut [(&mut grads).into()], limit).unwrap_err();
        assert_eq!(refused.to_string(), format!("clip_grad_value: clip_value is {limit}; it must be 0 or more"));
        assert_eq!(grads, [3.0]);
    }
}

#[test]
fn types_together() {
    let (mut a, mut b, mut c) = ([f16::INFINITY, f16::from_f32(-0.5)], vec![1e38f32, -2.0], [0.0; 0]);
    let mut grads = [FloatsMut::from(&mut a), (&mut b).into(), (&mut c).into()];
    let (done, report) = report::scope(|| clip_grad_value(&mut grads, 1.0));
    assert_eq!(done, Ok(()));
    assert_eq!((a, b), ([f16::ONE, f16::from_f32(-0.5)], vec![1.0, -1.0]));
    assert_eq!(report.to_string(), "clip_grad_value: 1 of 3 rows with infinity");
    assert_eq!(clip_grad_value(&mut [], 1.0), Ok(()));
}
