//! Tests that the gradients of LayerNorm, including the sums over rows, are accurate and have the same bits in every
//! form.

use crate::support::compare::{Checker, assert_same_bits, within_terms};
use crate::support::forms::{RowOp, assert_forms_agree};
use crate::support::generate::{self, Bits, Hostile};
use crate::support::implementations::each_level;
use crate::support::norms::{Norm, assert_threads_agree, check_columns, column_sums, tiled_sums_down};
use crate::support::{naive, rows};
use evenkeel::{
    Element, Error, Floats, LayerNorm, Rows, RowsMut, layer_norm_backward, layer_norm_backward_in_place,
    layer_norm_backward_into, reference,
};
use half::{bf16, f16};

/// LayerNorm with eps = 0, because an eps would hide errors of small variances. dy is the row in reverse order.
struct Function;

fn reversed<E: Element>(row: &[E]) -> Vec<E> {
    row.iter().rev().copied().collect()
}

const PLAIN: Norm<'_> = Norm { centred: true, eps: 0.0, weight: None };

impl rows::Function for Function {
    const NAME: &'static str = "layer_norm_backward";
    fn run<E: Element>(row: &[E]) -> Vec<E> {
        let dy = reversed(row);
        let view = |data| Rows::new(data, 1, row.len()).unwrap();
        layer_norm_backward(view(row), view(&dy), &LayerNorm::default().eps(0.0)).unwrap().dx
    }
    fn exact<E: Element>(row: &[E]) -> Vec<E::Exact> {
        reference::layer_norm_backward(row, &reversed(row), None, 0.0)
    }
    fn naive<E: Element>(row: &[E]) -> Vec<E> {
        naive::layer_norm_backward(row, &reversed(row), 0.0)
    }
    fn hostile<E: Bits>(len: usize) -> Vec<Hostile<E>> {
        generate::hostile_vectors(len)
    }
    fn terms<E: Element>(row: &[E], _: &[E::Exact]) -> Vec<f64> {
        PLAIN.terms(row, &reversed(row))
    }
}

row_tests!(Function; small_spreads, weights, columns, outcomes, forms);

/// Checks values far from zero that differ only in their last digits. Subtracting the squared mean from the mean of
/// squares would lose these differences.
fn small_spreads<E: Bits>() {
    let checker = Checker::of_usual_rows::<E>("layer_norm_backward");
    for len in [3, 4, 16, 100, 300, 1000] {
        let far = (1.0 / E::LIMITS.epsilon) * 0.75;
        let x: Vec<E> = (0..len).map(|i| E::from_wide(far + (2.0 * generate::scattered(i + 1)).floor())).collect();
        let dy: Vec<E> = (0..len).map(|i| E::from_wide(generate::scattered(3 * i + 7) - 0.5)).collect();
        let exact = reference::layer_norm_backward(&x, &dy, None, 0.0);
        let terms = PLAIN.terms(&x, &dy);
        each_level(|level| {
            let view = |data| Rows::new(data, 1, len).unwrap();
            let got = layer_norm_backward(view(&x), view(&dy), &LayerNorm::default().eps(0.0)).unwrap().dx;
            checker.check_terms(&format!("{len}, {level}"), &x, &got, &exact, &|i| terms[i]);
        });
        let naive = naive::layer_norm_backward(&x, &dy, 0.0);
        let passes = within_terms("", &x, &naive, &exact, |i| terms[i], checker.bound()).is_ok();
        let spreads = x.iter().any(|v| *v != x[0]);
        assert!(!passes || !spreads, "{len} columns: the naive layer_norm_backward must have an error above the bound");
    }
}

fn weights<E: Bits>() {
    let mut rng = generate::rng("layer_norm_backward, weights");
    let checker = Checker::of_usual_rows::<E>("layer_norm_backward");
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
            for eps in [0.0, 1e-5, 3.0] {
                let exact = reference::layer_norm_backward(&x, &dy, Some(&wide), eps);
                let terms = Norm { eps, weight: Some(&wide), ..PLAIN }.terms(&x, &dy);
                let options = LayerNorm::default().weight(weight).eps(eps);
                each_level(|level| {
                    let view = |data| Rows::new(data, 1, len).unwrap();
                    let got = layer_norm_backward(view(&x), view(&dy), &options).unwrap().dx;
                    let what = format!("{} weights, eps {eps}, {len}, {level}", weight.dtype());
                    checker.check_terms(&what, &x, &got, &exact, &|i| terms[i]);
                });
            }
        }
    }
}

