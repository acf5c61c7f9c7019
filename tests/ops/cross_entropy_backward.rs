//! Compares the gradient of cross-entropy with the reference under every option. Checks ignored rows and rows of weight
//! 0. Every form must give the same bits.

use crate::support::compare::{Checker, assert_same_bits, within};
use crate::support::generate::{self, Bits, scattered};
use crate::support::implementations::{each_level, on_threads};
use crate::support::{naive, ulp};
use evenkeel::reference::{self, Real};
use evenkeel::simd::{Level, with_level};
use evenkeel::{
    CrossEntropy, DType, Element, Loss, Reduction, Rows, RowsMut, cross_entropy, cross_entropy_backward,
    cross_entropy_backward_in_place, cross_entropy_backward_into, report,
};
use half::f16;
use proptest::prelude::*;
use std::mem::MaybeUninit;

for_each_dtype!(
    hostile_rows,
    rows_of_every_length,
    long_rows,
    every_option,
    scaled,
    factors_that_overflow,
    reductions,
    outcomes,
    forms
);

fn each() -> CrossEntropy<'static> {
    CrossEntropy::default().reduction(Reduction::None)
}

fn run<E: Element>(x: &[E], cols: usize, targets: &[i64], dloss: &[f64], options: &CrossEntropy<'_>) -> (Loss, Vec<E>) {
    cross_entropy_backward(Rows::new(x, targets.len(), cols).unwrap(), targets, dloss, options).unwrap()
}

/// Compares the gradient of one row with the reference. The error of an element is measured in ULP of the element, of
/// its largest term or of the argument `least`, whichever is largest.
#[track_caller]
fn check_terms<E: Element>(
    checker: &Checker,
    what: &str,
    row: &[E],
    target: usize,
    dloss: f64,
    options: &CrossEntropy<'_>,
    least: f64,
) {
    let (exact, terms) = reference::cross_entropy_backward(row, target, options, [dloss; 2]);
    let forward = cross_entropy(Rows::new(row, 1, row.len()).unwrap(), &[target as i64], options).unwrap();
    each_level(|level| {
        let (loss, got) = run(row, row.len(), &[target as i64], &[dloss], options);
        assert_eq!(
            loss.value().to_bits(),
            forward.value().to_bits(),
            "{what}, {level}: the loss must have the same bits as the loss of cross_entropy"
        );
        checker.check_errors(&format!("{what}, {target}, {level}"), row, &got, &exact, &|i| {
            ulp::error_at(got[i], exact[i], ulp::toward_zero(exact[i]).max(terms[i]).max(least))
        });
    });
}

#[track_caller]
fn check<E: Element>(checker: &Checker, what: &str, row: &[E], target: usize, options: &CrossEntropy<'_>) {
    check_terms(checker, what, row, target, 1.0, options, 0.0);
}

/// Checks rows that break the naive formula. For example, at the target, the formula subtracts a probability close to 1
/// from 1, which loses digits.
fn hostile_rows<E: Bits>() {
    let checker = Checker::of_usual_rows::<E>("cross_entropy_backward");
    for len in generate::lengths() {
        for generate::Hostile { name, row } in generate::hostile_scores::<E>(len) {
            for target in [0, len / 3, len / 2, len - 1] {
                check(&checker, &format!("{name} of {len}"), &row, target, &each());
            }
            let exact = reference::cross_entropy_backward(&row, 0, &each(), [1.0; 2]).0;
            let naive = within("", &row, &naive::cross_entropy_backward(&row, 0), &exact, checker.bound());
            assert!(
                naive.is_err(),
                "{name} of {len}: the error of the naive cross_entropy_backward must exceed the bound"
            );
        }
    }
}

