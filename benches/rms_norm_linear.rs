//! Benchmark of `rms_norm_linear` against candle's norm and matrix product, for one token and for a prompt.

use crate::support::{Race, Timed, numbers, tensor};
use criterion::Criterion;
use evenkeel::{RmsNorm, RmsNormLinear, Rows, RowsMut, reference, rms_norm_linear_into};

const COLS: usize = 2048;
const RESULTS: usize = 3072;
const EPS: f32 = 1e-6;

fn bench<E: Timed>(c: &mut Criterion) {
    for rows in [1, 64] {
        let (x, matrix, weight) = (numbers::<E>(rows * COLS), numbers::<E>(RESULTS * COLS), numbers::<E>(COLS));
        let options = RmsNormLinear::default().norm(RmsNorm::default().weight(&weight).eps(EPS.into()));
        let wide: Vec<f64> = weight.iter().map(|w| w.widen()).collect();
        let (exact, _) = reference::rms_norm_linear(&x[..COLS], &matrix, Some(&wide), 0.0, EPS.into(), &[0.0; RESULTS]);
        let view = Rows::new(&x, rows, COLS).unwrap();
        let of_matrix = Rows::new(&matrix, RESULTS, COLS).unwrap();
        let mut y = vec![E::ZERO; rows * RESULTS];
        let tensors = (tensor(&x, (rows, COLS)), tensor(&weight, COLS), tensor(&matrix, (RESULTS, COLS)));
        Race::<E>::new(c, "rms_norm_linear", (rows, RESULTS), exact)
            .slices(&mut y, |y| {
                rms_norm_linear_into(view, of_matrix, RowsMut::new(y, rows, RESULTS)?, &options).map(drop)
            })
            .candle(|| candle_nn::ops::rms_norm(&tensors.0, &tensors.1, EPS)?.matmul(&tensors.2.t()?));
    }
}

pub fn run(c: &mut Criterion) {
    each_dtype!(c, bench);
}
