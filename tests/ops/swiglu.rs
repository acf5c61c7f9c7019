//! Tests that the gated linear unit with silu is accurate, handles special values, and has the same bits in every form.

use crate::support::compare::{Checker, assert_same_bits, within};
use crate::support::generate::{self, Bits};
use crate::support::implementations::{each_level, on_threads};
use crate::support::naive;
use evenkeel::{DType, Element, reference, swiglu, swiglu_in_place, swiglu_into};
use half::{bf16, f16};
use std::mem::MaybeUninit;

fn check<E: Element>(gate: &[E], up: &[E]) {
    let checker = Checker::new::<E>("swiglu");
    let exact: Vec<_> = gate.iter().zip(up).map(|(&gate, &up)| reference::swiglu(gate, up)).collect();
    each_level(|level| {
        let y = swiglu(gate, up).unwrap();
        checker.check(&format!("{level}"), gate, &y, &exact);
    });
}

#[test]
fn every_input_of_16_bits() {
    fn every<E: Bits>() {
        let gate = generate::all::<E>();
        let limits = E::LIMITS;
        for up in [1.0, -0.7, limits.max, limits.min_subnormal] {
            check(&gate, &vec![E::from_wide(up); gate.len()]);
        }
        for gate in [0.3, -20.0, limits.max] {
            let up = generate::all::<E>();
            check(&vec![E::from_wide(gate); up.len()], &up);
        }
    }
    every::<f16>();
    every::<bf16>();
}

fn sampled<E: Bits>() {
    let mut rng = generate::rng("swiglu");
    let (mut gate, mut up) = (generate::any_bits::<E>(&mut rng, 5000), generate::any_bits::<E>(&mut rng, 5000));
    // Tests typical activations. Also tests gates so far below zero that silu is tiny, with factors large enough to
    // compensate.
    for (mean, spread, other) in [(0.0, 1.0, 1.0), (0.0, 20.0, 1.0), (-80.0, 20.0, 1e36), (-740.0, 60.0, 1e300)] {
        gate.extend(generate::bell::<E>(&mut rng, 5000, mean, spread));
        up.extend(generate::bell::<E>(&mut rng, 5000, 0.0, other));
    }
    let special = generate::special::<E>();
    for &v in &special {
        gate.extend(vec![v; special.len()]);
        up.extend(&special);
    }
    check(&gate, &up);
}

#[test]
#[ignore = "takes up to a minute: ten million inputs"]
fn ten_million_f32() {
    let mut rng = generate::rng("swiglu");
    for (mean, spread) in [(0.0, 1.0), (-40.0, 20.0), (0.0, 250.0), (0.0, 1e-30)] {
        let mut bell = |mean| generate::bell::<f32>(&mut rng, 2_500_000, mean, spread);
        let [gate, up] = [mean, 0.0].map(&mut bell);
        check(&gate, &up);
    }
}

/// Checks subnormal values of silu. There, a formula that rounds both silu and the product loses accuracy.
fn power<E: Bits>() {
    let limits = E::LIMITS;
    let gate: Vec<E> = (0..100).map(|i| E::from_wide(limits.exp_min + 1.0 + 0.01 * f64::from(i))).collect();
    let up = vec![E::from_wide(limits.max.sqrt()); gate.len()];
    check(&gate, &up);
    let exact: Vec<_> = gate.iter().zip(&up).map(|(&gate, &up)| reference::swiglu(gate, up)).collect();
    let naive: Vec<E> = gate.iter().zip(&up).map(|(&gate, &up)| naive::swiglu(gate, up)).collect();
    let bound = Checker::new::<E>("swiglu").bound();
    assert!(
        E::DTYPE == DType::F64 || within("", &gate, &naive, &exact, bound).is_err(),
        "swiglu: the error of the naive formula must be above {bound} ULP, but is not"
    );
}

