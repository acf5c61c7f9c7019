//! Tests that LayerNorm is accurate, and has the same bits in every form.

use crate::support::compare::{Checker, assert_same_bits};
use crate::support::forms::{RowOp, assert_forms_agree};
use crate::support::generate::{self, Bits, Hostile};
use crate::support::implementations::each_level;
use crate::support::norms::{assert_short_rows_are_counted, mean_term_of};
use crate::support::{naive, rows};
use evenkeel::reference::Real;
use evenkeel::{
    Element, Floats, LayerNorm, Rows, RowsMut, layer_norm, layer_norm_in_place, layer_norm_into, reference,
};
use half::{bf16, f16};

/// LayerNorm with eps = 0, because an eps would hide errors of small variances.
struct Function;

impl rows::Function for Function {
    const NAME: &'static str = "layer_norm";
    fn run<E: Element>(row: &[E]) -> Vec<E> {
        layer_norm(Rows::new(row, 1, row.len()).unwrap(), &LayerNorm::default().eps(0.0)).unwrap()
    }
    fn exact<E: Element>(row: &[E]) -> Vec<E::Exact> {
        reference::layer_norm(row, None, None, 0.0)
    }
    fn naive<E: Element>(row: &[E]) -> Vec<E> {
        naive::layer_norm(row, 0.0)
    }
    fn hostile<E: Bits>(len: usize) -> Vec<Hostile<E>> {
        let mut rows = generate::hostile_vectors(len);
        rows.push(generate::far_mean(len));
        rows
    }
    fn terms<E: Element>(row: &[E], _: &[E::Exact]) -> Vec<f64> {
        vec![mean_term_of(row); row.len()]
    }
}

row_tests!(Function; weights, small_spreads, outcomes, forms);

/// Checks weights and biases of every type.
fn weights<E: Bits>() {
    let mut rng = generate::rng("layer_norm, weights");
    let checker = Checker::of_usual_rows::<E>("layer_norm");
    for len in [1, 5, 16, 100, 257, 1000] {
        let x = generate::bell::<E>(&mut rng, len, 0.3, 2.0);
        let w64 = generate::bell::<f64>(&mut rng, len, 1.0, 20.0);
        let w32 = generate::bell::<f32>(&mut rng, len, 1.0, 20.0);
        let w16 = generate::bell::<f16>(&mut rng, len, 1.0, 20.0);
        let wb16 = generate::bell::<bf16>(&mut rng, len, 1.0, 20.0);
        let mean_term = mean_term_of(&x);
        let operands: [Floats<'_>; 4] = [(&w64).into(), (&w32).into(), (&w16).into(), (&wb16).into()];
        for (i, weight) in operands.into_iter().enumerate() {
            let bias = operands[(i + 1) % 4];
            let [w, b] = [weight, bias].map(|v| (0..len).map(|i| v.get(i).unwrap()).collect::<Vec<f64>>());
            for eps in [0.0, 1e-5, 3.0] {
                let exact = reference::layer_norm(&x, Some(&w), Some(&b), eps);
                let options = LayerNorm::default().weight(weight).bias(bias).eps(eps);
                each_level(|level| {
                    let got = layer_norm(Rows::new(&x, 1, len).unwrap(), &options).unwrap();
                    let what = format!("{} weights, {} bias, eps {eps}, {len}, {level}", weight.dtype(), bias.dtype());
                    checker.check_terms(&what, &x, &got, &exact, &|i| {
                        let weighted = (exact[i] - E::Exact::from(b[i])).to_f64();
                        weighted.abs().max(b[i].abs()).max(w[i].abs() * mean_term)
                    });
                });
            }
        }
    }
}

/// Checks values far from zero that differ in their last digits, and rows of extreme magnitudes.
fn small_spreads<E: Bits>() {
    let checker = Checker::of_usual_rows::<E>("layer_norm");
    for base in [1500.0, 40_000.0, 1e6, 1e15] {
        let x: Vec<E> = (0..4).map(|i| E::from_wide(base + f64::from(i))).collect();
        let exact = reference::layer_norm(&x, None, None, 1e-5);
        each_level(|level| {
            let got = layer_norm(Rows::new(&x, 1, 4).unwrap(), &LayerNorm::default()).unwrap();
            checker.check(&format!("from {base}, {level}"), &x, &got, &exact);
        });
    }
    for magnitude in [1e20, 1e-25, 1e200, 1e-200, E::LIMITS.max, E::LIMITS.min_subnormal] {
        let value = E::from_wide(magnitude).widen();
        if value == 0.0 || value.is_infinite() {
            continue;
        }
        let x = [value, -value, value, -value].map(E::from_wide);
        each_level(|level| {
            let got = layer_norm(Rows::new(&x, 1, 4).unwrap(), &LayerNorm::default().eps(0.0)).unwrap();
            let ones = [1.0, -1.0, 1.0, -1.0].map(E::Exact::from);
            checker.check(&format!("of {magnitude:e}, {level}"), &x, &got, &ones);
        });
    }
}

fn outcomes<E: Bits>() {
    let [zero, one, inf, nan] = [0.0, 1.0, f64::INFINITY, f64::NAN].map(E::from_wide);
    let live = [E::from_wide(-1.0), zero, one];
    let root = E::from_wide(1.5f64.sqrt());
    let normal = [E::from_wide(-root.widen()), zero, root];
    each_level(|level| {
        let eps_0 = LayerNorm::default().eps(0.0);
        let expect = |what: &str, middle: [E; 3], expected: [E; 3]| {
            let got = layer_norm(Rows::new(&[live, middle, live].concat(), 3, 3).unwrap(), &eps_0).unwrap();
            assert_same_bits(&format!("{what}, {level}"), &got, &[normal, expected, normal].concat());
        };
        expect("a NaN", [one, nan, zero], [E::NAN; 3]);
        expect("an infinity", [one, inf, zero], [E::NAN; 3]);
        expect("layer_norm of a row with inf and -inf must be NaN", [inf, E::NEG_INFINITY, zero], [E::NAN; 3]);
        expect("zeros", [zero; 3], [zero; 3]);
        expect("all equal", [E::from_wide(3.3); 3], [zero; 3]);
        expect("layer_norm of [max, max, max] must be 0", [E::from_wide(E::LIMITS.max); 3], [zero; 3]);
        for len in [3, 7, 100] {
            let x = vec![E::from_wide(E::LIMITS.max / 1.1); len];
            let got = layer_norm(Rows::new(&x, 1, len).unwrap(), &LayerNorm::default()).unwrap();
            assert_same_bits(&format!("{len} equal large values, {level}"), &got, &vec![zero; len]);
        }
        let bias = [7.0f32, -3.0, 0.5];
        let all_equal = [E::from_wide(1e-3); 3];
        let options = LayerNorm::default().weight(&[1e30f64; 3]).bias(&bias).eps(1e-12);
        let got = layer_norm(Rows::new(&all_equal, 1, 3).unwrap(), &options).unwrap();
        assert_same_bits(&format!("all equal with a bias, {level}"), &got, &bias.map(|b| E::from_wide(b.widen())));
        for (rows, cols) in [(0, 0), (0, 5), (4, 0)] {
            assert_eq!(layer_norm(Rows::<E>::new(&[], rows, cols).unwrap(), &eps_0), Ok(vec![]));
        }
    });
}

struct Forms<'a>(LayerNorm<'a>);

