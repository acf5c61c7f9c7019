//! Benchmark of drawing a token with candle's and with Evenkeel's LogitsProcessor, on the logits of one step.

use candle_core::{Device, Tensor};
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use evenkeel::testing::workloads;
use std::time::Duration;

/// Times one sampling method with both LogitsProcessors, in one benchmark group.
macro_rules! race {
    ($c:expr, $name:literal, $workload:expr, $sampling:ident $fields:tt) => {{
        let vocabulary = $workload.cols;
        let xs = Tensor::new(workloads::logits::<f32>(vocabulary), &Device::Cpu).unwrap();
        let mut group = $c.benchmark_group(format!("{}/{vocabulary}", $name));
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
    for workload in workloads::VOCABULARIES {
        race!(c, "temperature", workload, All { temperature: 0.7 });
        race!(c, "top_k", workload, TopK { k: 50, temperature: 0.7 });
        race!(c, "top_p", workload, TopP { p: 0.9, temperature: 0.7 });
        race!(c, "top_k_then_top_p", workload, TopKThenTopP { k: 50, p: 0.9, temperature: 0.7 });
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