fn special_values<E: Bits>() {
    let (inf, nan) = (f64::INFINITY, f64::NAN);
    let table = [
        (nan, 1.0, nan),
        (1.0, nan, nan),
        (0.0, nan, nan),
        (-inf, 2.0, -0.0),
        (-inf, -2.0, 0.0),
        (-inf, inf, nan),
        (inf, -1.0, -inf),
        (inf, inf, inf),
        (inf, 0.0, nan),
        (0.0, 3.0, 0.0),
        (-0.0, 3.0, -0.0),
        (0.0, -inf, nan),
        (-3.0, -0.0, 0.0),
        (-2.0, inf, -inf),
        (-1e4, inf, -inf),
    ];
    each_level(|_| {
        for (gate, up, y) in table.map(|(gate, up, y)| (E::from_wide(gate), E::from_wide(up), E::from_wide(y))) {
            assert_same_bits(&format!("{gate:?} {up:?}"), &swiglu(&[gate; 17], &[up; 17]).unwrap(), &[y; 17]);
        }
    });
}

/// Checks the bits of eight results. Some change if the exponential has other operations. Others change if the
/// reciprocal is an estimate.
#[test]
fn f32_results_keep_their_bits() {
    let table = [
        [0x4097_9293, 0x3f88_a05b, 0x40a0_61a1],
        [0xc0c0_67c3, 0x3fba_813b, 0xbcaf_3acd],
        [0x409d_49ce, 0x3fbb_4503, 0x40e4_71bc],
        [0x4036_a8a2, 0x3fa7_4303, 0x4061_af29],
        [0xbd28_6085, 0x3f9e_e853, 0xbccc_bd03],
        [0x408e_b9ce, 0x3fca_c4db, 0x40df_8342],
        [0xc08b_3724, 0x3fb3_25a2, 0xbd9e_d260],
        [0xc0de_a758, 0x3fc5_3308, 0xbc26_e029],
    ];
    let [gate, up, y] = [0, 1, 2].map(|i| table.map(|row| f32::from_bits(row[i])));
    each_level(|level| assert_same_bits(&level.to_string(), &swiglu(&gate, &up).unwrap(), &y));
}

/// Checks that an element has the same bits, whatever the neighbouring elements are. Some neighbours are beyond the
/// range of f32, and are computed in f64.
fn forms<E: Bits>() {
    let mut rng = generate::rng("swiglu forms");
    for len in [1, 17, 513, 150_000] {
        let mut gate = generate::bell::<E>(&mut rng, len, 0.0, 5.0);
        let up = generate::bell::<E>(&mut rng, len, 0.0, 5.0);
        let plain = swiglu(&gate, &up).unwrap();
        for i in (0..len).step_by(600) {
            gate[i] = E::from_wide(-90.0);
        }
        let y = swiglu(&gate, &up).unwrap();
        let alone: Vec<E> = (0..len.min(2000)).flat_map(|i| swiglu(&gate[i..=i], &up[i..=i]).unwrap()).collect();
        assert_same_bits("one at a time", &y[..alone.len()], &alone);
        assert!(
            (0..len).all(|i| i % 600 == 0 || y[i].bits() == plain[i].bits()),
            "swiglu of {len} elements: a result must not change if only other elements of the gate change"
        );
        each_level(|level| {
            let mut room = vec![MaybeUninit::<E>::uninit(); len];
            assert_same_bits("into", swiglu_into(&gate, &up, &mut room[..]).unwrap(), &y);
            let mut data = gate.clone();
            swiglu_in_place(&mut data, &up).unwrap();
            assert_same_bits("in place", &data, &y);
            assert_same_bits("on two threads", &on_threads(2, level, || swiglu(&gate, &up).unwrap()), &y);
        });
    }
}

for_each_dtype!(sampled, power, special_values, forms);

#[test]
fn lengths_that_do_not_fit() {
    assert_eq!(swiglu(&[1.0f32], &[1.0; 2]).unwrap_err().name(), "ShapeMismatch");
    assert!(swiglu_into(&[1.0f32], &[1.0], &mut [0.0; 2]).is_err());
    assert!(swiglu_in_place(&mut [1.0f32], &[]).is_err());
    assert_eq!(swiglu::<f32>(&[], &[]), Ok(vec![]));
}
