//! Tests that the gradients of swiglu are accurate, handle zeros and infinities, and have the same bits in every form.

use crate::support::compare::{Checker, assert_same_bits};
use crate::support::generate::{self, Bits};
use crate::support::implementations::{each_level, on_threads};
use crate::support::ulp;
use evenkeel::reference::{self, DoubleDouble, Real};
use evenkeel::{DType, Element, swiglu_backward, swiglu_backward_in_place, swiglu_backward_into};
use half::{bf16, f16};
use std::mem::MaybeUninit;

/// Returns the exact gradients, and the magnitude whose ULP is the unit for errors of dgate. In f64, this magnitude is
/// the larger of dgate's two terms, which may cancel.
fn exact<E: Element>(gate: E, up: E, dy: E) -> ([DoubleDouble; 2], DoubleDouble) {
    let [x, up, dy] = [gate, up, dy].map(E::widen);
    let [dgate, dup] = reference::swiglu_backward(x, up, dy);
    // In the narrower types, the bound holds in ULP of dgate itself, even where the two terms of dgate cancel.
    if E::DTYPE != DType::F64 || !x.is_finite() {
        return ([dgate, dup], dgate.abs());
    }
    let share = reference::sigmoid(x) * DoubleDouble::from(up) * DoubleDouble::from(dy);
    let rest = dgate - share;
    ([dgate, dup], if share.abs() > rest.abs() { share.abs() } else { rest.abs() })
}

fn check<E: Element>(gate: &[E], up: &[E], dy: &[E]) {
    let checker = Checker::new::<E>("swiglu_backward");
    let exact: Vec<_> = (0..gate.len()).map(|i| exact(gate[i], up[i], dy[i])).collect();
    let shown =
        |which: usize| exact.iter().map(|(both, _)| E::Exact::from_double_double(both[which])).collect::<Vec<_>>();
    let [shown_gate, shown_up] = [0, 1].map(shown);
    each_level(|level| {
        let (dgate, dup) = swiglu_backward(gate, up, dy).unwrap();
        checker.check_errors(&format!("dgate, {level}"), gate, &dgate, &shown_gate, &|i| {
            ulp::error_at(dgate[i], exact[i].0[0], ulp::toward_zero(exact[i].1))
        });
        checker.check_errors(&format!("dup, {level}"), gate, &dup, &shown_up, &|i| ulp::error(dup[i], exact[i].0[1]));
    });
}

/// Returns factors and gradients of many magnitudes, none of them zero or infinite.
fn sizes<E: Element>() -> Vec<E> {
    let limits = E::LIMITS;
    let sizes = [1.0, -0.7, 1.9e-3, -250.0, limits.max, -limits.min_normal, limits.min_subnormal, limits.max.sqrt()];
    sizes.map(E::from_wide).to_vec()
}

#[test]
fn every_gate_of_16_bits() {
    fn every<E: Bits>() {
        let gate: Vec<E> = generate::all::<E>().into_iter().filter(|x| x.widen().is_finite()).collect();
        let sizes = sizes::<E>();
        let of = |step: usize| (0..gate.len()).map(|i| sizes[i / step % sizes.len()]).collect::<Vec<E>>();
        check(&gate, &of(1), &of(8));
    }
    every::<f16>();
    every::<bf16>();
}

fn sampled<E: Bits>() {
    let mut rng = generate::rng("swiglu_backward");
    let mut gate: Vec<E> =
        generate::any_bits::<E>(&mut rng, 3000).into_iter().filter(|x| x.widen().is_finite()).collect();
    for (mean, spread) in [(0.0, 1.0), (0.0, 20.0), (-90.0, 20.0), (-740.0, 30.0)] {
        gate.extend(generate::bell::<E>(&mut rng, 3000, mean, spread));
    }
    // The derivative of silu crosses zero in this range.
    gate.extend(generate::spaced::<E>(-1.2784646, -1.2784645, 50));
    gate.extend(generate::spaced::<E>(-1.3, -1.25, 500));
    let plain = generate::bell::<E>(&mut rng, gate.len(), 0.0, 2.0);
    let reversed: Vec<E> = plain.iter().rev().copied().collect();
    check(&gate, &plain, &reversed);
    let sizes = sizes::<E>();
    let of = |step: usize| (0..gate.len()).map(|i| sizes[i / step % sizes.len()]).collect::<Vec<E>>();
    check(&gate, &of(1), &of(8));
}

