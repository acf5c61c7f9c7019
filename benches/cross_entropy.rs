//! Benchmark of `cross_entropy` against candle's function of that name.

use crate::support::{Timed, numbers, shapes, tensor, to_run};
use candle_core::{DType, Device, Result, Tensor};
use criterion::{Criterion, Throughput};
use evenkeel::candle::guarded;
use evenkeel::reference::{self, Real};
use evenkeel::{CrossEntropy, Element, Rows, cross_entropy};

fn bench<E: Timed>(c: &mut Criterion) {
    let options = CrossEntropy::default();
    // The last shape is typical of a language model: 64 rows of logits for a vocabulary of 128,256 tokens.
    for (rows, cols) in to_run([shapes(), vec![(64, 128_256)]].concat()) {
        let x = numbers::<E>(rows * cols);
        let targets: Vec<i64> = (0..rows).map(|r| (r * 977 % cols) as i64).collect();
        let view = Rows::new(&x, rows, cols).unwrap();
        let exact: f64 = x
            .chunks(cols)
            .zip(&targets)
            .map(|(row, &target)| reference::cross_entropy(row, target as usize, &options)[0].to_f64())
            .sum::<f64>()
            / rows as f64;
        let loss = cross_entropy(view, &targets, &options).unwrap().value();
        let dtype = <E as Element>::DTYPE;
        println!("cross_entropy in {dtype}: relative error {:.1e}", (loss / exact - 1.0).abs());
        assert!((loss / exact - 1.0).abs() < 2e-7);
        let (xs, ts) = (tensor(&x, (rows, cols)), Tensor::new(targets.as_slice(), &Device::Cpu).unwrap());
        let theirs = || -> Result<Tensor> { candle_nn::loss::cross_entropy(&xs, &ts) };
        let mut group = c.benchmark_group(format!("cross_entropy/{dtype}/{rows}x{cols}"));
        group.throughput(Throughput::Elements((rows * cols) as u64));
        let mut copy = x.clone();
        group.bench_function("copy", |b| b.iter(|| copy.copy_from_slice(std::hint::black_box(&x))));
        group.bench_function("slices", |b| b.iter(|| cross_entropy(view, &targets, &options).unwrap()));
        group.bench_function("guarded", |b| b.iter(|| guarded::cross_entropy(&xs, &ts, &options).unwrap()));
        match theirs().and_then(|loss| loss.to_dtype(DType::F64)?.to_scalar::<f64>()) {
            Ok(loss) => {
                println!("cross_entropy in {dtype}: relative error of candle {:.1e}", (loss / exact - 1.0).abs());
                group.bench_function("candle", |b| b.iter(|| theirs().unwrap()));
            }
            Err(refused) => println!("candle does not support it: {refused}"),
        }
        group.finish();
    }
}

pub fn run(c: &mut Criterion) {
    each_dtype!(c, bench);
}
