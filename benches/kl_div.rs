//! Benchmark of `kl_div` and its gradient against a composition of candle's ops.

use crate::support::{Timed, numbers, shapes, tensor};
use candle_core::Result;
use criterion::{Criterion, Throughput};
use evenkeel::candle::guarded;
use evenkeel::reference::{self, Real};
use evenkeel::{Element, KlDiv, Rows, RowsMut, kl_div, kl_div_backward_into};

fn bench<E: Timed>(c: &mut Criterion) {
    let options = KlDiv::default();
    for (rows, cols) in shapes() {
        let x = numbers::<E>(rows * cols);
        let targets: Vec<E> = (0..rows * cols).map(|i| E::from_wide((1 + i % 3) as f64 / (2 * cols) as f64)).collect();
        let wide: Vec<f64> = targets.iter().map(|t| t.widen()).collect();
        let view = Rows::new(&x, rows, cols).unwrap();
        let of = |(x, p): (&[E], &[f64])| reference::kl_div(x, p, false, 1.0).0.to_f64();
        let exact = x.chunks(cols).zip(wide.chunks(cols)).map(of).sum::<f64>() / rows as f64;
        let loss = kl_div(view, &targets, &options).unwrap().value();
        // The bound covers the error of the reference sum, which is accumulated sequentially in f64.
        let (off, bound) = ((loss / exact - 1.0).abs(), x.len() as f64 * f64::EPSILON);
        assert!(
            off < bound,
            "kl_div of {rows}x{cols}: the relative error of the loss must be below {bound:e}, got {off:e}"
        );
        let (xs, ts) = (tensor(&x, (rows, cols)), tensor(&targets, (rows, cols)));
        let mut group = c.benchmark_group(format!("kl_div/{}/{rows}x{cols}", <E as Element>::DTYPE));
        group.throughput(Throughput::Elements((rows * cols) as u64));
        let mut y = x.clone();
        group.bench_function("copy", |b| b.iter(|| y.copy_from_slice(std::hint::black_box(&x))));
        group.bench_function("slices", |b| b.iter(|| kl_div(view, &targets, &options).unwrap()));
        group.bench_function("with its gradient", |b| {
            b.iter(|| {
                let out = RowsMut::new(&mut y, rows, cols).unwrap();
                kl_div_backward_into(view, &targets, &[1.0], out, &options).map(drop)
            })
        });
        group.bench_function("guarded", |b| b.iter(|| guarded::kl_div(&xs, &ts, &options).unwrap()));
        let theirs = || -> Result<_> { (&ts * (ts.log()? - candle_nn::ops::log_softmax(&xs, 1)?)?)?.sum_all() };
        if theirs().is_ok() {
            group.bench_function("candle", |b| b.iter(|| theirs().unwrap()));
        }
        group.finish();
    }
}

pub fn run(c: &mut Criterion) {
    each_dtype!(c, bench);
}
