//! Tests of ln(e^a + e^b).

use crate::support::compare::{Checker, assert_same_bits};
use crate::support::generate::{self, Bits};
use crate::support::implementations::{each_level, on_threads};
use evenkeel::{Element, log_add_exp, log_add_exp_in_place, log_add_exp_into, reference};
use half::{bf16, f16};
use std::mem::MaybeUninit;

fn check<E: Element>(a: &[E], b: &[E]) {
    let checker = Checker::new::<E>("log_add_exp");
    let exact: Vec<_> = a.iter().zip(b).map(|(&a, &b)| reference::log_add_exp(a, b)).collect();
    each_level(|level| {
        let y = log_add_exp(a, b).unwrap();
        checker.check_terms(&format!("{level}"), a, &y, &exact, &|i| {
            let larger = a[i].widen().abs().max(b[i].widen().abs());
            // The result is the sum of two terms: the larger input, and a logarithm of at most ln 2. The smaller input
            // is not a term. Its magnitude may be much larger than the magnitude of the result.
            larger.min(a[i].widen().max(b[i].widen()).abs().max(std::f64::consts::LN_2))
        });
    });
}

#[test]
fn every_input_of_16_bits() {
    fn every<E: Bits>() {
        let a = generate::all::<E>();
        for b in [0.0, -0.7, 5.0, f64::NEG_INFINITY] {
            check(&a, &vec![E::from_wide(b); a.len()]);
        }
        // Tests pairs of close values.
        let above: Vec<E> = a.iter().map(|a| E::from_wide(a.widen() * 1.01 - 0.3)).collect();
        check(&a, &above);
    }
    every::<f16>();
    every::<bf16>();
}

fn sampled<E: Bits>() {
    let mut rng = generate::rng("log_add_exp");
    let special = generate::special::<E>();
    let (mut a, mut b) = (generate::any_bits::<E>(&mut rng, 5000), generate::any_bits::<E>(&mut rng, 5000));
    for (mean, spread) in [(0.0, 1.0), (-3.0, 3.0), (300.0, 2.0), (0.0, 250.0)] {
        a.extend(generate::bell::<E>(&mut rng, 5000, mean, spread));
        b.extend(generate::bell::<E>(&mut rng, 5000, mean, spread));
    }
    // The result crosses zero where the sum of the exponentials is 1.
    let near = generate::spaced::<E>(-3.0, -1e-3, 2000);
    b.extend(near.iter().map(|a| E::from_wide((-a.widen().exp()).ln_1p())));
    a.extend(near);
    for &v in &special {
        a.extend(vec![v; special.len()]);
        b.extend(&special);
    }
    check(&a, &b);
    check(&b, &a);
}

#[test]
#[ignore = "takes up to a minute: ten million inputs"]
fn ten_million_f32() {
    let mut rng = generate::rng("log_add_exp");
    for (mean, spread) in [(0.0, 1.0), (300.0, 2.0), (0.0, 250.0), (0.0, 1e30)] {
        let mut bell = |_| generate::bell::<f32>(&mut rng, 2_500_000, mean, spread);
        let [a, b] = [0, 1].map(&mut bell);
        check(&a, &b);
    }
}

fn infinities<E: Bits>() {
    let (inf, nan) = (f64::INFINITY, f64::NAN);
    let table = [
        (inf, inf, inf),
        (-inf, -inf, -inf),
        (inf, -inf, inf),
        (-inf, 2.5, 2.5),
        (2.5, -inf, 2.5),
        (inf, 1.0, inf),
        (nan, 1.0, nan),
        (1.0, nan, nan),
        (nan, inf, nan),
        (-inf, nan, nan),
    ];
    each_level(|_| {
        for (a, b, y) in table.map(|(a, b, y)| (E::from_wide(a), E::from_wide(b), E::from_wide(y))) {
            assert_same_bits(&format!("{a:?} {b:?}"), &log_add_exp(&[a; 17], &[b; 17]).unwrap(), &[y; 17]);
        }
    });
}

fn forms<E: Bits>() {
    let mut rng = generate::rng("log_add_exp forms");
    for len in [1, 17, 513, 150_000] {
        let (a, b) = (generate::bell::<E>(&mut rng, len, 0.0, 5.0), generate::bell::<E>(&mut rng, len, 0.0, 5.0));
        let y = log_add_exp(&a, &b).unwrap();
        assert_same_bits("swapped operands", &log_add_exp(&b, &a).unwrap(), &y);
        each_level(|level| {
            let mut room = vec![MaybeUninit::<E>::uninit(); len];
            assert_same_bits("into", log_add_exp_into(&a, &b, &mut room[..]).unwrap(), &y);
            let mut data = a.clone();
            log_add_exp_in_place(&mut data, &b).unwrap();
            assert_same_bits("in place", &data, &y);
            assert_same_bits("on two threads", &on_threads(2, level, || log_add_exp(&a, &b).unwrap()), &y);
        });
    }
}

for_each_dtype!(sampled, infinities, forms);

#[test]
fn lengths_that_do_not_fit() {
    assert_eq!(log_add_exp(&[1.0f32], &[1.0; 2]).unwrap_err().name(), "ShapeMismatch");
    assert!(log_add_exp_into(&[1.0f32], &[1.0], &mut [0.0; 2]).is_err());
    assert!(log_add_exp_in_place(&mut [1.0f32], &[]).is_err());
}
