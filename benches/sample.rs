//! A token from the logits of a batch, by the filters that chat models are run with. candle-nn has no sampler; that of
//! candle-transformers is timed in `adoption`.

mod support;

use criterion::{Criterion, Throughput};
use evenkeel::{Draw, Element, Rows, SamplerConfig, reference};
use support::{SHAPES, Timed, numbers};

fn bench<E: Timed>(c: &mut Criterion) {
    let configs = [
        ("temperature", SamplerConfig::default().temperature(0.7)),
        ("top_k", SamplerConfig::default().temperature(0.7).top_k(50)),
        ("top_p", SamplerConfig::default().temperature(0.7).top_p(0.9)),
        ("chat", SamplerConfig::default().temperature(0.7).top_k(50).top_p(0.9).min_p(0.05)),
    ];
    for (name, config) in configs {
        let sampler = config.validate().unwrap();
        for (rows, cols) in SHAPES {
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

fn main() {
    let c = &mut support::criterion();
    each_dtype!(c, bench);
    c.final_summary();
}