fn rows_of_every_length<E: Bits>() {
    let mut rng = generate::rng("cross_entropy_backward");
    let checker = Checker::of_usual_rows::<E>("cross_entropy_backward");
    for len in generate::lengths() {
        for (mean, spread) in [(0.0, 1.0), (0.0, 20.0), (100.0, 10.0)] {
            let row = generate::bell::<E>(&mut rng, len, mean, spread);
            for target in [0, len / 2, len - 1] {
                check(&checker, &format!("{len} about {mean}"), &row, target, &each());
            }
        }
    }
}

fn long_rows<E: Bits>() {
    let mut rng = generate::rng("cross_entropy_backward");
    let checker = Checker::of_usual_rows::<E>("cross_entropy_backward");
    for len in generate::LONG_LENGTHS {
        let row = generate::bell::<E>(&mut rng, len, 0.0, 2.0);
        check(&checker, &format!("{len}"), &row, 77, &each());
        check(&checker, &format!("{len} equal"), &vec![E::from_wide(1.5); len], 5, &each());
    }
}

fn every_option<E: Bits>() {
    let checker = Checker::of_usual_rows::<E>("cross_entropy_backward");
    let capped = Checker::of_equal_scores::<E>("cross_entropy_backward");
    let weights: Vec<f32> = (0..700).map(|i| if i % 7 == 3 { 0.0 } else { 0.25 + scattered(i) as f32 }).collect();
    let row = generate::bell_row::<E>(1..=700);
    proptest!(generate::cases(128), |(
        row in row, target in 0..700usize, weighted in any::<bool>(), smoothing in prop::option::of(0.0..=1.0f64),
        z_loss in prop::option::of(0.0..0.1f64), softcap in prop::option::of(1.0..60.0f64),
    )| {
        let target = target % row.len();
        let mut options = each().label_smoothing(smoothing.unwrap_or(0.0)).z_loss(z_loss.unwrap_or(0.0));
        if weighted {
            options = options.weight(&weights[..row.len()]);
        }
        // A softcap is not tested in f64. There, rounding a capped logit gives its exponential a relative error of
        // about an ULP of the cap.
        if let Some(cap) = softcap.filter(|_| E::DTYPE != DType::F64) {
            options = options.softcap(cap);
        }
        // The log-sum-exp is the sum of two terms, which may cancel. `least` is large enough to cover the error of this
        // sum.
        let max = row.iter().map(|x| x.widen().abs()).fold(0.0, f64::max);
        let least = 2.0 * options.z_loss * max * f64::EPSILON / E::LIMITS.epsilon;
        // Logits at the cap are equal, so the bound for equal scores applies.
        let checker = if options.softcap.is_some() { &capped } else { &checker };
        check_terms(checker, "options", &row, target, 1.0, &options, least);
    });
}

/// Checks gradients scaled by a loss scale or by a mean over many rows.
fn scaled<E: Bits>() {
    let mut rng = generate::rng("cross_entropy_backward, scaled");
    let checker = Checker::of_usual_rows::<E>("cross_entropy_backward");
    for cols in [1, 2, 17, 500] {
        let row = generate::bell::<E>(&mut rng, cols, 0.0, 10.0);
        for dloss in [0.0, -1.0, 65536.0, 1e-3, 1e-30, 1e30, -1e300, 1e-310] {
            // Exponentials below 2^-126 lose bits. `dloss` multiplies their error.
            let lost = if E::DTYPE == DType::F64 { 0.0 } else { dloss.abs() * f64::from(f32::MIN_POSITIVE) };
            check_terms(&checker, &format!("{cols} by {dloss}"), &row, cols / 2, dloss, &each(), lost);
            let smoothed = each().label_smoothing(0.1);
            check_terms(&checker, &format!("{cols} by {dloss}"), &row, cols / 2, dloss, &smoothed, lost);
        }
    }
}

