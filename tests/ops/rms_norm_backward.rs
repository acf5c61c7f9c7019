//! Tests that the gradients of RMSNorm, including the sums over rows, are accurate with each variant of [`Rounding`]
//! and have the same bits in every form.

use crate::support::compare::{Checker, assert_same_bits};
use crate::support::forms::{RowOp, assert_forms_agree};
use crate::support::generate::{self, Bits, Hostile};
use crate::support::implementations::each_level;
use crate::support::norms::{Norm, assert_threads_agree, check_columns, error_at_term, tiled_sums_down};
use crate::support::{naive, rows};
use evenkeel::reference::Real;
use evenkeel::{
    DType, Element, Error, Floats, RmsNorm, Rounding, Rows, RowsMut, reference, rms_norm_backward,
    rms_norm_backward_in_place, rms_norm_backward_into,
};
use half::{bf16, f16};

/// RMSNorm with eps = 0, because an eps would hide the errors of small squares. dy is the row in reverse order.
struct Function;

fn reversed<E: Element>(row: &[E]) -> Vec<E> {
    row.iter().rev().copied().collect()
}

const PLAIN: Norm<'_> = Norm { centred: false, eps: 0.0, weight: None };

impl rows::Function for Function {
    const NAME: &'static str = "rms_norm_backward";
    fn run<E: Element>(row: &[E]) -> Vec<E> {
        let (rows, dy) = ((1, row.len()), reversed(row));
        let view = |data| Rows::new(data, rows.0, rows.1).unwrap();
        rms_norm_backward(view(row), view(&dy), &RmsNorm::default().eps(0.0)).unwrap().dx
    }
    fn exact<E: Element>(row: &[E]) -> Vec<E::Exact> {
        reference::rms_norm_backward(row, &reversed(row), None, 0.0, 0.0)
    }
    fn naive<E: Element>(row: &[E]) -> Vec<E> {
        naive::rms_norm_backward(row, &reversed(row), 0.0)
    }
    fn hostile<E: Bits>(len: usize) -> Vec<Hostile<E>> {
        // The gradient of a single element is 0 with any formula.
        if len == 1 { Vec::new() } else { generate::hostile_vectors(len) }
    }
    fn terms<E: Element>(row: &[E], _: &[E::Exact]) -> Vec<f64> {
        PLAIN.terms(row, &reversed(row))
    }
}

row_tests!(Function; weights, columns, far_apart, outcomes, forms);

