//! Functions under test, called with tensors on the CPU.

use candle_core::{Device, Result, Tensor, WithDType};
use evenkeel::testing::conformance::{self, Filter, Report};
use evenkeel::{Draw, Element, SamplerConfig};
use half::{bf16, f16};

/// Report about a function, with the function's Rust path.
pub struct Named {
    pub name: &'static str,
    pub report: Report,
}

/// Storage type that both candle and Evenkeel support.
trait Stored: Element + WithDType {}
impl<E: Element + WithDType> Stored for E {}

/// Calls `f` with the elements of `x` as a tensor `[rows, cols]`, and returns the elements of the result.
fn on_rows<E: Stored>(x: &[E], rows: usize, cols: usize, f: impl FnOnce(Tensor) -> Result<Tensor>) -> Result<Vec<E>> {
    f(Tensor::from_slice(x, (rows, cols), &Device::Cpu)?)?.flatten_all()?.to_vec1()
}

fn constant<E: Stored>(value: f64, cols: usize) -> Result<Tensor> {
    Tensor::full(E::from_wide(value), cols, &Device::Cpu)
}

/// Defines a function that runs the suites of one storage type on the functions of a crate.
macro_rules! engine {
    ($name:ident, $krate:path) => {
        fn $name<E: Stored>(reports: &mut Vec<Named>) {
            use $krate as nn;
            let mut add = |name, report| reports.push(Named { name, report });
            add(
                "ops::softmax_last_dim",
                conformance::softmax(|x: &[E], rows, cols| on_rows(x, rows, cols, |x| nn::ops::softmax_last_dim(&x))),
            );
            add(
                "ops::softmax",
                conformance::softmax(|x: &[E], rows, cols| on_rows(x, rows, cols, |x| nn::ops::softmax(&x, 1))),
            );
            add(
                "ops::log_softmax",
                conformance::log_softmax(|x: &[E], rows, cols| on_rows(x, rows, cols, |x| nn::ops::log_softmax(&x, 1))),
            );
            add(
                "ops::rms_norm",
                conformance::rms_norm(|x: &[E], rows, cols, eps| {
                    on_rows(x, rows, cols, |x| nn::ops::rms_norm(&x, &constant::<E>(1.0, cols)?, eps as f32))
                }),
            );
            add(
                "ops::layer_norm",
                conformance::layer_norm(|x: &[E], rows, cols, eps| {
                    let (weight, bias) = (constant::<E>(1.0, cols)?, constant::<E>(0.0, cols)?);
                    on_rows(x, rows, cols, |x| nn::ops::layer_norm(&x, &weight, &bias, eps as f32))
                }),
            );
            add(
                "loss::cross_entropy",
                conformance::cross_entropy(|x: &[E], rows, cols, targets| -> Result<f64> {
                    let x = Tensor::from_slice(x, (rows, cols), &Device::Cpu)?;
                    let targets = Tensor::from_slice(targets, rows, &Device::Cpu)?;
                    Ok(nn::loss::cross_entropy(&x, &targets)?.to_scalar::<E>()?.widen())
                }),
            );
        }
    };
}

engine!(candle_nn_functions, candle_nn);
engine!(evenkeel_functions, evenkeel::candle);

/// Tests candle's `layer_norm_slow`, which candle's `LayerNorm` uses for non-contiguous tensors.
fn layer_norm_slow<E: Stored>(reports: &mut Vec<Named>) {
    let report = conformance::layer_norm(|x: &[E], rows, cols, eps| {
        let (weight, bias) = (constant::<E>(1.0, cols)?, constant::<E>(0.0, cols)?);
        on_rows(x, rows, cols, |x| candle_nn::ops::layer_norm_slow(&x, &weight, &bias, eps as f32))
    });
    reports.push(Named { name: "ops::layer_norm_slow", report });
}

/// Tests candle-nn. Its only sampler has neither filters nor a seed. `tools/candle-compat` tests the sampler of
/// candle-transformers.
pub fn candle() -> Vec<Named> {
    let mut reports = Vec::new();
    candle_nn_functions::<f64>(&mut reports);
    candle_nn_functions::<f32>(&mut reports);
    candle_nn_functions::<f16>(&mut reports);
    candle_nn_functions::<bf16>(&mut reports);
    layer_norm_slow::<f32>(&mut reports);
    layer_norm_slow::<bf16>(&mut reports);
    let report = conformance::sampler(&[], |logits: &[f32], settings, _| {
        let logits = Tensor::from_slice(logits, logits.len(), &Device::Cpu)?;
        candle_nn::sampling::gumbel_softmax(&logits, settings.temperature, 0)?.to_scalar::<u32>()
    });
    reports.push(Named { name: "sampling::gumbel_softmax", report });
    reports
}

pub fn evenkeel() -> Vec<Named> {
    let mut reports = Vec::new();
    evenkeel_functions::<f64>(&mut reports);
    evenkeel_functions::<f32>(&mut reports);
    evenkeel_functions::<f16>(&mut reports);
    evenkeel_functions::<bf16>(&mut reports);
    let report = conformance::sampler(Filter::ALL, |logits: &[f32], settings: &SamplerConfig, seed| {
        let draw = Draw { seed, row: 0, draw: 0 };
        settings.validate()?.sample(logits, draw).map(|sampled| sampled.token)
    });
    reports.push(Named { name: "Sampler::sample", report });
    reports
}