/// Checks that no gradient is NaN if factors of the formula, or the sum of the weights, exceed the range of f64.
fn factors_that_overflow<E: Bits>() {
    const MAX: f64 = f64::MAX;
    let no_nan = |x: &[E], targets: &[i64], dloss: f64, options: &CrossEntropy<'_>| {
        let (_, dx) = run(x, x.len() / targets.len(), targets, &[dloss], options);
        assert!(
            dx.iter().all(|v| !v.widen().is_nan()),
            "logits {x:?}, targets {targets:?}, dloss {dloss}, {options:?}: expected no NaN, got {dx:?}"
        );
    };
    // The log-sum-exp of the rows is 0, almost 0, positive and negative.
    let rows: [&[f64]; 5] = [&[0.0], &[-1e-36], &[0.0, -100.0, 0.5], &[-40.0, 40.0, -3000.0, 2.0], &[-40.0, -41.0]];
    for (row, softcap) in rows.iter().flat_map(|row| [(row, None), (row, Some(1e-3))]) {
        let x: Vec<E> = row.iter().map(|&v| E::from_wide(v)).collect();
        let weight = &[1.0, MAX, -MAX / 2.0, MAX][..row.len()];
        for (z_loss, smoothing) in [0.0, 1e-4, MAX].into_iter().flat_map(|z| [(z, 0.0), (z, 0.5), (z, 1.0)]) {
            let mut options = each().z_loss(z_loss).label_smoothing(smoothing);
            options.softcap = softcap;
            let weighted = options.weight(weight);
            for dloss in [0.0, -1e-300, 1.0, 1e10, MAX, -MAX] {
                for target in 0..row.len() as i64 {
                    no_nan(&x, &[target], dloss, &options);
                    no_nan(&x, &[target], dloss, &weighted);
                }
            }
        }
    }
    // A plain sum of these weights adds infinities of both signs.
    let (zeros, all) = ([E::ZERO; 16], [MAX, MAX, -MAX, -MAX]);
    for reduction in [Reduction::Sum, Reduction::Mean] {
        let weighted = CrossEntropy::default().weight(&all).label_smoothing(0.5).reduction(reduction);
        no_nan(&zeros, &[0, 1, 2, 3], 1.0, &weighted);
    }
    // With one class, the gradient is 2 * z_loss * logit * dloss.
    for (logit, z_loss, dloss, expected) in [(0.0, MAX, MAX, 0.0), (2.0, MAX, 0.0, 0.0), (2.0, MAX, 0.25, MAX)] {
        let (_, dx) = run(&[E::from_wide(logit)], 1, &[0], &[dloss], &each().z_loss(z_loss));
        assert_same_bits(&format!("{logit}, {z_loss}, {dloss}"), &dx, &[E::from_wide(expected)]);
    }
}

/// Checks the gradients of a mean, of a sum, and of unreduced losses with one `dloss` per row.
fn reductions<E: Bits>() {
    let mut rng = generate::rng("cross_entropy_backward, reductions");
    let (rows, cols) = (7, 33);
    let x = generate::bell::<E>(&mut rng, rows * cols, 0.0, 4.0);
    let targets: Vec<i64> = (0..rows as i64).map(|i| if i == 3 { -100 } else { i * 4 }).collect();
    let weight: Vec<f64> = (0..cols).map(|i| 0.5 + scattered(i)).collect();
    let checker = Checker::of_usual_rows::<E>("cross_entropy_backward");
    for weighted in [false, true] {
        let mut options = CrossEntropy::default().label_smoothing(0.1).z_loss(0.01);
        if weighted {
            options = options.weight(&weight);
        }
        let counted = targets.iter().filter(|t| **t >= 0);
        let of_targets: f64 = counted.map(|&t| if weighted { weight[t as usize] } else { 1.0 }).sum();
        let dlosses: Vec<f64> = (0..rows).map(|r| 0.3 + r as f64).collect();
        for (reduction, dloss) in
            [(Reduction::Mean, &[0.7][..]), (Reduction::Sum, &[0.7][..]), (Reduction::None, &dlosses[..])]
        {
            let (_, got) = run(&x, cols, &targets, dloss, &options.reduction(reduction));
            for (r, (row, got)) in x.chunks(cols).zip(got.chunks(cols)).enumerate() {
                if targets[r] == -100 {
                    assert_same_bits("ignored", got, &[E::ZERO; 33]);
                    continue;
                }
                let factors = match reduction {
                    Reduction::Mean => [0.7 / of_targets, 0.7 / 6.0],
                    Reduction::Sum => [0.7; 2],
                    _ => [dlosses[r]; 2],
                };
                let (exact, terms) = reference::cross_entropy_backward(row, targets[r] as usize, &options, factors);
                checker.check_errors(&format!("{reduction:?}, {weighted}"), row, got, &exact, &|i| {
                    ulp::error_at(got[i], exact[i], ulp::toward_zero(exact[i]).max(terms[i]))
                });
            }
        }
    }
}