impl<E: Element> RowOp<E> for Forms<'_> {
    fn allocating(&self, x: Rows<'_, E>) -> Vec<E> {
        layer_norm(x, &self.0).unwrap()
    }
    fn into<'a>(&self, x: Rows<'_, E>, out: RowsMut<'a, E>) -> &'a mut [E] {
        layer_norm_into(x, out, &self.0).unwrap()
    }
    fn in_place(&self, x: RowsMut<'_, E>) {
        layer_norm_in_place(x, &self.0).unwrap();
    }
}

fn forms<E: Bits>() {
    let mut rng = generate::rng("layer_norm, forms");
    for (rows, cols) in [(1, 1), (3, 1), (5, 7), (4, 16), (21, 100), (9, 256), (3, 257), (70, 1000)] {
        let mut x = generate::uneven_rows::<E>(&mut rng, rows, cols);
        x[..cols].fill(E::ZERO);
        x[rows * cols - 1] = E::NAN;
        let weight = generate::bell::<f32>(&mut rng, cols, 1.0, 0.5);
        let bias = generate::bell::<f16>(&mut rng, cols, 0.0, 0.5);
        assert_forms_agree(&Forms(LayerNorm::default()), &x, cols);
        assert_forms_agree(&Forms(LayerNorm::default().eps(0.0)), &x, cols);
        assert_forms_agree(&Forms(LayerNorm::default().weight(&weight).bias(&bias)), &x, cols);
    }
}

/// Checks that mean and variance come from tiled sums ([`tiled_sum`]) on every instruction set, and that the mean's
/// rounding error is kept in a second f64.
#[test]
fn the_moments_are_tiled_sums() {
    use evenkeel::math::sum::tiled_sum;
    let mut rng = generate::rng("layer_norm, the tiled sum");
    for len in [1, 64, 65, 256, 257, 5000, 70_000] {
        let x: Vec<f64> = generate::bell::<f32>(&mut rng, len, 3.0, 1e6).iter().map(|x| x.widen()).collect();
        let narrow: Vec<f32> = x.iter().map(|&x| x as f32).collect();
        let (sum, n) = (tiled_sum(&x), len as f64);
        let mean = sum / n;
        let low = (-mean).mul_add(n, sum) / n;
        let squares: Vec<f64> = x.iter().map(|x| (x - mean) * (x - mean)).collect();
        let scale = 1.0 / (tiled_sum(&squares) / n + 1e-5).sqrt();
        let expected: Vec<f32> = x.iter().map(|x| f32::from_wide((x - mean).mul_add(scale, -(low * scale)))).collect();
        each_level(|level| {
            let got = layer_norm(Rows::new(&narrow, 1, len).unwrap(), &LayerNorm::default()).unwrap();
            assert_same_bits(&format!("{len}, {level}"), &got, &expected);
        });
    }
}

#[test]
fn short_rows_that_are_not_finite_are_counted() {
    assert_short_rows_are_counted("layer_norm", |x| layer_norm(x, &LayerNorm::default()).unwrap());
}
