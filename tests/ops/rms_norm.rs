//! Tests that RMSNorm is accurate, with each variant of [`Rounding`] and with a fused residual. Also tests that the
//! allocating, the writing and the in-place function return the same bits.

use crate::support::compare::{Checker, assert_same_bits, within};
use crate::support::forms::{RowOp, assert_forms_agree};
use crate::support::generate::{self, Bits, Hostile};
use crate::support::implementations::{each_level, on_threads};
use crate::support::norms::assert_short_rows_are_counted;
use crate::support::{naive, rows, ulp};
use evenkeel::simd::Level;
use evenkeel::{
    DType, Element, Floats, RmsNorm, Rounding, Rows, RowsMut, reference, rms_norm, rms_norm_in_place, rms_norm_into,
    rms_norm_residual, rms_norm_residual_in_place, rms_norm_residual_into,
};
use half::{bf16, f16};
use rand::RngExt;
use std::mem::MaybeUninit;

/// RMSNorm with eps = 0, because an eps would hide errors of small squares.
struct Function;

impl rows::Function for Function {
    const NAME: &'static str = "rms_norm";
    fn run<E: Element>(row: &[E]) -> Vec<E> {
        rms_norm(Rows::new(row, 1, row.len()).unwrap(), &RmsNorm::default().eps(0.0)).unwrap()
    }
    fn exact<E: Element>(row: &[E]) -> Vec<E::Exact> {
        reference::rms_norm(row, None, 0.0, 0.0)
    }
    fn naive<E: Element>(row: &[E]) -> Vec<E> {
        naive::rms_norm(row, 0.0)
    }
    fn hostile<E: Bits>(len: usize) -> Vec<Hostile<E>> {
        generate::hostile_vectors(len)
    }
    fn terms<E: Element>(row: &[E], _: &[E::Exact]) -> Vec<f64> {
        vec![0.0; row.len()]
    }
}

row_tests!(Function; weights, rounded_before_the_weight, residual, far_scales, far_magnitudes_in_a_row, outcomes, forms);

