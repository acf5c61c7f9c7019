//! A token from candle's LogitsProcessor and from Evenkeel's, on the logits of one step.

use candle_core::{Device, Tensor};
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use std::time::Duration;

/// Logits as a model gives them: most of them low, a few high. The same on every run.
fn logits(vocabulary: usize) -> Tensor {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut uniform = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 11) as f64 / (1u64 << 53) as f64
    };
    let logits: Vec<f32> = (0..vocabulary).map(|_| (2.0 * (0..12).map(|_| uniform()).sum::<f64>() - 12.0) as f32).collect();
    Tensor::new(logits, &Device::Cpu).unwrap()
}

/// A group with both sides of one way to sample.
macro_rules! race {
    ($c:expr, $name:literal, $vocabulary:expr, $sampling:ident $fields:tt) => {{
        let xs = logits($vocabulary);
        let mut group = $c.benchmark_group(format!("{}/{}", $name, $vocabulary));
        {
            use candle_transformers::generation::{LogitsProcessor, Sampling};
            let mut processor = LogitsProcessor::from_sampling(1, Sampling::$sampling $fields);
            group.bench_function(BenchmarkId::from_parameter("candle"), |b| b.iter(|| processor.sample(&xs).unwrap()));
        }
        {
            use evenkeel::candle::generation::{LogitsProcessor, Sampling};
            let mut processor = LogitsProcessor::from_sampling(1, Sampling::$sampling $fields);
            group.bench_function(BenchmarkId::from_parameter("drop-in"), |b| b.iter(|| processor.sample(&xs).unwrap()));
        }
        group.finish();
    }};
}

fn sample(c: &mut Criterion) {
    for vocabulary in [32_000, 128_256] {
        race!(c, "temperature", vocabulary, All { temperature: 0.7 });
        race!(c, "top_k", vocabulary, TopK { k: 50, temperature: 0.7 });
        race!(c, "top_p", vocabulary, TopP { p: 0.9, temperature: 0.7 });
        race!(c, "top_k_then_top_p", vocabulary, TopKThenTopP { k: 50, p: 0.9, temperature: 0.7 });
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(800))
        .without_plots();
    targets = sample
}
criterion_main!(benches);
