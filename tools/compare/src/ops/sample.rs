//! Sampling of a token from each row of logits, with the filters of chat models. The competitors are candle's
//! LogitsProcessor and llm-samplers.

use super::{Op, Results, shapes};
use crate::contender::Contender;
use crate::float::Float;
use crate::inputs::Distribution;
use crate::peers::Rten;
use crate::problem::{Problem, Shape};
use anyhow::Result;
use candle_core::{Device, Tensor};
use candle_transformers::generation::{LogitsProcessor, Sampling};
use evenkeel::{Draw, Request, Rows, SamplerConfig, reference, sample_rows_into};
use llm_samplers::prelude::*;
use rand::{SeedableRng, rngs::StdRng};

/// Defines an op by its name, its inputs, evenkeel's configuration, candle's configuration, and llm-samplers' chain.
macro_rules! sampling {
    ($($Op:ident $name:literal $inputs:ident $config:expr, $candle:expr, $chain:expr;)*) => {$(
        pub struct $Op;

        impl Op for $Op {
            const NAME: &'static str = $name;
            const BOUND: &'static str = "sample";
            const INPUTS: Distribution = Distribution::$inputs;
            const RESULTS: Results = Results::Tokens;
            const DTYPES: &'static [&'static str] = &["f32"];
            const SHAPES: &'static [Shape] = shapes::LOGITS;

            fn exact<E: Float>(problem: &Problem<E>, row: usize) -> Vec<f64> {
                let support = reference::sample(problem.row(problem.x(), row), &$config);
                support.map_or(Vec::new(), |support| support.tokens.into_iter().map(f64::from).collect())
            }

            fn contenders<'a, E: Float>(
                problem: &'a Problem<E>,
                _: Option<&'a Rten>,
            ) -> Result<Vec<Contender<'a, E>>> {
                contenders(problem, $config, $candle, $chain)
            }
        }
    )*};
}

sampling! {
    Argmax "sample_argmax" Normal whole().temperature(0.0), Some(Sampling::ArgMax),
        SamplerChain::new() + SampleGreedy::new();
    All "sample_all" Normal whole(), Some(Sampling::All { temperature: 1.0 }),
        SamplerChain::new() + SampleRandDistrib::new();
    TopK "sample_top_k" Normal whole().top_k(50), Some(CANDLE_TOP_K), top_k();
    TopKFlat "sample_top_k_flat" Flat whole().top_k(50), Some(CANDLE_TOP_K), top_k();
    TopP "sample_top_p" Normal whole().top_p(0.9), Some(CANDLE_TOP_P), top_p();
    TopPFlat "sample_top_p_flat" Flat whole().top_p(0.9), Some(CANDLE_TOP_P), top_p();
    TopPPeaked "sample_top_p_peaked" Peaked whole().top_p(0.9), Some(CANDLE_TOP_P), top_p();
    TopKTopP "sample_top_k_top_p" Normal whole().top_k(50).top_p(0.9),
        Some(Sampling::TopKThenTopP { k: 50, p: 0.9, temperature: 1.0 }),
        SamplerChain::new() + SampleTopK::new(50, 1) + SampleTopP::new(0.9, 1) + SampleRandDistrib::new();
    MinP "sample_min_p" Normal whole().min_p(0.05), None, min_p();
    MinPFlat "sample_min_p_flat" Flat whole().min_p(0.05), None, min_p();
    MinPPeaked "sample_min_p_peaked" Peaked whole().min_p(0.05), None, min_p();
}

fn whole() -> SamplerConfig {
    SamplerConfig::default()
}

const CANDLE_TOP_K: Sampling = Sampling::TopK { k: 50, temperature: 1.0 };
const CANDLE_TOP_P: Sampling = Sampling::TopP { p: 0.9, temperature: 1.0 };

fn top_k() -> SamplerChain {
    SamplerChain::new() + SampleTopK::new(50, 1) + SampleRandDistrib::new()
}

fn top_p() -> SamplerChain {
    SamplerChain::new() + SampleTopP::new(0.9, 1) + SampleRandDistrib::new()
}

fn min_p() -> SamplerChain {
    SamplerChain::new() + SampleMinP::new(0.05, 1) + SampleRandDistrib::new()
}

fn contenders<'a, E: Float>(
    problem: &'a Problem<E>,
    config: SamplerConfig,
    candle: Option<Sampling>,
    mut chain: SamplerChain,
) -> Result<Vec<Contender<'a, E>>> {
    let (x, rows, cols) = (problem.x(), problem.rows(), problem.cols());
    let input = Rows::new(x, rows, cols)?;
    let sampler = config.validate()?;
    let (mut step, mut drawn) = (0, Vec::with_capacity(rows));
    let mut resources = SimpleSamplerResources::new(Some(Box::new(StdRng::seed_from_u64(1))), None);
    let mut contenders = vec![
        Contender::try_into("evenkeel", move |y: &mut [E]| {
            step += 1;
            let request =
                |row| Request { sampler: &sampler, step: Draw { seed: 1, row: row as u64, draw: step }.into() };
            sample_rows_into(input, None, request, &mut drawn)?;
            for (y, sampled) in y.iter_mut().zip(drawn.drain(..)) {
                *y = E::from_wide(sampled?.token.into());
            }
            Ok::<(), evenkeel::Error>(())
        }),
        Contender::trying("llm-samplers", move |y: &mut [E]| {
            for (x, y) in x.chunks_exact(cols).zip(y) {
                let mut logits = Logits::try_from_iter(x.iter().map(|x| x.single()))?;
                let token = chain.sample_token(&mut resources, &mut logits)?;
                *y = token.map_or(E::NAN, |token| E::from_wide(token.into()));
            }
            Ok(())
        }),
    ];
    if let Some(sampling) = candle {
        let mut processor = LogitsProcessor::from_sampling(1, sampling);
        let rows =
            x.chunks_exact(cols).map(|x| Tensor::new(x, &Device::Cpu)).collect::<candle_core::Result<Vec<_>>>()?;
        contenders.push(Contender::trying("candle", move |y: &mut [E]| {
            for (x, y) in rows.iter().zip(y) {
                *y = E::from_wide(processor.sample(x)?.into());
            }
            Ok(())
        }));
    }
    Ok(contenders)
}
