//! Benchmark of `rms_norm` against candle's function of that name, with a weight.

use crate::support::{Race, Timed, numbers, shapes, tensor};
use criterion::Criterion;
use evenkeel::{RmsNorm, Rows, RowsMut, reference, rms_norm_into};

const EPS: f32 = 1e-5;

fn bench<E: Timed>(c: &mut Criterion) {
    for (rows, cols) in shapes() {
        let x = numbers::<E>(rows * cols);
        let weight = numbers::<E>(cols);
        let options = RmsNorm::default().weight(&weight).eps(EPS.into());
        let mut y = x.clone();
        let input = Rows::new(&x, rows, cols).unwrap();
        let wide: Vec<f64> = weight.iter().map(|w| w.widen()).collect();
        let exact = reference::rms_norm(&x[..cols], Some(&wide), 0.0, EPS.into());
        let (xs, alpha) = (tensor(&x, (rows, cols)), tensor(&weight, cols));
        Race::<E>::new(c, "rms_norm", (rows, cols), exact)
            .slices(&mut y, |y| rms_norm_into(input, RowsMut::new(y, rows, cols)?, &options).map(drop))
            .tensors(
                || evenkeel::candle::ops::rms_norm(&xs, &alpha, EPS),
                || candle_nn::ops::rms_norm(&xs, &alpha, EPS),
            );
    }
}

pub fn run(c: &mut Criterion) {
    each_dtype!(c, bench);
}
