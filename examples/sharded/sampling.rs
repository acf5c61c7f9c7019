//! Sampling of tokens.

use crate::hostile::{self, ROWS, cuts};
use crate::table::{Bits, Table};
use evenkeel::{Draw, Element, Mask, Request, Result, Rows, Sampled, SamplerConfig, Step, sample_rows};

/// Returns the bits to compare for each row: the token, its log-probability and the number of kept tokens. For a failed
/// row, returns the error message.
fn cases(drawn: Vec<Result<Sampled>>) -> Vec<Bits> {
    let case = |drawn: Result<Sampled>| match drawn {
        Ok(Sampled { token, logprob, kept, .. }) => vec![token.into(), (logprob + 0.0).to_bits(), kept as u64],
        Err(error) => error.to_string().bytes().map(u64::from).collect(),
    };
    drawn.into_iter().map(case).collect()
}

pub fn run<E: Element>(table: &mut Table<'_>, all: usize) -> anyhow::Result<()> {
    let plain = SamplerConfig::default();
    let configs = [
        plain,
        plain.temperature(0.0),
        plain.temperature(0.8).top_k(40),
        plain.top_p(0.9),
        plain.min_p(0.05),
        plain.epsilon_cutoff(0.001),
        plain.repetition_penalty(1.3).presence_penalty(0.5).frequency_penalty(0.2).top_p(0.95),
    ];
    // The history has tokens of several ranks. A token is its index in the whole vocabulary, not in a rank's shard.
    let history: Vec<u32> = [0, 1, 3, 5, 5, 6, 7].map(|eighth| (eighth * all / 8) as u32).to_vec();
    let (prompt, output) = history.split_at(3);
    let bias: Vec<(u32, f32)> =
        history.iter().zip([3.0, -100.0, 2.5, 1.0]).map(|(token, bias)| (*token, bias)).collect();
    let allowed: Vec<u32> = (0..all.div_ceil(32)).map(|word| if word % 3 == 1 { 0 } else { 0x5bd1_e995 }).collect();
    let bad_words = [vec![history[1]], vec![history[6], history[2]]];
    let of_row = hostile::scores::<E>(all);
    let mut x = Vec::new();
    let (mut samplers, mut steps) = (Vec::new(), Vec::new());
    for (i, config) in configs.iter().enumerate() {
        x.extend_from_slice(&of_row);
        samplers.push(config.validate()?);
        steps.extend((0..ROWS).map(|row| {
            let step = Step::from(Draw { seed: 7, row: row as u64, draw: i as u64 });
            let step = if i % 2 == 0 { step.prompt(prompt).output(output).bias(&bias) } else { step };
            if row % 3 == 1 { step.allowed(&allowed).bad_words(&bad_words) } else { step }
        }));
    }
    let requests: Vec<Request<'_>> =
        steps.iter().enumerate().map(|(i, step)| Request { sampler: &samplers[i / ROWS], step: *step }).collect();
    // In each group of 8 rows, the mask excludes half of the tokens in row 3, all tokens in row 7, and a third of the
    // tokens in each other row.
    let keep: Vec<bool> = (0..requests.len() * all)
        .map(|at| match (at / all % ROWS, at % all) {
            (3, i) => i >= all / 2,
            (row, i) => row + 1 < ROWS && i % 3 != 1,
        })
        .collect();
    let added: Vec<f32> = (0..all).map(|i| -0.01 * i as f32).collect();
    let masks = [Mask::none(), Mask::keep(&keep, &[requests.len(), all]), Mask::bias(&added, &[all])];
    let rows = Rows::new(&x, requests.len(), all)?;
    let cuts = cuts(table.rank.size, all, 1);
    table.line::<E>("sample", |line| {
        masks.iter().try_for_each(|mask| {
            let whole = sample_rows(rows, Some(mask), &requests).map(cases);
            line.dealt(
                (&x, all),
                &cuts,
                |_| whole.clone(),
                |shard, x, _| shard.sample(x, Some(mask), &requests).map(cases),
            )
        })
    })
}
