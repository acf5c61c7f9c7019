//! Tests that the gradient of log-sum-exp is accurate, handles NaN, infinities and masks, and has the same bits in
//! every form.

use crate::support::compare::{Checker, assert_same_bits};
use crate::support::expand::Parts;
use crate::support::forms::transposed;
use crate::support::generate::{self, Bits, Hostile};
use crate::support::implementations::{each_level, on_threads};
use crate::support::naive;
use crate::support::scores_backward::{Specified, Truth, naive_fails};
use evenkeel::reference::Real;
use evenkeel::simd::{Level, with_level};
use evenkeel::{
    Element, Error, FullyMasked, Lanes, LanesMut, Rows, RowsMut, Softmax, logsumexp_backward,
    logsumexp_backward_in_place, logsumexp_backward_into, reference, report,
};
use std::mem::MaybeUninit;

for_each_dtype!(hostile, every_length, options_and_masks, outcomes, forms, axes);

/// Gradient of log-sum-exp, for the common tests of the softmax gradients. A row has a single `dy`.
struct OfLogSumExp;

impl Specified for OfLogSumExp {
    const NAME: &'static str = "logsumexp_backward";
    fn exact<R: Real>(logits: &[R], dy: &[R]) -> Option<Vec<R>> {
        reference::logsumexp_backward_of(logits, dy[0])
    }
    fn naive<E: Element>(x: &[E], dy: &[E]) -> Vec<E> {
        naive::logsumexp_backward(x, dy[0])
    }
    fn term(y: f64, dy: f64, _: f64, _: f64) -> f64 {
        y * dy.abs()
    }
}

fn row<E: Element>(x: &[E], dy: E, options: &Softmax<'_>) -> Vec<E> {
    logsumexp_backward(Rows::new(x, 1, x.len()).unwrap(), &[dy], options).unwrap()
}

fn check<E: Element>(checker: &Checker, what: &str, x: &[E], dy: E) -> Truth<E> {
    let truth = Truth::plain::<OfLogSumExp>(x, &vec![dy; x.len()]);
    each_level(|level| {
        truth.check(checker, &format!("{what}, {level}"), x, &row(x, dy, &Softmax::default()));
    });
    truth
}

fn hostile<E: Bits>() {
    let checker = Checker::of_usual_rows::<E>(OfLogSumExp::NAME);
    for len in generate::lengths() {
        for Hostile { name, row } in generate::hostile_scores::<E>(len) {
            let what = format!("{name} of {len}");
            let dy = E::from_wide(1.7);
            let truth = check(&checker, &what, &row, dy);
            naive_fails::<OfLogSumExp, E>(&checker, &what, &row, &vec![dy; len], &truth);
        }
    }
    // A sum in the storage type would stall on equal logits, or accumulate its rounding errors.
    for len in [4096, 131_072] {
        let x = vec![E::from_wide(0.7); len];
        let truth = check(&checker, &format!("{len} equal"), &x, E::from_wide(3.0));
        naive_fails::<OfLogSumExp, E>(&checker, "equal", &x, &vec![E::from_wide(3.0); len], &truth);
    }
}

fn every_length<E: Bits>() {
    let mut rng = generate::rng(OfLogSumExp::NAME);
    let checker = Checker::of_usual_rows::<E>(OfLogSumExp::NAME);
    let limits = E::LIMITS;
    for len in generate::lengths() {
        let x = generate::bell::<E>(&mut rng, len, 0.0, 10.0);
        for dy in [1.0, -0.3, limits.max, -limits.max, limits.min_normal, limits.min_subnormal, 0.0] {
            check(&checker, &format!("{len}, dy {dy:e}"), &x, E::from_wide(dy));
        }
    }
}

fn options_and_masks<E: Bits>() {
    let mut rng = generate::rng(OfLogSumExp::NAME);
    let checker = Checker::of_usual_rows::<E>(OfLogSumExp::NAME);
    let dims = [2, 5, 70];
    for case in 0..40 {
        // Biases are omitted here. The tests of the other softmax gradients cover them, and all of these gradients
        // compute the logits in the same way.
        let parts = Parts { biases: vec![], ..Parts::any(&mut rng, &dims) };
        let keep = parts.expand().0;
        let (scale, softcap) = [(1.0, None), (0.3, None), (-1.25, Some(8.0)), (4.0, Some(1.5))][case % 4];
        let mut x = generate::bell::<E>(&mut rng, keep.len(), 0.0, 4.0);
        for i in (0..keep.len()).filter(|&i| !keep[i]) {
            x[i] = [E::NAN, E::INFINITY, x[i]][i % 3];
        }
        let dy = generate::bell::<E>(&mut rng, 10, 0.0, 1.0);
        let mask = parts.mask();
        let mut options = Softmax::default().scale(scale).mask(&mask);
        options.softcap = softcap;
        each_level(|level| {
            let dx = logsumexp_backward(Rows::shaped(&x, &dims).unwrap(), &dy, &options).unwrap();
            for (r, dy) in dy.iter().enumerate() {
                let row = r * 70..(r + 1) * 70;
                let z = reference::logits(&x[row.clone()], scale, softcap, None, Some(&keep[row.clone()]));
                let truth = Truth::new::<OfLogSumExp>(&z, &x[row.clone()], &[*dy; 70], scale, softcap);
                let what = format!("row {r} of {parts:?}, {level}");
                truth.check(&checker, &what, &x[row.clone()], &dx[row]);
            }
            for (dx, keep) in dx.iter().zip(&keep) {
                assert!(
                    *keep || dx.bits() == E::ZERO.bits(),
                    "logsumexp_backward: expected a gradient of 0 at a masked position, got {dx:?} ({level})"
                );
            }
        });
    }
}