/// Checks weights of every type, offsets and eps.
fn weights<E: Bits>() {
    let mut rng = generate::rng("rms_norm_backward, weights");
    let checker = Checker::of_usual_rows::<E>("rms_norm_backward");
    for len in [1, 5, 16, 100, 257, 1000] {
        let x = generate::bell::<E>(&mut rng, len, 0.3, 2.0);
        let dy = generate::bell::<E>(&mut rng, len, 0.1, 1.0);
        let w64 = generate::bell::<f64>(&mut rng, len, 1.0, 20.0);
        let w32 = generate::bell::<f32>(&mut rng, len, 1.0, 20.0);
        let w16 = generate::bell::<f16>(&mut rng, len, 1.0, 20.0);
        let wb16 = generate::bell::<bf16>(&mut rng, len, 1.0, 20.0);
        let weights: [Floats<'_>; 4] = [(&w64).into(), (&w32).into(), (&w16).into(), (&wb16).into()];
        for weight in weights {
            let wide: Vec<f64> = (0..len).map(|i| weight.get(i).unwrap()).collect();
            for (offset, eps) in [(0.0, 1e-6), (1.0, 1e-5), (-0.5, 0.0), (1.0, 3.0)] {
                let exact = reference::rms_norm_backward(&x, &dy, Some(&wide), offset, eps);
                let sums: Vec<f64> = wide.iter().map(|w| w + offset).collect();
                let terms = Norm { eps, weight: Some(&sums), ..PLAIN }.terms(&x, &dy);
                let options = RmsNorm::default().weight(weight).weight_offset(offset).eps(eps);
                each_level(|level| {
                    let view = |data| Rows::new(data, 1, len).unwrap();
                    let got = rms_norm_backward(view(&x), view(&dy), &options).unwrap().dx;
                    let what = format!("{} weights, offset {offset}, eps {eps}, {len}, {level}", weight.dtype());
                    checker.check_terms(&what, &x, &got, &exact, &|i| terms[i]);
                });
            }
        }
    }
}

/// Checks dweight, which is a tiled sum over the rows. The sums have 64 lanes and tiles of 256 rows. The tested numbers
/// of rows therefore include 64, 65, 255 and 257.
fn columns<E: Bits>() {
    let mut rng = generate::rng("rms_norm_backward, columns");
    let checker = Checker::of_usual_rows::<E>("rms_norm_backward");
    for (rows, cols) in [(1, 1), (3, 5), (64, 3), (65, 17), (255, 2), (257, 16), (600, 40), (5, 700), (1025, 9)] {
        let x = generate::bell::<E>(&mut rng, rows * cols, 0.5, 3.0);
        let dy = generate::bell::<E>(&mut rng, rows * cols, 0.0, 2.0);
        let weight = generate::bell::<f32>(&mut rng, cols, 1.0, 0.5);
        let view = |data| Rows::new(data, rows, cols).unwrap();
        for rounding in [Rounding::Once, Rounding::BeforeWeight] {
            let is_rounded = rounding == Rounding::BeforeWeight;
            if is_rounded && E::DTYPE == DType::F32 {
                continue; // an f64 reference cannot tell which way a value near an f32 tie rounds
            }
            let options = RmsNorm::default().weight(&weight).rounding(rounding);
            let exact = reference::rms_norm_backward_weight(&x, &dy, cols, 1e-6, is_rounded);
            let [terms, _] = Norm { eps: 1e-6, ..PLAIN }.column_terms(&x, &dy, cols);
            each_level(|level| {
                let got = rms_norm_backward(view(&x), view(&dy), &options).unwrap().dweight.unwrap();
                check_columns(&checker, &format!("{rounding:?}, {rows} x {cols}, {level}"), &got, &exact, &terms);
            });
        }
        // Writes dweight in f64, although the rows may have a narrower type.
        let options = RmsNorm::default();
        let wide = |x: &[E]| x.iter().map(|x| x.widen()).collect::<Vec<f64>>();
        let exact = reference::rms_norm_backward_weight(&wide(&x), &wide(&dy), cols, 1e-6, false);
        let [terms, _] = Norm { eps: 1e-6, ..PLAIN }.column_terms(&x, &dy, cols);
        let (mut dx, mut dweight) = (vec![E::ZERO; rows * cols], vec![f64::NAN; cols]);
        let to = RowsMut::new(&mut dx, rows, cols).unwrap();
        rms_norm_backward_into(view(&x), view(&dy), to, Some((&mut dweight).into()), &options).unwrap();
        let wide_checker = Checker::of_usual_rows::<f64>("rms_norm_backward");
        check_columns(&wide_checker, &format!("{rows} x {cols} in f64"), &dweight, &exact, &terms);
        assert_same_bits("the same dx", &dx, &rms_norm_backward(view(&x), view(&dy), &options).unwrap().dx);
    }
}

/// Checks rows, gradients and weights whose products exceed the range of the type although the results do not.
fn far_apart<E: Bits>() {
    let checker = Checker::of_usual_rows::<E>("rms_norm_backward");
    let mut rng = generate::rng("rms_norm_backward, far apart");
    let limits = E::LIMITS;
    let magnitudes = [limits.max / 4.0, limits.min_normal, limits.min_subnormal * 64.0, 1e30, 1e-30, 1.0];
    let finite = |m: &&f64| E::from_wide(**m).widen() != 0.0 && E::from_wide(**m).widen().is_finite();
    for &of_x in magnitudes.iter().filter(finite) {
        for &of_dy in magnitudes.iter().filter(finite) {
            for of_weight in [1.0, 1e300, 1e-300] {
                if of_weight != 1.0 && E::DTYPE != DType::F64 {
                    continue;
                }
                let cols = 37;
                let unit = generate::bell::<f64>(&mut rng, 3 * cols, 0.0, 0.3);
                let x: Vec<E> = (0..cols).map(|i| E::from_wide(of_x * unit[i])).collect();
                let dy: Vec<E> = (0..cols).map(|i| E::from_wide(of_dy * unit[cols + i])).collect();
                let weight: Vec<f64> = (0..cols).map(|i| of_weight * unit[2 * cols + i]).collect();
                let exact = reference::rms_norm_backward(&x, &dy, Some(&weight), 0.0, 0.0);
                let terms = Norm { weight: Some(&weight), ..PLAIN }.unlimited_terms(&x, &dy);
                let of_weights = reference::rms_norm_backward_weight(&x, &dy, cols, 0.0, false);
                let [column_terms, _] = PLAIN.column_terms(&x, &dy, cols);
                let options = RmsNorm::default().weight(&weight).eps(0.0);
                each_level(|level| {
                    let view = |data| Rows::new(data, 1, cols).unwrap();
                    let got = rms_norm_backward(view(&x), view(&dy), &options).unwrap();
                    let what = format!("x {of_x:e}, dy {of_dy:e}, weight {of_weight:e}, {level}");
                    checker.check_errors(&what, &x, &got.dx, &exact, &|i| error_at_term(got.dx[i], exact[i], terms[i]));
                    check_columns(&checker, &what, &got.dweight.unwrap(), &of_weights, &column_terms);
                });
            }
        }
    }
    // Terms near 3e312 cancel to results that f64 can hold.
    if E::DTYPE == DType::F64 {
        let (x, dy) = ([1e-300; 2].map(E::from_wide), [1e10, 1e10 + 1.0].map(E::from_wide));
        let weight = [300.0 + 1.0 / 3.0; 2];
        let exact = reference::rms_norm_backward(&x, &dy, Some(&weight), 0.0, 0.0);
        let terms = Norm { weight: Some(&weight), ..PLAIN }.unlimited_terms(&x, &dy);
        assert!(terms[0].to_f64().is_infinite() && exact[0].to_f64().is_finite());
        each_level(|level| {
            let view = |data| Rows::new(data, 1, 2).unwrap();
            let dx = rms_norm_backward(view(&x), view(&dy), &RmsNorm::default().weight(&weight).eps(0.0)).unwrap().dx;
            let what = format!("terms beyond f64, {level}");
            checker.check_errors(&what, &x, &dx, &exact, &|i| error_at_term(dx[i], exact[i], terms[i]));
        });
    }
    // In one column, partial sums overflow although the whole sum does not.
    let largest = E::from_wide(limits.max);
    let dy = [largest, largest, E::from_wide(-limits.max), E::from_wide(-limits.max)];
    let (x, options) = ([E::from_wide(1.0); 4], RmsNorm::default().weight(&[1.0f32]).eps(0.0));
    let view = |data| Rows::new(data, 4, 1).unwrap();
    each_level(|_| {
        let got = rms_norm_backward(view(&x), view(&dy), &options).unwrap();
        assert_same_bits("parts overflow", &got.dweight.unwrap(), &[E::ZERO]);
    });
}

fn outcomes<E: Bits>() {
    let [zero, one, inf, nan] = [0.0, 1.0, f64::INFINITY, f64::NAN].map(E::from_wide);
    let options = RmsNorm::default().weight(&[1.0f32; 3]).eps(0.0);
    let live = [one, zero, one];
    each_level(|level| {
        let outcome = |x: [E; 3], dy: [E; 3]| {
            let (x, dy) = ([live, x, live].concat(), [live, dy, live].concat());
            let (x, dy) = (Rows::new(&x, 3, 3).unwrap(), Rows::new(&dy, 3, 3).unwrap());
            let (gradients, report) = evenkeel::report::scope(|| rms_norm_backward(x, dy, &options).unwrap());
            let dweight: Vec<f64> = gradients.dweight.unwrap().iter().map(|v| v.widen()).collect();
            let alone = rms_norm_backward(Rows::new(&live, 1, 3).unwrap(), Rows::new(&live, 1, 3).unwrap(), &options);
            let alone = alone.unwrap().dx;
            for row in [&gradients.dx[..3], &gradients.dx[6..]] {
                assert_same_bits(&format!("the other rows, {level}"), row, &alone);
            }
            (gradients.dx[3..6].to_vec(), dweight, report.op("rms_norm_backward"))
        };
        for (x, dy) in
            [([one, nan, zero], live), (live, [one, nan, zero]), ([one, inf, zero], live), (live, [one, inf, zero])]
        {
            let (dx, dweight, report) = outcome(x, dy);
            assert!(
                dx.iter().all(|v| v.widen().is_nan()),
                "rms_norm_backward of x {x:?} and dy {dy:?}: expected a dx of NaN, got {dx:?}"
            );
            assert!(!dweight[1].is_finite() || x[1].widen().is_infinite() || dy[1].widen().is_infinite());
            assert_eq!(report.nan + report.infinite, 1);
        }
        // A NaN in dy makes dweight NaN in its column only.
        let (_, dweight, _) = outcome(live, [one, nan, zero]);
        assert!(dweight[0].is_finite() && dweight[1].is_nan() && dweight[2].is_finite());
        // Normalising a row of zeros gives zeros.
        let (dx, dweight, report) = outcome([zero; 3], [one; 3]);
        assert!(
            dx.iter().all(|v| v.widen() == 0.0),
            "rms_norm_backward of a row of zeros: expected a dx of 0, got {dx:?}"
        );
        let root = 1.5f64.sqrt();
        assert!(
            dweight.iter().zip([2.0 * root, 0.0, 2.0 * root]).all(|(a, b)| (a - b).abs() < 0.02),
            "rms_norm_backward: expected a dweight of 2 * [{root}, 0, {root}], got {dweight:?}"
        );
        assert!(report.is_clean());
    });
    for (rows, cols) in [(0, 0), (0, 5), (4, 0)] {
        let view = Rows::<E>::new(&[], rows, cols).unwrap();
        let weight = vec![1.0f32; cols];
        let gradients = rms_norm_backward(view, view, &RmsNorm::default().weight(&weight)).unwrap();
        assert_eq!((gradients.dx, gradients.dweight), (vec![], Some(vec![zero; cols])));
    }
    let (a, b) = (Rows::new(&live, 1, 3).unwrap(), Rows::new(&live, 3, 1).unwrap());
    let refused = |r: Result<_, Error>| matches!(r, Err(Error::ShapeMismatch { op: "rms_norm_backward", .. }));
    assert!(refused(rms_norm_backward(a, b, &RmsNorm::default()).map(drop)));
    assert!(refused(rms_norm_backward(a, a, &RmsNorm::default().weight(&[1.0f32])).map(drop)));
    let (mut data, mut short) = (live, [0.0f32; 2]);
    let dy = RowsMut::new(&mut data, 1, 3).unwrap();
    assert!(refused(rms_norm_backward_in_place(a, dy, Some((&mut short).into()), &RmsNorm::default())));
    let refused = rms_norm_backward(a, a, &RmsNorm::default().eps(-1.0)).map(drop);
    assert!(matches!(refused, Err(Error::InvalidArgument { op: "rms_norm_backward", argument: "eps", .. })));
}

/// Op that maps rows of dy to rows of dx, with the same x for every row. With this op, tests compare the forms of the
/// gradient: allocating, into a destination and in place.
struct Forms<'a, E> {
    x: Vec<E>,
    options: RmsNorm<'a>,
}