fn outcomes<E: Bits>() {
    let [zero, one, inf, masked, nan, half] =
        [0.0, 1.0, f64::INFINITY, f64::NEG_INFINITY, f64::NAN, 0.5].map(E::from_wide);
    let minus = |v: E| E::from_wide(-v.widen());
    let mean = CrossEntropy::default();
    each_level(|level| {
        // The gradients of the other rows do not depend on what the middle row contains.
        let of = |middle: [E; 3], target: i64| {
            let x = [[masked, zero, zero], middle, [zero, masked, zero]].concat();
            let (_, got) = run(&x, 3, &[1, target, 2], &[if target == -100 { 2.0 } else { 3.0 }], &mean);
            assert_same_bits(&format!("before, {level}"), &got[..3], &[zero, minus(half), half]);
            assert_same_bits(&format!("after, {level}"), &got[6..], &[half, zero, minus(half)]);
            [got[3], got[4], got[5]]
        };
        for spoilt in [[one, nan, zero], [inf, nan, zero], [inf, one, zero], [nan, masked, masked]] {
            assert_same_bits("spoilt", &of(spoilt, 0), &[E::NAN; 3]);
        }
        assert_same_bits("fully masked", &of([masked; 3], 0), &[zero; 3]);
        assert_same_bits("ignored", &of([nan; 3], -100), &[zero; 3]);
        assert_same_bits("the target masked", &of([masked, one, one], 0), &[minus(one), half, half]);
        assert_same_bits("one left", &of([masked, one, masked], 1), &[zero; 3]);
        // The gradient of a masked class is 0, also with a softcap.
        let capped = run(&[masked, one, one], 3, &[0], &[1.0], &mean.softcap(30.0)).1;
        assert_eq!(capped[0].widen(), 0.0);
        assert!(capped[1].widen() > 0.49 && capped[1].widen() <= 0.5);
        for options in [mean, mean.label_smoothing(0.1), mean.softcap(5.0)] {
            assert!(run(&[one; 6], 3, &[-100, -100], &[1.0], &options).1.iter().all(|v| v.bits() == zero.bits()));
            let nothing = options.weight(&[0.0f32, 0.0, 1.0]);
            assert!(run(&[one; 6], 3, &[1, 0], &[1.0], &nothing).1.iter().all(|v| v.widen() == 0.0));
            assert!(run::<E>(&[], 3, &[], &[1.0], &options).1.is_empty());
            assert!(run::<E>(&[], 0, &[-100; 2], &[1.0], &options).1.is_empty());
            assert_eq!(run(&[one, minus(one)], 1, &[0, 0], &[1.0], &options).1.map(), [0.0; 2]);
        }
        // A NaN in dloss makes all gradients NaN.
        assert_same_bits("dloss", &run(&[one, zero], 2, &[0], &[f64::NAN], &mean).1, &[E::NAN; 2]);
        let (_, report) = report::scope(|| run(&[[masked; 2], [nan; 2]].concat(), 2, &[0, 0], &[1.0], &mean));
        let said = "cross_entropy_backward: 1 of 2 rows fully masked, 1 of 2 rows with NaN";
        assert_eq!(report.to_string(), said);
    });
    // For a class of probability 0, the gradient stays 0 even if `dloss` is close to overflow.
    let (far, options) = ([zero, E::from_wide(-E::LIMITS.max), one], mean.weight(&[3.0f32, 1.0, 2.0]));
    let (_, got) = run(&far, 3, &[0], &[1e308], &options.reduction(Reduction::Sum));
    assert!(
        got[0].widen() < 0.0 && got[1].widen() == 0.0 && got[2].widen() > 0.0,
        "cross_entropy_backward of [0, -max, 1], target 0: expected [negative, 0, positive], got {got:?}"
    );
    // For extreme logits, no gradient is NaN. With a softcap, all gradients are finite.
    let ends = [E::LIMITS.max, -E::LIMITS.max, 0.0].map(E::from_wide);
    for target in 0..3 {
        let (_, got) = run(&ends, 3, &[target], &[1.0], &mean.label_smoothing(0.2).z_loss(0.5));
        assert!(
            got.iter().all(|v| !v.widen().is_nan()),
            "cross_entropy_backward of {ends:?}: expected no NaN, got {got:?}"
        );
        let (_, got) = run(&ends, 3, &[target], &[1.0], &mean.softcap(3.0));
        assert!(
            got.iter().all(|v| v.widen().is_finite()),
            "cross_entropy_backward of {ends:?} with a softcap: expected finite gradients, got {got:?}"
        );
    }
}

