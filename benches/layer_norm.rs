//! Benchmark of `layer_norm` against candle's function of that name, with a weight and a bias.

use crate::support::{Race, Timed, numbers, shapes, tensor};
use criterion::Criterion;
use evenkeel::{LayerNorm, Rows, RowsMut, layer_norm_into, reference};

const EPS: f32 = 1e-5;

fn bench<E: Timed>(c: &mut Criterion) {
    for (rows, cols) in shapes() {
        let x = numbers::<E>(rows * cols);
        let (weight, bias) = (numbers::<E>(cols), numbers::<E>(cols));
        let options = LayerNorm::default().weight(&weight).bias(&bias).eps(EPS.into());
        let mut y = x.clone();
        let input = Rows::new(&x, rows, cols).unwrap();
        let wide = |v: &[E]| v.iter().map(|v| v.widen()).collect::<Vec<f64>>();
        let exact = reference::layer_norm(&x[..cols], Some(&wide(&weight)), Some(&wide(&bias)), EPS.into());
        let (xs, alpha, beta) = (tensor(&x, (rows, cols)), tensor(&weight, cols), tensor(&bias, cols));
        Race::<E>::new(c, "layer_norm", (rows, cols), exact)
            .slices(&mut y, |y| layer_norm_into(input, RowsMut::new(y, rows, cols)?, &options).map(drop))
            .tensors(
                || evenkeel::candle::ops::layer_norm(&xs, &alpha, &beta, EPS),
                || candle_nn::ops::layer_norm(&xs, &alpha, &beta, EPS),
            );
    }
}

pub fn run(c: &mut Criterion) {
    each_dtype!(c, bench);
}
