//! A token from each row of logits, by the filters of chat models. Beside evenkeel there is llm-samplers; candle's
//! sampler, which is in candle-transformers, is timed in `adoption`.

use super::{Op, Results, shapes};
use crate::contender::Contender;
use crate::float::Float;
use crate::peers::Rten;
use crate::problem::{Problem, Shape};
use anyhow::Result;
use evenkeel::{Draw, Rows, SamplerConfig, reference};
use llm_samplers::prelude::*;
use rand::{SeedableRng, rngs::StdRng};

/// An op: its name, evenkeel's configuration, and llm-samplers' chain.
macro_rules! sampling {
    ($($Op:ident $name:literal $config:expr, $chain:expr;)*) => {$(
        pub struct $Op;

        impl Op for $Op {
            const NAME: &'static str = $name;
            const BOUND: &'static str = "sample";
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
                contenders(problem, $config, $chain)
            }
        }
    )*};
}

sampling! {
    Argmax "sample_argmax" SamplerConfig::default().temperature(0.0), SamplerChain::new() + SampleGreedy::new();
    TopK "sample_top_k" SamplerConfig::default().top_k(50),
        SamplerChain::new() + SampleTopK::new(50, 1) + SampleRandDistrib::new();
    TopP "sample_top_p" SamplerConfig::default().top_p(0.9),
        SamplerChain::new() + SampleTopP::new(0.9, 1) + SampleRandDistrib::new();
    TopKTopP "sample_top_k_top_p" SamplerConfig::default().top_k(50).top_p(0.9),
        SamplerChain::new() + SampleTopK::new(50, 1) + SampleTopP::new(0.9, 1) + SampleRandDistrib::new();
    MinP "sample_min_p" SamplerConfig::default().min_p(0.05),
        SamplerChain::new() + SampleMinP::new(0.05, 1) + SampleRandDistrib::new();
}

fn contenders<'a, E: Float>(
    problem: &'a Problem<E>,
    config: SamplerConfig,
    mut chain: SamplerChain,
) -> Result<Vec<Contender<'a, E>>> {
    let (x, rows, cols) = (problem.x(), problem.rows(), problem.cols());
    let input = Rows::new(x, rows, cols)?;
    let sampler = config.validate()?;
    let mut draws: Vec<Draw> = (0..rows as u64).map(|row| Draw { seed: 1, row, draw: 0 }).collect();
    let mut resources = SimpleSamplerResources::new(Some(Box::new(StdRng::seed_from_u64(1))), None);
    Ok(vec![
        Contender::try_into("evenkeel", move |y: &mut [E]| {
            draws.iter_mut().for_each(|draw| draw.draw += 1);
            for (y, sampled) in y.iter_mut().zip(sampler.sample_rows(input, None, &draws)?) {
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
    ])
}