/// Checks dweight and dbias, which are tiled sums over the rows. The sums have 64 lanes and tiles of 256 rows. The
/// tested numbers of rows therefore include 64, 65, 255 and 257.
fn columns<E: Bits>() {
    let mut rng = generate::rng("layer_norm_backward, columns");
    let checker = Checker::of_usual_rows::<E>("layer_norm_backward");
    for (rows, cols) in [(1, 1), (3, 5), (64, 3), (65, 17), (255, 2), (257, 16), (600, 40), (5, 700), (1025, 9)] {
        let x = generate::bell::<E>(&mut rng, rows * cols, 0.5, 3.0);
        let dy = generate::bell::<E>(&mut rng, rows * cols, 0.1, 2.0);
        let (weight, bias) = (vec![1.5f32; cols], vec![0.5f32; cols]);
        let view = |data| Rows::new(data, rows, cols).unwrap();
        let options = LayerNorm::default().weight(&weight).bias(&bias);
        let exact = reference::layer_norm_backward_weight(&x, &dy, cols, 1e-5);
        let sums = column_sums(&dy, cols);
        let terms = Norm { eps: 1e-5, ..PLAIN }.column_terms(&x, &dy, cols);
        each_level(|level| {
            let got = layer_norm_backward(view(&x), view(&dy), &options).unwrap();
            let what = format!("{rows} x {cols}, {level}");
            check_columns(&checker, &format!("dweight, {what}"), &got.dweight.unwrap(), &exact, &terms[0]);
            check_columns(&checker, &format!("dbias, {what}"), &got.dbias.unwrap(), &sums, &terms[1]);
            // Requests only dbias.
            let got = layer_norm_backward(view(&x), view(&dy), &LayerNorm::default().bias(&bias)).unwrap();
            assert_eq!(got.dweight, None);
            check_columns(&checker, &format!("dbias alone, {what}"), &got.dbias.unwrap(), &sums, &terms[1]);
        });
    }
}