impl<E: Element> Forms<'_, E> {
    fn x(&self, rows: usize) -> Vec<E> {
        self.x.repeat(rows)
    }
}

impl<E: Element> RowOp<E> for Forms<'_, E> {
    fn allocating(&self, dy: Rows<'_, E>) -> Vec<E> {
        let x = self.x(dy.rows());
        rms_norm_backward(Rows::new(&x, dy.rows(), dy.cols()).unwrap(), dy, &self.options).unwrap().dx
    }
    fn into<'a>(&self, dy: Rows<'_, E>, out: RowsMut<'a, E>) -> &'a mut [E] {
        let x = self.x(dy.rows());
        rms_norm_backward_into(Rows::new(&x, dy.rows(), dy.cols()).unwrap(), dy, out, None, &self.options).unwrap()
    }
    fn in_place(&self, dy: RowsMut<'_, E>) {
        let (x, rows, cols) = (self.x(dy.rows()), dy.rows(), dy.cols());
        let mut dweight = vec![0.0f32; cols];
        rms_norm_backward_in_place(Rows::new(&x, rows, cols).unwrap(), dy, Some((&mut dweight).into()), &self.options)
            .unwrap();
    }
}

fn forms<E: Bits>() {
    let mut rng = generate::rng("rms_norm_backward, forms");
    for (rows, cols) in [(1, 1), (3, 1), (5, 7), (4, 16), (3, 257), (70, 1000)] {
        let mut dy = generate::bell::<E>(&mut rng, rows * cols, 1.0, 15.0);
        dy[rows * cols - 1] = E::NAN;
        let x = generate::bell::<E>(&mut rng, cols, 0.5, 3.0);
        let weight = generate::bell::<bf16>(&mut rng, cols, 1.0, 0.5);
        assert_forms_agree(&Forms { x: x.clone(), options: RmsNorm::default() }, &dy, cols);
        assert_forms_agree(&Forms { x, options: RmsNorm::default().weight(&weight).weight_offset(1.0) }, &dy, cols);
    }
}

