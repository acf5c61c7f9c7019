//! Sampling from rows of logits: returns the distributions, and draws tokens. A draw depends only on the distribution,
//! the seed, the row and the draw's index.

use crate::answer::Failure;
use crate::call::{Call, Result, Results};
use crate::tensors::{MaskInput, Output, each_type};
use evenkeel::{Distribution, Draw, Error, Profile, Rows, Sampler, SamplerConfig, Step};

/// Largest total number of draws over all rows. This number of drawn tokens takes 2 GiB as I64.
const MOST_DRAWS: i128 = 1 << 28;

pub fn sample(call: &Call<'_>) -> Result<Results> {
    let (logits, mask, history) = (call.float("logits")?, call.mask()?, call.optional_integers("history")?);
    let &[rows, cols] = logits.shape.as_slice() else {
        return Err(call.shape("logits", &logits.shape, "it must have 2 axes: rows and tokens"));
    };
    call.broadcasts(mask.as_ref(), &logits.shape)?;
    let histories = histories(call, history, rows, cols)?;
    let sampler = sampler(call)?;
    let seed = call.whole("seed", 0..=u64::MAX as i128)?.unwrap_or(0) as u64;
    let draws = call.whole("draws", 1..=MOST_DRAWS / rows.max(1) as i128)?.unwrap_or(1) as usize;
    let mask = mask.as_ref().map(MaskInput::mask);
    let distributions = |draw: usize| {
        let steps: Vec<Step<'_>> = (histories.iter().enumerate())
            .map(|(row, history)| Step::from(Draw { seed, row: row as u64, draw: draw as u64 }).output(history))
            .collect();
        each_type!(&logits.values, values => {
            all(sampler.distributions(Rows::shaped(values, &logits.shape)?, mask.as_ref(), &steps)?)
        })
    };
    let first = distributions(0)?;

    let mut results = Results::new();
    if call.wants("probs") {
        let mut probs = Vec::with_capacity(rows * cols);
        for distribution in &first {
            probs.extend(distribution.probs()?.into_iter().map(|p| p as f32));
        }
        results.push(("probs", Output::new(&[rows, cols], &probs)));
    }
    if call.wants("tokens") || call.wants("logprobs") {
        let (mut tokens, mut logprobs) = (vec![0i64; rows * draws], vec![0f32; rows * draws]);
        // XTC excludes tokens at random, separately for each drawn token. So each drawn token has its own distribution.
        let tosses = sampler.config().xtc_probability > 0.0;
        let mut other;
        for draw in 0..draws {
            let mut these = &first;
            if tosses && draw > 0 {
                other = distributions(draw)?;
                these = &other;
            }
            for (row, distribution) in these.iter().enumerate() {
                let sampled = distribution.draw(Draw { seed, row: row as u64, draw: draw as u64 });
                tokens[row * draws + draw] = i64::from(sampled.token);
                logprobs[row * draws + draw] = sampled.logprob as f32;
            }
        }
        results.push(("tokens", Output::new(&[rows, draws], &tokens)));
        results.push(("logprobs", Output::new(&[rows, draws], &logprobs)));
    }
    Ok(results)
}

/// Returns each row's history of tokens. All histories are empty if the input `history` is missing.
fn histories(
    call: &Call<'_>,
    history: Option<(Vec<usize>, Vec<i64>)>,
    rows: usize,
    cols: usize,
) -> Result<Vec<Vec<u32>>> {
    let Some((shape, ids)) = history else { return Ok(vec![Vec::new(); rows]) };
    let &[batch, len] = shape.as_slice() else {
        return Err(call.shape("history", &shape, "it must have 2 axes: rows and tokens"));
    };
    if batch != rows {
        return Err(call.shape("history", &shape, format!("it must have {rows} rows, one for each row of logits")));
    }
    let token = |(i, id): (usize, &i64)| match u32::try_from(*id) {
        Ok(token) if (token as usize) < cols => Ok(token),
        _ => Err(Failure::invalid(format!(
            "sample: history of row {} has token {id}; tokens must be at least 0 and below {cols}",
            i / len.max(1)
        ))),
    };
    let tokens = ids.iter().enumerate().map(token).collect::<Result<Vec<u32>>>()?;
    Ok(if len == 0 { vec![Vec::new(); rows] } else { tokens.chunks(len).map(<[u32]>::to_vec).collect() })
}

fn sampler(call: &Call<'_>) -> Result<Sampler> {
    let mut config = SamplerConfig::default();
    let profiles: Vec<_> = Profile::ALL.iter().map(|profile| (profile.name(), *profile)).collect();
    config.profile = call.choice("profile", &profiles)?.unwrap_or_default();
    config.temperature = call.number("temperature")?.unwrap_or(config.temperature);
    let least = match config.profile {
        Profile::LlamaCpp => i64::MIN.into(),
        Profile::Vllm => -1,
        _ => 0,
    };
    // In llama.cpp and vLLM, a negative k disables top-k, and so does a k of 0.
    config.top_k = call.whole("top_k", least..=usize::MAX as i128)?.map(|k| k.max(0) as usize);
    config.top_p = call.number("top_p")?;
    config.min_p = call.number("min_p")?;
    config.typical_p = call.number("typical_p")?;
    config.top_n_sigma = call.number("top_n_sigma")?;
    config.epsilon_cutoff = call.number("epsilon_cutoff")?;
    config.eta_cutoff = call.number("eta_cutoff")?;
    config.xtc_probability = call.number("xtc_probability")?.unwrap_or(config.xtc_probability);
    config.xtc_threshold = call.number("xtc_threshold")?.unwrap_or(config.xtc_threshold);
    config.repetition_penalty = call.number("repetition_penalty")?.unwrap_or(config.repetition_penalty);
    config.presence_penalty = call.number("presence_penalty")?.unwrap_or(config.presence_penalty);
    config.frequency_penalty = call.number("frequency_penalty")?.unwrap_or(config.frequency_penalty);
    Ok(config.validate()?)
}

/// Returns the distributions of all rows. If rows fail, returns the error of the first row with a non-finite logit. If
/// no row has a non-finite logit, returns the first error.
fn all(rows: Vec<evenkeel::Result<Distribution>>) -> Result<Vec<Distribution>> {
    let broken = rows.iter().find_map(|row| row.as_ref().err().filter(|e| matches!(e, Error::NonFiniteInput { .. })));
    if let Some(error) = broken {
        return Err(error.clone().into());
    }
    Ok(rows.into_iter().collect::<evenkeel::Result<_>>()?)
}
