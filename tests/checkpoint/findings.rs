//! Tests of findings: their thresholds and messages.

use crate::write::{Tensor, inspect, normals, safetensors};
use evenkeel::checkpoint::{Finding, Level, Thresholds};

fn found_with(thresholds: Thresholds, tensors: &[Tensor]) -> Vec<Finding> {
    thresholds.findings(&inspect(&safetensors(tensors)).expect("the test's safetensors file must be valid"))
}

fn found(tensor: Tensor) -> Vec<(Level, &'static str)> {
    let findings = found_with(Thresholds::default(), &[tensor]);
    findings.iter().map(|finding| (finding.level, finding.about)).collect()
}

fn f32(name: &str, values: &[f64]) -> Tensor {
    Tensor::floats(name, "F32", &[values.len() as u64], values)
}

#[test]
fn nothing_of_plain_weights() {
    let values = normals(1, 4096, 0.05);
    assert_eq!(found(Tensor::floats("up.weight", "BF16", &[64, 64], &values)), []);
    assert_eq!(found(f32("model.norm.weight", &[1.0, 1.5, 3.0])), []);
}

#[test]
fn what_is_not_finite() {
    assert_eq!(found(f32("x", &[1.0, f64::NAN])), [(Level::Error, "nan")]);
    assert_eq!(found(f32("x", &[1.0, 2.0, f64::INFINITY])), [(Level::Error, "infinite")]);
    let mut thresholds = Thresholds::default();
    thresholds.nan = 1.0;
    assert_eq!(found_with(thresholds, &[f32("x", &[1.0, 2.0, f64::NAN])]), []);
}

#[test]
fn what_does_not_fit() {
    let large = f32("x", &[1.0, 7e4]);
    assert_eq!(
        found(large),
        [(Level::Warning, "f16_overflow"), (Level::Note, "e4m3_overflow"), (Level::Note, "e5m2_overflow")]
    );
    let mut values = vec![1.0; 98];
    values.extend([1e-9, 1e-9]);
    assert_eq!(found(f32("x", &values)), [(Level::Warning, "f16_underflow")]);
    assert_eq!(found(f32("x", &[1.0, 1e-39])).first(), Some(&(Level::Warning, "subnormal")));
    let beyond_bf16 = Tensor::floats("x", "F64", &[2], &[1.0, 1e39]);
    assert!(found(beyond_bf16).contains(&(Level::Warning, "bf16_overflow")));
}

#[test]
fn constants() {
    let zeros = |name, shape: &[u64]| Tensor::floats(name, "F32", shape, &[0.0; 4]);
    assert_eq!(found(zeros("x.weight", &[2, 2])), [(Level::Warning, "constant")]);
    assert_eq!(found(zeros("x.bias", &[4])), [(Level::Note, "constant")]);
    assert_eq!(found(f32("model.norm.weight", &[1.0, 1.0])), [(Level::Note, "constant")]);
    assert_eq!(found(f32("scale", &[2.0])), []);
}

/// Generates 128 values with this mean and standard deviation. One of the values is `max`.
fn with_statistics(mean: f64, std: f64, max: f64) -> Vec<f64> {
    let n = 128.0;
    // All other values are `rest` plus or minus `spread`, which gives the requested mean and standard deviation.
    let rest = (mean * n - max) / (n - 1.0);
    let squares = (n * (std * std + mean * mean) - max * max) / (n - 1.0);
    let spread = (squares - rest * rest).max(0.0).sqrt();
    let mut values = vec![max];
    values.extend((0..126).map(|i| if i % 2 == 0 { rest + spread } else { rest - spread }));
    values.push(rest);
    values
}

/// Checks weights with the statistics of the K-norms of Qwen3-0.6B's first two layers.
#[test]
fn extreme_qk_norms_are_named() {
    let layers = [("0", 3.56, 9.13, 96.5), ("1", 2.34, 3.98, 44.5)];
    for (layer, mean, std, max) in layers {
        let name = format!("model.layers.{layer}.self_attn.k_norm.weight");
        let tensor = Tensor::floats(&name, "BF16", &[128], &with_statistics(mean, std, max));
        let inspected = inspect(&safetensors(&[tensor])).expect("the test's safetensors file must be valid");
        let stats = inspected[0].stats.as_ref().expect("a BF16 tensor must have statistics");
        assert!(
            (stats.mean / mean - 1.0).abs() < 0.02 && (stats.std / std - 1.0).abs() < 0.02,
            "{name}: expected mean {mean} and std {std}, got {stats:?}"
        );
        let findings = Thresholds::default().findings(&inspected);
        let [finding] = findings.as_slice() else { panic!("{name}: expected one finding, got {findings:?}") };
        assert_eq!((finding.level, finding.about, finding.value), (Level::Warning, "norm_max", max));
        assert_eq!(finding.tensor, name);
        for words in
            ["extreme QK-norm weights", &format!("max |w| {max}"), "this is normal", "clamping them changes the model"]
        {
            assert!(
                finding.message.contains(words),
                "the message about {name} must contain {words:?}, got {}",
                finding.message
            );
        }
    }
}

#[test]
fn other_norms_are_named_without_that_note() {
    let findings = found_with(Thresholds::default(), &[f32("model.layers.0.input_layernorm.weight", &[20.0, 0.5])]);
    assert_eq!(findings.len(), 1);
    assert!(
        findings[0].message.contains("extreme norm weights: max |w| 20, rms 14.1"),
        "the message must contain `extreme norm weights: max |w| 20, rms 14.1`, got: {}",
        findings[0].message
    );
    assert!(!findings[0].message.contains("QK-norm"));
    assert_eq!(found(f32("blk.3.attn_norm.weight", &[9.0, 10.0])), [(Level::Warning, "norm_rms")]);
}

#[test]
fn embeddings() {
    let unit = Tensor::floats("model.embed_tokens.weight", "F32", &[64, 64], &normals(5, 4096, 0.125));
    let findings = found_with(Thresholds::default(), &[unit]);
    assert_eq!((findings[0].level, findings[0].about), (Level::Note, "embedding_near"));
    assert!(
        findings[0].message.contains("times 1/sqrt(64), so their norm is near 1"),
        "the message must contain `times 1/sqrt(64), so their norm is near 1`, got: {}",
        findings[0].message
    );
    let large = Tensor::floats("token_embd.weight", "F32", &[64, 64], &normals(5, 4096, 20.0));
    let findings = found_with(Thresholds::default(), &[large]);
    assert_eq!((findings[0].level, findings[0].about), (Level::Warning, "embedding_rms"));
    assert!(findings[1].message.contains("so their norm is not near 1"));
}
