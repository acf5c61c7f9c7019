//! `log` beside candle's.

mod support;

use criterion::Criterion;
use evenkeel::{log_into, reference};
use support::{Race, SHAPES, Timed, check, numbers, tensor};

fn bench<E: Timed>(c: &mut Criterion) {
    for (rows, cols) in SHAPES {
        let x: Vec<E> = numbers::<E>(rows * cols).into_iter().map(|x| E::from_wide(x.widen().exp())).collect();
        let mut y = x.clone();
        log_into(&x, y.as_mut_slice()).unwrap();
        check("log", &y[..cols], x[..cols].iter().map(|&x| reference::log(x)));
        let xs = tensor(&x, (rows, cols));
        Race::new::<E>(c, "log", (rows, cols))
            .slices(|| log_into(&x, y.as_mut_slice()).map(drop))
            .tensors(|| Ok(evenkeel::candle::guarded::log(&xs)?), || xs.log());
    }
}

fn main() {
    let c = &mut support::criterion();
    each_dtype!(c, bench);
    c.final_summary();
}
