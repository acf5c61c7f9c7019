//! Tests of the conformance suite for samplers. The suite must find defects in candle-transformers' LogitsProcessor,
//! and none in Evenkeel's sampler.

use candle_core::{Device, Tensor};
use candle_transformers::generation::{LogitsProcessor, Sampling};
use evenkeel::testing::conformance::{self, Defect, Filter};
use evenkeel::{Draw, SamplerConfig};

/// Converts the settings to candle's type.
fn sampling(settings: &SamplerConfig) -> Sampling {
    let temperature = settings.temperature;
    match (settings.top_k, settings.top_p) {
        _ if temperature == 0.0 => Sampling::ArgMax,
        (None, None) => Sampling::All { temperature },
        (Some(k), None) => Sampling::TopK { k, temperature },
        (None, Some(p)) => Sampling::TopP { p, temperature },
        (Some(k), Some(p)) => Sampling::TopKThenTopP { k, p, temperature },
    }
}

#[test]
fn candles_cut_is_not_renormalised_and_its_argmax_takes_nan() {
    let report = conformance::sampler(&[Filter::TopK, Filter::TopP], |logits: &[f32], settings, seed| {
        let logits = Tensor::from_slice(logits, logits.len(), &Device::Cpu)?;
        LogitsProcessor::from_sampling(seed, sampling(settings)).sample(&logits)
    });
    println!("{report}");
    for defect in [Defect::UnrenormalisedCut, Defect::AcceptsNan, Defect::AcceptsNothing] {
        assert!(report.has(defect), "expected the defect {defect} in the report on candle's sampler, got {report}");
    }
}

#[test]
fn nothing_is_found_in_evenkeels() {
    conformance::sampler(Filter::ALL, |logits: &[f32], settings, seed| {
        let draw = Draw { seed, row: 0, draw: 0 };
        settings.validate()?.sample(logits, draw).map(|sampled| sampled.token)
    })
    .assert_clean();
}
