//! Benchmark of the cross-entropy and its gradient against candle's loss and autograd.

use crate::support::{Timed, numbers, shapes, tensor, to_run};
use candle_core::{Device, Result, Tensor, Var};
use criterion::{Criterion, Throughput};
use evenkeel::candle::loss;
use evenkeel::reference;
use evenkeel::{
    CrossEntropy, Element, Reduction, Rows, RowsMut, accuracy, cross_entropy_backward, cross_entropy_backward_in_place,
    cross_entropy_backward_into,
};

/// Computes a loss, and returns its gradient with respect to the logits.
fn trained(xs: &Var, loss: impl Fn(&Tensor) -> Result<Tensor>) -> Result<Tensor> {
    let mut grads = loss(xs)?.backward()?;
    grads.remove(xs).ok_or_else(|| candle_core::Error::Msg("no gradient".into()))
}

fn bench<E: Timed>(c: &mut Criterion) {
    let options = CrossEntropy::default();
    for (rows, cols) in to_run([shapes(), vec![(64, 128_256)]].concat()) {
        let x = numbers::<E>(rows * cols);
        let targets: Vec<i64> = (0..rows).map(|r| (r * 977 % cols) as i64).collect();
        let view = Rows::new(&x, rows, cols).unwrap();
        let sum = options.reduction(Reduction::Sum);
        let (_, first) = cross_entropy_backward(view, &targets, &[1.0], &sum).unwrap();
        let (exact, _) = reference::cross_entropy_backward(&x[..cols], targets[0] as usize, &options, [1.0; 2]);
        let bound = accuracy::bound("cross_entropy_backward", <E as Element>::DTYPE).unwrap().ulps;
        for (got, exact) in first.iter().zip(exact) {
            assert!(evenkeel::testing::ulp::error(*got, exact) <= bound);
        }
        let ts = Tensor::new(targets.as_slice(), &Device::Cpu).unwrap();
        let xs = Var::from_tensor(&tensor(&x, (rows, cols))).unwrap();
        let name = format!("cross_entropy_backward/{}/{rows}x{cols}", <E as Element>::DTYPE);
        let mut group = c.benchmark_group(name);
        group.throughput(Throughput::Elements((rows * cols) as u64));
        let mut y = x.clone();
        group.bench_function("copy", |b| b.iter(|| y.copy_from_slice(std::hint::black_box(&x))));
        group.bench_function("slices", |b| {
            b.iter(|| {
                let out = RowsMut::new(&mut y, rows, cols).unwrap();
                cross_entropy_backward_into(view, &targets, &[1.0], out, &options).map(drop)
            })
        });
        // Each call overwrites its logits with their gradients. So each iteration uses the previous gradients as
        // logits.
        let mut z = x.clone();
        group.bench_function("in place", |b| {
            b.iter(|| {
                let logits = RowsMut::new(&mut z, rows, cols).unwrap();
                cross_entropy_backward_in_place(logits, &targets, &[1.0], &options)
            })
        });
        group.bench_function("drop-in", |b| b.iter(|| trained(&xs, |xs| loss::cross_entropy(xs, &ts)).unwrap()));
        let theirs = || trained(&xs, |xs| candle_nn::loss::cross_entropy(xs, &ts));
        if theirs().is_ok() {
            group.bench_function("candle", |b| b.iter(|| theirs().unwrap()));
        }
        group.finish();
    }
}

pub fn run(c: &mut Criterion) {
    each_dtype!(c, bench);
}