/// Checks fully masked rows, and rows with a NaN or an infinity.
fn outcomes<E: Bits>() {
    let [zero, one, half, inf, masked, nan] =
        [0.0, 1.0, 0.5, f64::INFINITY, f64::NEG_INFINITY, f64::NAN].map(E::from_wide);
    each_level(|level| {
        let run = |x: [E; 2], dy: E, policy| {
            let x = [[one; 2], x, [one; 2]].concat();
            let options = Softmax::default().fully_masked(policy);
            logsumexp_backward(Rows::new(&x, 3, 2).unwrap(), &[one, dy, one], &options)
        };
        for policy in [FullyMasked::Zeros, FullyMasked::Uniform, FullyMasked::Error] {
            let expect = |what: &str, x, dy, expected: [E; 2]| {
                let (got, report) = report::scope(|| run(x, dy, policy).unwrap());
                assert_same_bits(&format!("{what}, {level}"), &got, &[[half; 2], expected, [half; 2]].concat());
                report.op(OfLogSumExp::NAME)
            };
            assert_eq!(expect("a NaN", [nan, masked], one, [nan, zero]).nan, 1);
            assert_eq!(expect("+inf", [inf, masked], one, [nan, zero]).infinite, 1);
            assert_eq!(
                expect("a NaN in dy must give a NaN gradient for unmasked logits", [one, masked], nan, [nan, zero]).nan,
                1
            );
            assert_eq!(
                expect(
                    "an infinity in dy must give a NaN gradient for unmasked logits",
                    [one, masked],
                    masked,
                    [nan, zero]
                )
                .infinite,
                1
            );
            assert!(expect("one live", [masked, one], one, [zero, one]).is_clean());
        }
        for policy in [FullyMasked::Zeros, FullyMasked::Uniform] {
            assert_same_bits("all -inf", &run([masked; 2], nan, policy).unwrap()[2..4], &[zero; 2]);
        }
        let refused = Err(Error::fully_masked("logsumexp_backward", 1));
        assert_eq!(run([masked; 2], one, FullyMasked::Error), refused);
        for (rows, cols) in [(0, 0), (0, 5), (4, 0)] {
            let policy = Softmax::default().fully_masked(FullyMasked::Error);
            let x = Rows::<E>::new(&[], rows, cols).unwrap();
            assert_eq!(logsumexp_backward(x, &vec![one; rows], &policy), Ok(vec![]));
        }
    });
    let error = logsumexp_backward(Rows::new(&[one; 6], 2, 3).unwrap(), &[one; 3], &Softmax::default()).unwrap_err();
    assert_eq!(error.to_string(), "logsumexp_backward: dy has 3 elements; expected one for each of 2 lanes");
}

fn forms<E: Bits>() {
    let mut rng = generate::rng(OfLogSumExp::NAME);
    for (rows, cols) in [(1, 1), (5, 7), (3, 257), (70, 1000)] {
        let mut x = generate::bell::<E>(&mut rng, rows * cols, 0.0, 15.0);
        x[..cols].fill(E::NEG_INFINITY);
        let dy = generate::bell::<E>(&mut rng, rows, 0.0, 1.0);
        for options in [Softmax::default(), Softmax::default().scale(0.3).softcap(20.0)] {
            let one = |r: usize| row(&x[r * cols..][..cols], dy[r], &options);
            let alone: Vec<E> = with_level(Level::Portable, || (0..rows).flat_map(one).collect()).unwrap();
            each_level(|level| {
                let what = |form: &str| format!("{form}, {rows} rows of {cols}, {level}");
                let view = Rows::new(&x, rows, cols).unwrap();
                assert_same_bits(&what("allocating"), &logsumexp_backward(view, &dy, &options).unwrap(), &alone);
                let mut room = vec![MaybeUninit::<E>::uninit(); rows * cols];
                let out = RowsMut::new(&mut room[..], rows, cols).unwrap();
                let written = logsumexp_backward_into(view, &dy, out, &options).unwrap();
                assert_same_bits(&what("into uninitialised memory"), written, &alone);
                let mut data = x.clone();
                logsumexp_backward_in_place(RowsMut::new(&mut data, rows, cols).unwrap(), &dy, &options).unwrap();
                assert_same_bits(&what("in place"), &data, &alone);
                for threads in [1, 2] {
                    let got = on_threads(threads, level, || logsumexp_backward(view, &dy, &options).unwrap());
                    assert_same_bits(&what(&format!("on {threads} threads")), &got, &alone);
                }
            });
        }
    }
}

fn axes<E: Bits>() {
    let mut rng = generate::rng(OfLogSumExp::NAME);
    for dims @ [outer, len, inner] in [[1, 3, 2], [3, 17, 16], [2, 4, 37]] {
        let x = generate::bell::<E>(&mut rng, outer * len * inner, 0.0, 6.0);
        let dy = generate::bell::<E>(&mut rng, outer * inner, 0.0, 1.0);
        let turned = transposed(&x, dims);
        each_level(|level| {
            let options = Softmax::default().softcap(5.0);
            let rows = Rows::new(&turned, outer * inner, len).unwrap();
            let expected = transposed(&logsumexp_backward(rows, &dy, &options).unwrap(), [outer, inner, len]);
            let lanes = Lanes::new(&x, outer, len, inner).unwrap();
            assert_same_bits(&format!("{level}"), &logsumexp_backward(lanes, &dy, &options).unwrap(), &expected);
            let mut data = x.clone();
            let to = LanesMut::new(&mut data, outer, len, inner).unwrap();
            logsumexp_backward_in_place(to, &dy, &options).unwrap();
            assert_same_bits(&format!("in place, {level}"), &data, &expected);
        });
    }
}