/// Checks weights of every type, offsets and eps.
fn weights<E: Bits>() {
    let mut rng = generate::rng("rms_norm, weights");
    let checker = Checker::of_usual_rows::<E>("rms_norm");
    for len in [1, 5, 16, 100, 257, 1000] {
        let x = generate::bell::<E>(&mut rng, len, 0.3, 2.0);
        let w64 = generate::bell::<f64>(&mut rng, len, 1.0, 20.0);
        let w32 = generate::bell::<f32>(&mut rng, len, 1.0, 20.0);
        let w16 = generate::bell::<f16>(&mut rng, len, 1.0, 20.0);
        let wb16 = generate::bell::<bf16>(&mut rng, len, 1.0, 20.0);
        let weights: [Floats<'_>; 4] = [(&w64).into(), (&w32).into(), (&w16).into(), (&wb16).into()];
        for weight in weights {
            let wide: Vec<f64> = (0..len).map(|i| weight.get(i).unwrap()).collect();
            for (offset, eps) in [(0.0, 1e-6), (1.0, 1e-5), (-0.5, 0.0), (1.0, 3.0)] {
                let exact = reference::rms_norm(&x, Some(&wide), offset, eps);
                let options = RmsNorm::default().weight(weight).weight_offset(offset).eps(eps);
                each_level(|level| {
                    let got = rms_norm(Rows::new(&x, 1, len).unwrap(), &options).unwrap();
                    let what = format!("{} weights, offset {offset}, eps {eps}, {len}, {level}", weight.dtype());
                    checker.check(&what, &x, &got, &exact);
                });
            }
        }
    }
}

/// Checks the option that rounds the normalised row before the multiplication by the weight. Results of narrow types
/// are then rounded twice, at the same places as in the transformers library.
fn rounded_before_the_weight<E: Bits>() {
    let mut rng = generate::rng("rms_norm, before the weight");
    let checker = Checker::of_usual_rows::<E>("rms_norm");
    let (mut compared, mut skipped) = (0, 0);
    for len in [7, 64, 300, 1000] {
        let x = generate::bell::<E>(&mut rng, len, 0.0, 3.0);
        let weight = generate::bell::<f32>(&mut rng, len, 1.0, 0.5);
        let wide: Vec<f64> = weight.iter().map(|w| w.widen()).collect();
        let options = RmsNorm::default().weight(&weight).rounding(Rounding::BeforeWeight);
        let unrounded = reference::rms_norm(&x, None, 0.0, 1e-6);
        let exact = reference::rms_norm_before_weight(&x, Some(&wide), 0.0, 1e-6);
        // An element is skipped if its intermediate value is near a rounding tie, because this value may round either
        // way. In f64, rounding the intermediate value changes nothing.
        let is_certain = |i: usize| {
            E::DTYPE == DType::F64 || {
                let n = E::from_wide(evenkeel::reference::Real::to_f64(unrounded[i]));
                ulp::error(n, unrounded[i]) < 0.49
            }
        };
        let certain: Vec<usize> = (0..len).filter(|&i| is_certain(i)).collect();
        compared += certain.len();
        skipped += len - certain.len();
        let pick = |values: &[E]| certain.iter().map(|&i| values[i]).collect::<Vec<E>>();
        let exact: Vec<E::Exact> = certain.iter().map(|&i| exact[i]).collect();
        each_level(|level| {
            let got = rms_norm(Rows::new(&x, 1, len).unwrap(), &options).unwrap();
            checker.check(&format!("{len}, {level}"), &pick(&x), &pick(&got), &exact);
        });
    }
    assert!(
        skipped * 20 < compared,
        "rms_norm: at most 1 in 20 values may be too close to a rounding tie, got {skipped} of {}",
        compared + skipped
    );
    if E::DTYPE == DType::BF16 || E::DTYPE == DType::F16 {
        // One rounding and two roundings give different results.
        let x = generate::bell::<E>(&mut rng, 1000, 0.0, 3.0);
        let weight = generate::bell::<f32>(&mut rng, 1000, 1.0, 0.5);
        let wide: Vec<f64> = weight.iter().map(|w| w.widen()).collect();
        let once = rms_norm(Rows::new(&x, 1, 1000).unwrap(), &RmsNorm::default().weight(&weight)).unwrap();
        let twice = reference::rms_norm_before_weight(&x, Some(&wide), 0.0, 1e-6);
        assert!(within("", &x, &once, &twice, checker.bound()).is_err());
    }
}

/// Checks that the fused residual gives the same bits as first adding the residual and then normalising the sum.
fn residual<E: Bits>() {
    let mut rng = generate::rng("rms_norm, residual");
    for (rows, cols) in [(1, 1), (3, 5), (4, 16), (2, 300), (80, 1000)] {
        let x = generate::bell::<E>(&mut rng, rows * cols, 0.0, 3.0);
        let r = generate::bell::<E>(&mut rng, rows * cols, 5.0, 30.0);
        let weight = generate::bell::<f32>(&mut rng, cols, 1.0, 0.5);
        // The f64 sum is rounded to the type. If the type is f64, this rounding changes nothing.
        let sum: Vec<E> = x.iter().zip(&r).map(|(x, r)| E::from_wide(x.widen() + r.widen())).collect();
        for rounding in [Rounding::Once, Rounding::BeforeWeight] {
            let options = RmsNorm::default().weight(&weight).rounding(rounding);
            let view = |data| Rows::new(data, rows, cols).unwrap();
            let expected = rms_norm(view(&sum), &options).unwrap();
            each_level(|level| {
                let what = |form: &str| format!("{form}, {rows} rows of {cols}, {level}");
                let check = |form: &str, y: &[E], s: &[E]| {
                    assert_same_bits(&what(&format!("sum, {form}")), s, &sum);
                    assert_same_bits(&what(&format!("norm, {form}")), y, &expected);
                };
                for threads in [1, 2] {
                    let (y, s) =
                        on_threads(threads, level, || rms_norm_residual(view(&x), view(&r), &options).unwrap());
                    check(&format!("{threads} threads"), &y, &s);
                }
                let mut rooms = [(); 2].map(|()| vec![MaybeUninit::<E>::uninit(); rows * cols]);
                let [y_out, s_out] = rooms.each_mut().map(|room| RowsMut::new(&mut room[..], rows, cols).unwrap());
                let (y, s) = rms_norm_residual_into(view(&x), view(&r), y_out, s_out, &options).unwrap();
                check("into uninitialised memory", y, s);
                let (mut y, mut s) = (x.clone(), r.clone());
                rms_norm_residual_in_place(
                    RowsMut::new(&mut y, rows, cols).unwrap(),
                    RowsMut::new(&mut s, rows, cols).unwrap(),
                    &options,
                )
                .unwrap();
                check("in place", &y, &s);
            });
        }
    }
}

/// Checks rows of one magnitude whose squares all overflow or underflow the type.
fn far_scales<E: Bits>() {
    let limits = E::LIMITS;
    let checker = Checker::of_usual_rows::<E>("rms_norm");
    for magnitude in [1e20, 1e-25, 1e200, 1e-200, limits.max, limits.min_normal, limits.min_subnormal] {
        let value = E::from_wide(magnitude);
        if value.widen() == 0.0 || value.widen().is_infinite() {
            continue;
        }
        let sign = |i: usize| if i.is_multiple_of(3) { -1.0 } else { 1.0 };
        let x: Vec<E> = (0..100).map(|i| E::from_wide(sign(i) * value.widen())).collect();
        let ones: Vec<E::Exact> = (0..100).map(|i| sign(i).into()).collect();
        each_level(|level| {
            let got = rms_norm(Rows::new(&x, 1, 100).unwrap(), &RmsNorm::default().eps(0.0)).unwrap();
            checker.check(&format!("of {magnitude:e}, {level}"), &x, &got, &ones);
        });
    }
}

/// Checks rows in which every third element is far smaller than the others. The low parts of products of such f32
/// elements are subnormal.
fn far_magnitudes_in_a_row<E: Bits>() {
    const ROWS: usize = 9;
    let mut rng = generate::rng("rms_norm, far magnitudes in a row");
    let checker = Checker::of_usual_rows::<E>("rms_norm");
    let least = E::LIMITS.min_subnormal.log2() as i32;
    for cols in [16, 100, 256, 300, 3000] {
        let mut x = generate::bell::<E>(&mut rng, ROWS * cols, 0.0, 1.0);
        for x in x.iter_mut().step_by(3) {
            *x = E::from_wide(x.widen() * 2f64.powi(rng.random_range(least..=-20).max(-200)));
        }
        each_level(|level| {
            let got = rms_norm(Rows::new(&x, ROWS, cols).unwrap(), &RmsNorm::default().eps(0.0)).unwrap();
            for (row, (x, got)) in x.chunks(cols).zip(got.chunks(cols)).enumerate() {
                let exact = reference::rms_norm(x, None, 0.0, 0.0);
                checker.check(&format!("row {row} of {cols}, {level}"), x, got, &exact);
            }
        });
    }
}

fn outcomes<E: Bits>() {
    let [zero, one, inf, nan] = [0.0, 1.0, f64::INFINITY, f64::NAN].map(E::from_wide);
    let eps_0 = RmsNorm::default().eps(0.0);
    each_level(|level| {
        let outcome = |middle: [E; 3], options: &RmsNorm<'_>| {
            rms_norm(Rows::new(&[[one; 3], middle, [one; 3]].concat(), 3, 3).unwrap(), options).unwrap()
        };
        let expect = |what: &str, middle: [E; 3], expected: [E; 3]| {
            let got = outcome(middle, &eps_0);
            assert_same_bits(&format!("{what}, {level}"), &got, &[[one; 3], expected, [one; 3]].concat());
        };
        expect("a NaN", [one, nan, zero], [E::NAN; 3]);
        expect("rms_norm of a row with a NaN and an infinity must be NaN", [inf, nan, zero], [E::NAN; 3]);
        expect("an infinity", [one, inf, zero], [zero, E::NAN, zero]);
        expect("two infinities", [inf, one, E::NEG_INFINITY], [E::NAN, zero, E::NAN]);
        expect("zeros", [zero; 3], [zero; 3]);
        assert_same_bits(
            &format!("zeros with eps, {level}"),
            &outcome([zero; 3], &RmsNorm::default())[3..6],
            &[zero; 3],
        );
        // An infinite weight gives an infinity or, for an element of 0, NaN.
        let x: Vec<E> = (0..60).map(|i| E::from_wide(f64::from(i % 7) / 3.0 - 1.0)).collect();
        let weight = [f32::INFINITY; 60];
        let got = rms_norm(Rows::new(&x, 1, 60).unwrap(), &eps_0.weight(&weight)).unwrap();
        let expected: Vec<E> = x.iter().map(|x| E::from_wide(x.widen() * f64::INFINITY)).collect();
        assert_same_bits(&format!("infinite weights, {level}"), &got, &expected);
        for (rows, cols) in [(0, 0), (0, 5), (4, 0)] {
            assert_eq!(rms_norm(Rows::<E>::new(&[], rows, cols).unwrap(), &eps_0), Ok(vec![]));
        }
    });
}