fn outcomes<E: Bits>() {
    let (inf, nan) = (f64::INFINITY, f64::NAN);
    let table = [
        ((nan, 1.0, 1.0), (nan, nan)),
        ((1.0, nan, 0.0), (nan, 0.0)),
        ((1.0, 1.0, nan), (nan, nan)),
        ((nan, 1.0, 0.0), (nan, nan)),
        // A gradient of 0 stays 0, even if the operands are infinite.
        ((inf, 1.0, 0.0), (0.0, 0.0)),
        ((-inf, inf, -0.0), (-0.0, -0.0)),
        ((1.0, inf, 0.0), (0.0, 0.0)),
        ((inf, 2.0, 3.0), (6.0, inf)),
        ((inf, -2.0, -3.0), (6.0, -inf)),
        ((0.0, 4.0, 2.0), (4.0, 0.0)),
        ((-inf, 4.0, 2.0), (-0.0, -0.0)),
    ];
    each_level(|_| {
        for ((gate, up, dy), (dgate, dup)) in table {
            let [gate, up, dy, dgate, dup] = [gate, up, dy, dgate, dup].map(|v| [E::from_wide(v); 17]);
            let got = swiglu_backward(&gate, &up, &dy).unwrap();
            let what = format!("{:?} {:?} {:?}", gate[0], up[0], dy[0]);
            assert_same_bits(&format!("dgate of {what}"), &got.0, &dgate);
            assert_same_bits(&format!("dup of {what}"), &got.1, &dup);
        }
    });
}

fn forms<E: Bits>() {
    let mut rng = generate::rng("swiglu_backward forms");
    for len in [1, 17, 513, 30_000] {
        let mut bell = |_| generate::bell::<E>(&mut rng, len, 0.0, 5.0);
        let [gate, up, dy] = [0, 1, 2].map(&mut bell);
        let (dgate, dup) = swiglu_backward(&gate, &up, &dy).unwrap();
        each_level(|level| {
            let mut rooms = [(); 2].map(|()| vec![MaybeUninit::<E>::uninit(); len]);
            let [to_gate, to_up] = rooms.each_mut().map(|room| &mut room[..]);
            let (a, b) = swiglu_backward_into(&gate, &up, &dy, to_gate, to_up).unwrap();
            assert_same_bits("dgate into", a, &dgate);
            assert_same_bits("dup into", b, &dup);
            let (mut a, mut b) = (gate.clone(), up.clone());
            swiglu_backward_in_place(&mut a, &mut b, &dy).unwrap();
            assert_same_bits("dgate in place", &a, &dgate);
            assert_same_bits("dup in place", &b, &dup);
            let (a, b) = on_threads(2, level, || swiglu_backward(&gate, &up, &dy).unwrap());
            assert_same_bits("dgate on two threads", &a, &dgate);
            assert_same_bits("dup on two threads", &b, &dup);
        });
    }
}

for_each_dtype!(sampled, outcomes, forms);

#[test]
fn lengths_that_do_not_fit() {
    let one = [1.0f32];
    for (up, dy) in [(&one[..], &[][..]), (&[], &one)] {
        assert_eq!(swiglu_backward(&one, up, dy).unwrap_err().name(), "ShapeMismatch");
        assert!(swiglu_backward_in_place(&mut [1.0], &mut up.to_vec(), dy).is_err());
    }
    assert!(swiglu_backward_into(&one, &one, &one, &mut [0.0; 2], &mut [0.0]).is_err());
    assert!(swiglu_backward_into(&one, &one, &one, &mut [0.0], &mut [0.0; 2]).is_err());
}
