//! Sampling from rows of logits: what they can be drawn from, and keyed draws.

use crate::answer::Failure;
use crate::call::{Call, Result, Results};
use crate::tensors::{MaskInput, Output, each_type};
use evenkeel::{Distribution, Draw, Error, Rows, Sampler, SamplerConfig};

/// Draws in all rows: 2 GiB of tokens.
const MOST_DRAWS: i128 = 1 << 28;

pub fn sample(call: &Call<'_>) -> Result<Results> {
    let (logits, mask) = (call.float("logits")?, call.mask()?);
    let &[rows, cols] = logits.shape.as_slice() else {
        return Err(call.shape("logits", &logits.shape, "2 axes, rows and tokens, are needed"));
    };
    call.broadcasts(mask.as_ref(), &logits.shape)?;
    let sampler = sampler(call)?;
    let seed = call.whole("seed", 0..=u64::MAX as i128)?.unwrap_or(0) as u64;
    let draws = call.whole("draws", 1..=MOST_DRAWS / rows.max(1) as i128)?.unwrap_or(1) as usize;
    let mask = mask.as_ref().map(MaskInput::mask);
    let distributions = each_type!(&logits.values, values => {
        sampler.distributions(Rows::shaped(values, &logits.shape)?, mask.as_ref())?
    });
    let distributions = all(distributions)?;

    let mut results = Results::new();
    if call.wants("probs") {
        let mut probs = Vec::with_capacity(rows * cols);
        for distribution in &distributions {
            probs.extend(distribution.probs()?.into_iter().map(|p| p as f32));
        }
        results.push(("probs", Output::new(&[rows, cols], &probs)));
    }
    if call.wants("tokens") || call.wants("logprobs") {
        let mut tokens = Vec::with_capacity(rows * draws);
        let mut logprobs = Vec::with_capacity(rows * draws);
        for (row, distribution) in distributions.iter().enumerate() {
            for draw in 0..draws {
                let sampled = distribution.draw(Draw { seed, row: row as u64, draw: draw as u64 });
                tokens.push(i64::from(sampled.token));
                logprobs.push(sampled.logprob as f32);
            }
        }
        results.push(("tokens", Output::new(&[rows, draws], &tokens)));
        results.push(("logprobs", Output::new(&[rows, draws], &logprobs)));
    }
    Ok(results)
}

fn sampler(call: &Call<'_>) -> Result<Sampler> {
    const PROFILES: &[(&str, bool)] =
        &[("evenkeel", true), ("hf", false), ("vllm", false), ("llama_cpp", false), ("candle", false)];
    if call.choice("profile", PROFILES)? == Some(false) {
        return Err(Failure::invalid("sample: a profile other than \"evenkeel\" is not supported yet"));
    }
    let mut config = SamplerConfig::default();
    config.temperature = call.number("temperature")?.unwrap_or(config.temperature);
    config.top_k = call.whole("top_k", 1..=usize::MAX as i128)?.map(|k| k as usize);
    config.top_p = call.number("top_p")?;
    config.min_p = call.number("min_p")?;
    Ok(config.validate()?)
}

/// Every row's distribution, or the failure of the lowest row: a NaN anywhere goes before a row without tokens.
fn all(rows: Vec<evenkeel::Result<Distribution>>) -> Result<Vec<Distribution>> {
    let broken = rows.iter().find_map(|row| row.as_ref().err().filter(|e| matches!(e, Error::NonFiniteInput { .. })));
    if let Some(error) = broken {
        return Err(error.clone().into());
    }
    Ok(rows.into_iter().collect::<evenkeel::Result<_>>()?)
}