struct Forms<'a>(RmsNorm<'a>);

impl<E: Element> RowOp<E> for Forms<'_> {
    fn allocating(&self, x: Rows<'_, E>) -> Vec<E> {
        rms_norm(x, &self.0).unwrap()
    }
    fn into<'a>(&self, x: Rows<'_, E>, out: RowsMut<'a, E>) -> &'a mut [E] {
        rms_norm_into(x, out, &self.0).unwrap()
    }
    fn in_place(&self, x: RowsMut<'_, E>) {
        rms_norm_in_place(x, &self.0).unwrap();
    }
}

fn forms<E: Bits>() {
    let mut rng = generate::rng("rms_norm, forms");
    for (rows, cols) in [(1, 1), (3, 1), (5, 7), (4, 16), (21, 100), (9, 256), (3, 257), (70, 1000)] {
        let mut x = generate::uneven_rows::<E>(&mut rng, rows, cols);
        x[..cols].fill(E::ZERO);
        x[rows * cols - 1] = E::NAN;
        let weight = generate::bell::<bf16>(&mut rng, cols, 1.0, 0.5);
        assert_forms_agree(&Forms(RmsNorm::default()), &x, cols);
        assert_forms_agree(&Forms(RmsNorm::default().eps(0.0)), &x, cols);
        assert_forms_agree(&Forms(RmsNorm::default().weight(&weight).rounding(Rounding::BeforeWeight)), &x, cols);
    }
}