trait Widened {
    fn map(&self) -> Vec<f64>;
}

impl<E: Element> Widened for Vec<E> {
    fn map(&self) -> Vec<f64> {
        self.iter().map(|v| v.widen()).collect()
    }
}

fn forms<E: Bits>() {
    let mut rng = generate::rng("cross_entropy_backward, forms");
    for (rows, cols) in [(1, 1), (5, 7), (4, 16), (3, 257), (70, 1000), (30_000, 3)] {
        let mut x = generate::bell::<E>(&mut rng, rows * cols, 0.0, 15.0);
        x[..cols / 2].fill(E::NEG_INFINITY);
        let targets: Vec<i64> =
            (0..rows).map(|i| if i % 5 == 4 { -100 } else { ((i * 7 + cols - 1) % cols) as i64 }).collect();
        let weight: Vec<f32> = (0..cols).map(|i| scattered(i) as f32).collect();
        let dloss: Vec<f64> = (0..rows).map(|r| 0.5 + scattered(r)).collect();
        for options in [each(), each().weight(&weight).label_smoothing(0.25).z_loss(1e-3).softcap(20.0)] {
            let alone: Vec<E> = with_level(Level::Portable, || {
                (0..rows)
                    .flat_map(|r| run(&x[r * cols..][..cols], cols, &targets[r..=r], &dloss[r..=r], &options).1)
                    .collect()
            })
            .unwrap();
            let losses = cross_entropy(Rows::new(&x, rows, cols).unwrap(), &targets, &options).unwrap();
            each_level(|level| {
                let view = Rows::new(&x, rows, cols).unwrap();
                let what = |form: &str| format!("{form}, {rows} rows of {cols}, {level}");
                let same_loss = |loss: &Loss| {
                    let bits = |loss: &Loss| loss.as_slice().iter().map(|v| v.to_bits()).collect::<Vec<u64>>();
                    assert_eq!(
                        bits(loss),
                        bits(&losses),
                        "{}: expected the same bits as from cross_entropy",
                        what("loss")
                    );
                };
                let mut room = vec![MaybeUninit::<E>::uninit(); rows * cols];
                let out = RowsMut::new(&mut room[..], rows, cols).unwrap();
                let (loss, written) = cross_entropy_backward_into(view, &targets, &dloss, out, &options).unwrap();
                assert_same_bits(&what("into"), written, &alone);
                same_loss(&loss);

                let spread = |stride: usize| {
                    let rows = x.chunks(cols);
                    rows.flat_map(|row| row.iter().copied().chain(vec![E::NAN; stride - cols])).collect::<Vec<E>>()
                };
                let from = spread(cols + 3);
                let mut to = vec![E::NAN; rows * (cols + 2)];
                let strided = Rows::strided(&from, rows, cols, cols + 3).unwrap();
                let out = RowsMut::strided(&mut to, rows, cols, cols + 2).unwrap();
                cross_entropy_backward_into(strided, &targets, &dloss, out, &options).unwrap();
                let mut data = spread(cols + 1);
                let view = RowsMut::strided(&mut data, rows, cols, cols + 1).unwrap();
                same_loss(&cross_entropy_backward_in_place(view, &targets, &dloss, &options).unwrap());
                for (form, data, stride) in [("to gaps", &to, cols + 2), ("in place", &data, cols + 1)] {
                    for (got, expected) in data.chunks(stride).zip(alone.chunks(cols)) {
                        assert_same_bits(&what(form), &got[..cols], expected);
                        assert!(
                            got[cols..].iter().all(|gap| gap.bits() == E::NAN.bits()),
                            "{}: expected the gaps between rows to stay NaN",
                            what(form)
                        );
                    }
                }
                for threads in [1, 2] {
                    let got = on_threads(threads, level, || run(&x, cols, &targets, &dloss, &options));
                    assert_same_bits(&what(&format!("{threads} threads")), &got.1, &alone);
                    same_loss(&got.0);
                }
            });
        }
    }
}