fn outcomes<E: Bits>() {
    let [zero, one, inf, nan] = [0.0, 1.0, f64::INFINITY, f64::NAN].map(E::from_wide);
    let (weight, bias) = ([1.0f32; 3], [0.0f32; 3]);
    let options = LayerNorm::default().weight(&weight).bias(&bias).eps(0.0);
    let live = [E::from_wide(-1.0), zero, one];
    each_level(|level| {
        // Infinities of both signs cancel to the NaN that every op stores.
        let (x, dy) = ([one, zero, zero, one], [inf, one, E::NEG_INFINITY, one]);
        let view = |data| Rows::new(data, 2, 2).unwrap();
        let plain = LayerNorm::default().weight(&weight[..2]).bias(&bias[..2]);
        let gradients = layer_norm_backward(view(&x), view(&dy), &plain).unwrap();
        assert_same_bits("dbias", &gradients.dbias.unwrap(), &[E::NAN, E::from_wide(2.0)]);
        let outcome = |x: [E; 3], dy: [E; 3]| {
            let (x, dy) = ([live, x, live].concat(), [[one; 3], dy, [one; 3]].concat());
            let (x, dy) = (Rows::new(&x, 3, 3).unwrap(), Rows::new(&dy, 3, 3).unwrap());
            let (gradients, report) = evenkeel::report::scope(|| layer_norm_backward(x, dy, &options).unwrap());
            for row in [&gradients.dx[..3], &gradients.dx[6..]] {
                // `dy` is equal in all columns. LayerNorm removes the mean, so dx is 0.
                assert!(
                    row.iter().all(|v| v.widen() == 0.0),
                    "layer_norm_backward: expected a dx of 0 in a row with equal dy, got {row:?} ({level})"
                );
            }
            let wide = |sums: Option<Vec<E>>| sums.unwrap().iter().map(|v| v.widen()).collect::<Vec<f64>>();
            let middle = gradients.dx[3..6].to_vec();
            (middle, wide(gradients.dweight), wide(gradients.dbias), report.op("layer_norm_backward"))
        };
        for broken in [[one, nan, zero], [one, inf, zero]] {
            let (dx, dweight, dbias, report) = outcome(broken, live);
            assert!(
                dx.iter().all(|v| v.widen().is_nan()),
                "layer_norm_backward of x {broken:?}: expected a dx of NaN, got {dx:?}"
            );
            assert!(dweight.iter().all(|v| v.is_nan()));
            assert_eq!(dbias, [1.0, 2.0, 3.0]);
            assert_eq!(report.nan + report.infinite, 1);
            let (dx, dweight, dbias, report) = outcome(live, broken);
            assert!(
                dx.iter().all(|v| v.widen().is_nan()),
                "layer_norm_backward of dy {broken:?}: expected a dx of NaN, got {dx:?}"
            );
            assert!(
                [dweight[0], dweight[2], dbias[0], dbias[2]].iter().all(|v| v.is_finite()),
                "dy {broken:?}: expected finite dweight and dbias in columns 0 and 2, got {dweight:?} and {dbias:?}"
            );
            assert!(!dweight[1].is_finite() && !dbias[1].is_finite());
            assert_eq!(report.nan + report.infinite, 1);
        }
        for equal in [zero, E::from_wide(3.3), E::from_wide(E::LIMITS.max)] {
            let (dx, dweight, dbias, report) = outcome([equal; 3], [one, zero, one]);
            assert!(
                dx.iter().all(|v| v.widen() == 0.0),
                "layer_norm_backward of a row of {equal:?}: expected a dx of 0, got {dx:?}"
            );
            let root = 2.0 * 1.5f64.sqrt();
            assert!(
                dweight.iter().zip([-root, 0.0, root]).all(|(a, b)| (a - b).abs() < 0.02),
                "layer_norm_backward: expected a dweight of [-{root}, 0, {root}], got {dweight:?}"
            );
            assert_eq!(dbias, [3.0, 2.0, 3.0]);
            assert!(report.is_clean());
        }
    });
    for (rows, cols) in [(0, 0), (0, 5), (4, 0)] {
        let view = Rows::<E>::new(&[], rows, cols).unwrap();
        let ones = vec![1.0f32; cols];
        let gradients = layer_norm_backward(view, view, &LayerNorm::default().weight(&ones).bias(&ones)).unwrap();
        assert_eq!(
            (gradients.dx, gradients.dweight, gradients.dbias),
            (vec![], Some(vec![zero; cols]), Some(vec![zero; cols]))
        );
    }
    let a = Rows::new(&live, 1, 3).unwrap();
    let (mut data, mut short) = (live, [0.0f32; 2]);
    let dy = RowsMut::new(&mut data, 1, 3).unwrap();
    let refused = layer_norm_backward_in_place(a, dy, None, Some((&mut short).into()), &LayerNorm::default());
    assert!(matches!(refused, Err(Error::ShapeMismatch { op: "layer_norm_backward", argument: "dbias", .. })));
    let refused = layer_norm_backward(a, a, &LayerNorm::default().eps(f64::NAN)).map(drop);
    assert!(matches!(refused, Err(Error::InvalidArgument { op: "layer_norm_backward", argument: "eps", .. })));
}

/// Op that maps rows of dy to rows of dx, with the same x for every row. With this op, tests compare the forms of the
/// gradient: allocating, into a destination and in place.
struct Forms<'a, E> {
    x: Vec<E>,
    options: LayerNorm<'a>,
}

