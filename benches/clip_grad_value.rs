//! Benchmark of `clip_grad_value` against candle's clamp.

use crate::support::{Timed, numbers, shapes, tensor};
use candle_core::{Result, Tensor};
use criterion::{Criterion, Throughput};
use evenkeel::reference;
use evenkeel::{Element, clip_grad_value};

fn composed(xs: &Tensor) -> Result<Tensor> {
    xs.clamp(-1f64, 1f64)
}

fn bench<E: Timed>(c: &mut Criterion) {
    for (rows, cols) in shapes() {
        let mut x = numbers::<E>(rows * cols);
        let mut y = x.clone();
        clip_grad_value(&mut [(&mut y).into()], 1.0).unwrap();
        assert!(x.iter().zip(&y).all(|(x, y)| y.widen() == reference::clip_grad_value(x.widen(), 1.0)));
        let xs = tensor(&x, (rows, cols));
        let mut group = c.benchmark_group(format!("clip_grad_value/{}/{rows}x{cols}", <E as Element>::DTYPE));
        group.throughput(Throughput::Elements((rows * cols) as u64));

        group.bench_function("slices", |b| b.iter(|| clip_grad_value(&mut [(&mut x).into()], 1.0).unwrap()));
        if composed(&xs).is_ok() {
            group.bench_function("candle", |b| b.iter(|| composed(&xs).unwrap()));
        }
        group.finish();
    }
}

pub fn run(c: &mut Criterion) {
    each_dtype!(c, bench);
}
