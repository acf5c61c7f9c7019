//! `rms_norm` with a weight beside candle's, and with the residual added in the same pass.

mod support;

use criterion::Criterion;
use evenkeel::{RmsNorm, Rows, RowsMut, reference, rms_norm_into, rms_norm_residual_into};
use support::{Race, SHAPES, Timed, check, numbers, tensor};

fn bench<E: Timed>(c: &mut Criterion) {
    for (rows, cols) in SHAPES {
        let x = numbers::<E>(rows * cols);
        let weight = numbers::<E>(cols);
        let options = RmsNorm::default().weight(&weight).eps(1e-5);
        let (mut y, mut sum) = (x.clone(), x.clone());
        let input = Rows::new(&x, rows, cols).unwrap();
        rms_norm_into(input, RowsMut::new(&mut y, rows, cols).unwrap(), &options).unwrap();
        let wide: Vec<f64> = weight.iter().map(|w| w.widen()).collect();
        let exact = reference::rms_norm(&x[..cols], Some(&wide), 0.0, 1e-5);
        check("rms_norm", &y[..cols], exact);
        let (xs, alpha) = (tensor(&x, (rows, cols)), tensor(&weight, cols));
        Race::new::<E>(c, "rms_norm", (rows, cols))
            .slices(|| rms_norm_into(input, RowsMut::new(&mut y, rows, cols)?, &options).map(drop))
            .tensors(
                || evenkeel::candle::ops::rms_norm(&xs, &alpha, 1e-5),
                || candle_nn::ops::rms_norm(&xs, &alpha, 1e-5),
            );
        let residual = input;
        Race::new::<E>(c, "rms_norm_residual", (rows, cols)).slices(|| {
            let out = (RowsMut::new(&mut y, rows, cols)?, RowsMut::new(&mut sum, rows, cols)?);
            rms_norm_residual_into(input, residual, out.0, out.1, &options).map(drop)
        });
    }
}

fn main() {
    let c = &mut support::criterion();
    each_dtype!(c, bench);
    c.final_summary();
}