impl<E: Element> RowOp<E> for Forms<'_, E> {
    fn allocating(&self, dy: Rows<'_, E>) -> Vec<E> {
        let x = self.x.repeat(dy.rows());
        layer_norm_backward(Rows::new(&x, dy.rows(), dy.cols()).unwrap(), dy, &self.options).unwrap().dx
    }
    fn into<'a>(&self, dy: Rows<'_, E>, out: RowsMut<'a, E>) -> &'a mut [E] {
        let x = self.x.repeat(dy.rows());
        let x = Rows::new(&x, dy.rows(), dy.cols()).unwrap();
        layer_norm_backward_into(x, dy, out, None, None, &self.options).unwrap()
    }
    fn in_place(&self, dy: RowsMut<'_, E>) {
        let (x, rows, cols) = (self.x.repeat(dy.rows()), dy.rows(), dy.cols());
        let (mut dweight, mut dbias) = (vec![0.0f32; cols], vec![0.0f64; cols]);
        let (dweight, dbias) = (Some((&mut dweight).into()), Some((&mut dbias).into()));
        layer_norm_backward_in_place(Rows::new(&x, rows, cols).unwrap(), dy, dweight, dbias, &self.options).unwrap();
    }
}

fn forms<E: Bits>() {
    let mut rng = generate::rng("layer_norm_backward, forms");
    for (rows, cols) in [(1, 1), (3, 1), (5, 7), (4, 16), (3, 257), (70, 1000)] {
        let mut dy = generate::bell::<E>(&mut rng, rows * cols, 1.0, 15.0);
        dy[rows * cols - 1] = E::NAN;
        let x = generate::bell::<E>(&mut rng, cols, 0.5, 3.0);
        let weight = generate::bell::<bf16>(&mut rng, cols, 1.0, 0.5);
        assert_forms_agree(&Forms { x: x.clone(), options: LayerNorm::default() }, &dy, cols);
        assert_forms_agree(&Forms { x, options: LayerNorm::default().weight(&weight) }, &dy, cols);
    }
}

/// Checks that dweight and dbias are tiled sums ([`tiled_sum`]) over the rows in order, on every instruction set and
/// any number of threads.
#[test]
fn sums_over_rows_are_tiled_sums() {
    let mut rng = generate::rng("layer_norm_backward, the tiled sum");
    for (rows, cols) in [(1, 3), (63, 17), (65, 300), (300, 5), (700, 600), (20_000, 3)] {
        let x = generate::bell::<f32>(&mut rng, rows * cols, 0.0, 4.0);
        let dy = generate::bell::<f32>(&mut rng, rows * cols, 0.0, 4.0);
        let terms = x.chunks(cols).zip(dy.chunks(cols)).flat_map(|(x, dy)| {
            use evenkeel::math::sum::tiled_sum;
            let x: Vec<f64> = x.iter().map(|x| x.widen()).collect();
            let (sum, n) = (tiled_sum(&x), cols as f64);
            let mean = sum / n;
            let low = (-mean).mul_add(n, sum) / n;
            // Computes the variance as the documentation of layer_norm defines it.
            let squares: Vec<f64> = x.iter().map(|x| x * x).collect();
            let mut variance = (tiled_sum(&squares) - sum * mean) / n;
            if mean * mean > 1024.0 * variance {
                assert!(
                    cols <= 64,
                    "the mean may exceed 32 standard deviations only in rows of at most 64 columns, got {cols} columns"
                );
                let squares: Vec<f64> = x.iter().map(|x| (x - mean) * (x - mean)).collect();
                variance = tiled_sum(&squares) / n;
            }
            let scale = 1.0 / (variance + 1e-5).sqrt();
            let of = |(x, dy): (f64, &f32)| dy.widen() * (x - mean).mul_add(scale, -(low * scale));
            x.into_iter().zip(dy).map(of).collect::<Vec<f64>>()
        });
        let wide: Vec<f64> = dy.iter().map(|dy| dy.widen()).collect();
        let expected = [tiled_sums_down(&terms.collect::<Vec<f64>>(), cols), tiled_sums_down(&wide, cols)].concat();
        let run = || {
            let (mut dx, mut sums) = (dy.clone(), vec![f64::NAN; 2 * cols]);
            let (dweight, dbias) = sums.split_at_mut(cols);
            let (x, dx) = (Rows::new(&x, rows, cols).unwrap(), RowsMut::new(&mut dx, rows, cols).unwrap());
            layer_norm_backward_in_place(x, dx, Some(dweight.into()), Some(dbias.into()), &LayerNorm::default())
                .unwrap();
            sums
        };
        assert_same_bits(&format!("{rows} x {cols}"), &run(), &expected);
        assert_threads_agree(&format!("{rows} x {cols}"), run);
    }
}
