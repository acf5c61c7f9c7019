//! Benchmark of `bce_with_logits` and its gradient against candle's loss.

use crate::support::{Timed, numbers, shapes, tensor};
use criterion::{Criterion, Throughput};
use evenkeel::candle::guarded;
use evenkeel::reference::{self, Real};
use evenkeel::{BceWithLogits, Element, Rows, RowsMut, bce_with_logits, bce_with_logits_backward_into};

fn bench<E: Timed>(c: &mut Criterion) {
    let options = BceWithLogits::default();
    for (rows, cols) in shapes() {
        let x = numbers::<E>(rows * cols);
        let targets: Vec<E> = (0..rows * cols).map(|i| E::from_wide((i % 3) as f64 / 2.0)).collect();
        let view = Rows::new(&x, rows, cols).unwrap();
        let of = |(x, y): (&E, &E)| reference::bce_with_logits(*x, y.widen(), 1.0).to_f64();
        let exact = x.iter().zip(&targets).map(of).sum::<f64>() / x.len() as f64;
        let loss = bce_with_logits(view, &targets, &options).unwrap().value();
        // The bound covers the error of the reference sum, which is accumulated sequentially in f64.
        let (off, bound) = ((loss / exact - 1.0).abs(), x.len() as f64 * f64::EPSILON);
        assert!(
            off < bound,
            "bce_with_logits of {rows}x{cols}: the relative error of the loss must be below {bound:e}, got {off:e}"
        );
        let (xs, ts) = (tensor(&x, (rows, cols)), tensor(&targets, (rows, cols)));
        let mut group = c.benchmark_group(format!("bce_with_logits/{}/{rows}x{cols}", <E as Element>::DTYPE));
        group.throughput(Throughput::Elements((rows * cols) as u64));
        let mut y = x.clone();
        group.bench_function("copy", |b| b.iter(|| y.copy_from_slice(std::hint::black_box(&x))));
        group.bench_function("slices", |b| b.iter(|| bce_with_logits(view, &targets, &options).unwrap()));
        group.bench_function("with its gradient", |b| {
            b.iter(|| {
                let out = RowsMut::new(&mut y, rows, cols).unwrap();
                bce_with_logits_backward_into(view, &targets, &[1.0], out, &options).map(drop)
            })
        });
        group.bench_function("guarded", |b| b.iter(|| guarded::bce_with_logits(&xs, &ts, &options).unwrap()));
        let theirs = || candle_nn::loss::binary_cross_entropy_with_logit(&xs, &ts);
        if theirs().is_ok() {
            group.bench_function("candle", |b| b.iter(|| theirs().unwrap()));
        }
        group.finish();
    }
}

pub fn run(c: &mut Criterion) {
    each_dtype!(c, bench);
}