/// Checks that dweight is a tiled sum ([`tiled_sum`]) over the rows in order, on every instruction set and any number
/// of threads.
#[test]
fn dweight_is_a_tiled_sum() {
    let mut rng = generate::rng("rms_norm_backward, the tiled sum");
    for (rows, cols) in [(1, 3), (63, 17), (64, 4), (65, 300), (300, 5), (700, 600), (20_000, 3)] {
        let x = generate::bell::<f32>(&mut rng, rows * cols, 0.0, 4.0);
        let dy = generate::bell::<f32>(&mut rng, rows * cols, 0.0, 4.0);
        let terms = x.chunks(cols).zip(dy.chunks(cols)).flat_map(|(x, dy)| {
            let squares: Vec<f64> = x.iter().map(|x| x.widen() * x.widen()).collect();
            let scale = 1.0 / (evenkeel::math::sum::tiled_sum(&squares) / cols as f64 + 1e-6).sqrt();
            x.iter().zip(dy).map(|(x, dy)| dy.widen() * (x.widen() * scale)).collect::<Vec<f64>>()
        });
        let expected = tiled_sums_down(&terms.collect::<Vec<f64>>(), cols);
        let run = || {
            let (mut dx, mut dweight) = (dy.clone(), vec![f64::NAN; cols]);
            let (x, dx) = (Rows::new(&x, rows, cols).unwrap(), RowsMut::new(&mut dx, rows, cols).unwrap());
            rms_norm_backward_in_place(x, dx, Some((&mut dweight).into()), &RmsNorm::default()).unwrap();
            dweight
        };
        assert_same_bits(&format!("{rows} x {cols}"), &run(), &expected);
        assert_threads_agree(&format!("{rows} x {cols}"), run);
    }
}
