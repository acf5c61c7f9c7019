//! Benchmark of `clip_grad_norm` against the composition of candle's ops that training loops use for clipping.

use crate::support::{Timed, numbers, shapes, tensor};
use candle_core::{DType, Result, Tensor};
use criterion::{Criterion, Throughput};
use evenkeel::reference::{self, Real};
use evenkeel::{ClipGradNorm, Element, NormType, clip_grad_norm};

fn composed(xs: &Tensor) -> Result<Tensor> {
    let norm = xs.sqr()?.sum_all()?.to_dtype(DType::F64)?.to_scalar::<f64>()?.sqrt();
    xs.affine((1.0 / (norm + 1e-6)).min(1.0), 0.0)
}

fn bench<E: Timed>(c: &mut Criterion) {
    for (rows, cols) in shapes() {
        let mut x = numbers::<E>(rows * cols);
        let norm = clip_grad_norm(&mut [(&mut x.clone()).into()], &ClipGradNorm::new(1.0)).unwrap();
        let exact = reference::grad_norm(&[(&x).into()], NormType::Two).to_f64();
        assert!(
            (norm / exact - 1.0).abs() < 1e-15,
            "clip_grad_norm of {rows}x{cols}: expected a norm of {exact}, got {norm}"
        );
        let xs = tensor(&x, (rows, cols));
        let mut group = c.benchmark_group(format!("clip_grad_norm/{}/{rows}x{cols}", <E as Element>::DTYPE));
        group.throughput(Throughput::Elements((rows * cols) as u64));
        // Clipping overwrites the gradient, so after one call the gradient's norm is within the limit. The limit
        // decreases slightly in each iteration, so that every call scales the gradient.
        let mut limit = 1.0;
        group.bench_function("slices", |b| {
            b.iter(|| {
                limit *= 1.0 - 1e-6;
                clip_grad_norm(&mut [(&mut x).into()], &ClipGradNorm::new(limit)).unwrap()
            })
        });
        if composed(&xs).is_ok() {
            group.bench_function("candle", |b| b.iter(|| composed(&xs).unwrap()));
        }
        group.finish();
    }
}

pub fn run(c: &mut Criterion) {
    each_dtype!(c, bench);
}
