//! Benchmark of `inspect` and `finite` against a composition of candle's ops. The composition computes only minimum,
//! maximum, mean and standard deviation.

use crate::support::{Timed, numbers, shapes, tensor};
use candle_core::{Result, Tensor};
use criterion::{Criterion, Throughput};
use evenkeel::reference::{self, Real};
use evenkeel::{Element, finite, inspect};

fn composed(xs: &Tensor) -> Result<[Tensor; 4]> {
    let mean = xs.mean_all()?;
    let std = xs.broadcast_sub(&mean)?.sqr()?.mean_all()?.sqrt()?;
    Ok([xs.min_all()?, xs.max_all()?, mean, std])
}

fn bench<E: Timed>(c: &mut Criterion) {
    for (rows, cols) in shapes() {
        let x = numbers::<E>(rows * cols);
        let few = inspect(&x[..cols]).unwrap();
        let exact = reference::inspect(&x[..cols]).unwrap()[1].to_f64();
        assert!(
            (few.std / exact - 1.0).abs() < 1e-15,
            "inspect of {cols} values: expected a standard deviation of {exact}, got {}",
            few.std
        );
        let xs = tensor(&x, (rows, cols));
        let mut group = c.benchmark_group(format!("inspect/{}/{rows}x{cols}", <E as Element>::DTYPE));
        group.throughput(Throughput::Elements((rows * cols) as u64));
        group.bench_function("finite", |b| b.iter(|| finite(&x).unwrap()));
        group.bench_function("slices", |b| b.iter(|| inspect(&x).unwrap()));
        if composed(&xs).is_ok() {
            group.bench_function("candle", |b| b.iter(|| composed(&xs).unwrap()));
        }
        group.finish();
    }
}

pub fn run(c: &mut Criterion) {
    each_dtype!(c, bench);
}