/// Checks that, on every instruction set, the mean square is a tiled sum ([`tiled_sum`]) of exact squares, divided by
/// the number of elements. Summing in another order would change many results. If an exact result is within 2^-18 ULP
/// of a tie, both neighbours are accepted, because the product of element and scale is not correctly rounded there.
#[test]
fn the_mean_square_is_a_tiled_sum() {
    let mut rng = generate::rng("rms_norm, the tiled sum");
    for len in [1, 64, 65, 256, 257, 5000, 70_000] {
        let x = generate::bell::<f32>(&mut rng, len, 0.0, 1e10);
        let squares: Vec<f64> = x.iter().map(|x| x.widen() * x.widen()).collect();
        let scale = 1.0 / (evenkeel::math::sum::tiled_sum(&squares) / len as f64 + 1e-6).sqrt();
        let exact: Vec<f64> = x.iter().map(|x| x.widen() * scale).collect();
        // An f64 is a rounding tie for f32 if only the first of its 29 additional bits is set.
        let is_near_a_tie = |y: f64| (y.to_bits() & ((1 << 29) - 1)).abs_diff(1 << 28) < 1 << (29 - 18);
        each_level(|level: Level| {
            let got = rms_norm(Rows::new(&x, 1, len).unwrap(), &RmsNorm::default()).unwrap();
            let expected = exact.iter().zip(&got).map(|(&y, &got)| {
                let nearest = f32::from_wide(y);
                let is_beside = got.to_bits().abs_diff(nearest.to_bits()) <= 1;
                if is_near_a_tie(y) && is_beside { got } else { nearest }
            });
            assert_same_bits(&format!("{len}, {level}"), &got, &expected.collect::<Vec<f32>>());
        });
    }
}

#[test]
fn short_rows_that_are_not_finite_are_counted() {
    assert_short_rows_are_counted("rms_norm", |x| rms_norm(x, &RmsNorm::default()).unwrap());
}
