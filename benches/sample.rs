//! Benchmark of sampling from the logits of a batch, with filters that are common for chat models. It times no
//! competitor, because candle-nn has no sampler with filters. `tools/candle-compat` times the sampler of
//! candle-transformers.

use crate::support::{Timed, numbers, shapes};
use criterion::{Criterion, Throughput};
use evenkeel::{Draw, Element, Rows, SamplerConfig, reference};

fn bench<E: Timed>(c: &mut Criterion) {
    let configs = [
        ("temperature", SamplerConfig::default().temperature(0.7)),
        ("temperature_no_logprob", SamplerConfig::default().temperature(0.7).logprob(false)),
        ("top_k", SamplerConfig::default().temperature(0.7).top_k(50)),
        ("top_p", SamplerConfig::default().temperature(0.7).top_p(0.9)),
        ("chat", SamplerConfig::default().temperature(0.7).top_k(50).top_p(0.9).min_p(0.05)),
    ];
    for (name, config) in configs {
        let sampler = config.validate().unwrap();
        for (rows, cols) in shapes() {
            let logits = numbers::<E>(rows * cols);
            let draws: Vec<Draw> = (0..rows as u64).map(|row| Draw { seed: 1, row, draw: 0 }).collect();
            let input = Rows::new(&logits, rows, cols).unwrap();
            let drawn = sampler.sample_rows(input, None, &draws).unwrap().remove(0).unwrap();
            assert!(reference::sample(&logits[..cols], &config).unwrap().tokens.contains(&drawn.token));
            let mut group = c.benchmark_group(format!("sample/{name}/{}/{rows}x{cols}", <E as Element>::DTYPE));
            group.throughput(Throughput::Elements((rows * cols) as u64));
            group.bench_function("slices", |b| b.iter(|| sampler.sample_rows(input, None, &draws).unwrap()));
            group.finish();
        }
    }
}

/// Times a batch with a model's vocabulary size, on one thread and on all available threads.
fn bench_threads(c: &mut Criterion) {
    const SHAPE: (usize, usize) = (64, 131_072);
    let logits = numbers::<f32>(SHAPE.0 * SHAPE.1);
    let input = Rows::new(&logits, SHAPE.0, SHAPE.1).unwrap();
    let draws: Vec<Draw> = (0..SHAPE.0 as u64).map(|row| Draw { seed: 1, row, draw: 0 }).collect();
    let all = std::thread::available_parallelism().map_or(1, usize::from);
    for (name, config) in [
        ("temperature", SamplerConfig::default().temperature(0.7)),
        ("top_k", SamplerConfig::default().temperature(0.7).top_k(50)),
        ("top_p", SamplerConfig::default().temperature(0.7).top_p(0.9)),
    ] {
        let sampler = config.validate().unwrap();
        let mut group = c.benchmark_group(format!("sample/{name}/f32/{}x{}", SHAPE.0, SHAPE.1));
        group.throughput(Throughput::Elements((SHAPE.0 * SHAPE.1) as u64));
        for threads in if all > 1 { vec![1, all] } else { vec![1] } {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            group.bench_function(format!("{threads} threads"), |b| {
                b.iter(|| pool.install(|| sampler.sample_rows(input, None, &draws).unwrap()))
            });
        }
        group.finish();
    }
}

pub fn run(c: &mut Criterion) {
    each_dtype!(c, bench);
    bench_threads(c);
}