#[test]
fn refusals_write_nothing() {
    let options = CrossEntropy::default();
    let check = |targets: &[i64], dloss: &[f64], options: &CrossEntropy<'_>, part: &str| {
        let mut x = [1.0f32, 2.0, 3.0, 4.0];
        let view = RowsMut::new(&mut x, 2, 2).unwrap();
        let refused = cross_entropy_backward_in_place(view, targets, dloss, options).unwrap_err();
        assert!(
            refused.to_string().contains(part),
            "cross_entropy_backward: the error must contain {part:?}, got: {refused}"
        );
        assert_eq!(x, [1.0, 2.0, 3.0, 4.0]);
    };
    check(&[0, 2], &[1.0], &options, "cross_entropy_backward: target is 2 in row 1");
    check(&[0], &[1.0], &options, "target has 1 elements");
    check(&[0, 1], &[], &options, "dloss has 0 elements; expected 1");
    check(&[0, 1], &[1.0], &options.reduction(Reduction::None), "dloss has 1 elements; expected 2");
    check(&[0, 1], &[1.0], &options.label_smoothing(2.0), "label_smoothing is 2");
    let (x, mut y) = ([0.0f32; 4], [7.0f32; 6]);
    let out = RowsMut::new(&mut y, 2, 3).unwrap();
    let refused = cross_entropy_backward_into(Rows::new(&x, 2, 2).unwrap(), &[0, 1], &[1.0], out, &options);
    assert_eq!(refused.unwrap_err().name(), "ShapeMismatch");
    assert_eq!(y, [7.0; 6]);
}

/// Checks gradients in f16 for 4,096 classes with equal logits. In a mean over 8,192 rows, most gradients are too small
/// for f16. A loss scale makes them representable.
#[test]
fn a_scaled_loss_in_f16() {
    let x = vec![f16::ZERO; 64 * 4096];
    let run = |dloss: f64| run(&x, 4096, &[0; 64], &[dloss], &CrossEntropy::default()).1[1].to_f64();
    assert_eq!(run(1.0), 2f64.powi(-18));
    assert_eq!(run(1.0 / 256.0), 0.0);
    assert_eq!(run(256.0), 2f64.powi(-10));
}
