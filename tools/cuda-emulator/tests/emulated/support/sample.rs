//! Cases for the sampler.

use super::{Guarded, How};
use evenkeel::cuda::DeviceElement;
use evenkeel::cuda::sample::{self, KEPT_WORDS, Logprob, Outcome, Request};
use evenkeel::{DType, Distribution, Draw, Error, Profile, Rows, SamplerConfig, Step};
use evenkeel_cuda_emulator::Emulator;
use rand::RngExt;
use rand::rngs::StdRng;

/// Counter in memory. A kernel adds it to the index of a draw.
static COUNTED: u64 = 5;

/// Distribution of logits.
#[derive(Clone, Copy, Debug)]
pub enum Logits {
    Normal,
    /// One token has most of the probability.
    Peaked,
    /// A few values, each many times.
    Grid,
    /// Values that differ only in the last digits.
    Flat,
    /// Zeros of both signs, which are equal.
    Zeros,
    /// Values that include NaN, infinities, zeros of both signs, and the largest numbers.
    Hostile,
}

pub const LOGITS: [Logits; 6] =
    [Logits::Normal, Logits::Peaked, Logits::Grid, Logits::Flat, Logits::Zeros, Logits::Hostile];

pub fn logits<E: DeviceElement>(rng: &mut StdRng, kind: Logits, cols: usize) -> Vec<E> {
    let peak = rng.random_range(0..cols);
    let bad = rng.random_range(0..4);
    let all = (0..cols).map(|i| {
        let z = (0..12).map(|_| rng.random::<f64>()).sum::<f64>() - 6.0;
        match kind {
            Logits::Normal => z * 3.0,
            Logits::Peaked if i == peak => 12.0,
            Logits::Peaked => z,
            Logits::Grid => (z * 2.0).round() / 2.0,
            Logits::Flat => 1.0 + z / 4096.0,
            Logits::Zeros => [0.0, -0.0][rng.random_range(0..2)],
            Logits::Hostile if rng.random_bool(0.1) => match bad {
                0 => [f64::NAN, f64::NEG_INFINITY][rng.random_range(0..2)],
                1 => [f64::INFINITY, 0.0][rng.random_range(0..2)],
                2 => [f64::from(f32::MAX), 65504.0, f64::from(f32::MIN)][rng.random_range(0..3)],
                _ => f64::NEG_INFINITY,
            },
            Logits::Hostile => [0.0, -0.0, z, z * 1e-30][rng.random_range(0..4)],
        }
    });
    all.map(E::from_wide).collect()
}

/// Returns random parameters that devices support, with a random [`Profile`].
pub fn config(rng: &mut StdRng, cols: usize) -> SamplerConfig {
    let profile = [Profile::Evenkeel, Profile::HuggingFace, Profile::Vllm, Profile::LlamaCpp, Profile::Candle]
        [rng.random_range(0..5)];
    let mut config = SamplerConfig::default().profile(profile);
    config = config.temperature([0.2, 0.7, 1.0, 1.0, 1.7, 1e6, 1e-6][rng.random_range(0..7)]);
    if rng.random_bool(0.5) {
        config = config.top_k([1, 2, 7, 50, 1 + cols / 2, cols, cols + 5][rng.random_range(0..7)]);
    }
    if rng.random_bool(0.6) {
        config = config.top_p([0.9, 0.5, 0.1, 0.99, 1e-6, 1.0 - 1e-9][rng.random_range(0..6)]);
    }
    if rng.random_bool(0.4) && !matches!(profile, Profile::Candle) {
        config = config.min_p([0.05, 0.5, 1.0, 1e-9][rng.random_range(0..4)]);
    }
    if rng.random_bool(0.1) && !matches!(profile, Profile::HuggingFace) {
        config = config.temperature(0.0);
    }
    config
}

/// Adds penalties to the parameters.
pub fn with_penalties(rng: &mut StdRng, config: SamplerConfig) -> SamplerConfig {
    let mut config = config.repetition_penalty([1.0, 1.3, 0.7][rng.random_range(0..3)]);
    if matches!(config.profile, Profile::Evenkeel | Profile::Vllm | Profile::LlamaCpp) {
        let [presence, frequency] = if config.profile == Profile::Vllm { [-2.0, 2.0] } else { [-1e38, 3e38] };
        config = config.presence_penalty([0.0, 0.5, presence][rng.random_range(0..3)]);
        config = config.frequency_penalty([0.0, 0.3, frequency][rng.random_range(0..3)]);
    }
    config
}

/// Request for one row.
pub struct Asked {
    pub config: SamplerConfig,
    pub draw: Draw,
    pub allowed: Option<Vec<u32>>,
    pub prompt: Vec<u32>,
    pub output: Vec<u32>,
}

/// Runs one case. Fails if its results differ from the CPU's. If `of_logprobs` is an emulator, its kernels compute
/// log-probabilities, which are compared too.
pub fn case<E: DeviceElement>(
    (emulator, of_logprobs): (&Emulator, Option<&Emulator>),
    x: &[E],
    cols: usize,
    asked: &[Asked],
    how: How,
) -> Result<(), String> {
    let rows = asked.len();
    let describe = |found: String| format!("sample {} {rows}x{cols}, {how:?}: {found}", E::DTYPE);
    let samplers: Vec<_> = asked.iter().map(|asked| asked.config.validate().unwrap()).collect();
    let steps: Vec<Step> = (asked.iter())
        .map(|asked| {
            let step = Step::from(asked.draw).prompt(&asked.prompt).output(&asked.output);
            asked.allowed.as_ref().map_or(step, |words| step.allowed(words))
        })
        .collect();
    let requests: Vec<Request> = (asked.iter().zip(&samplers))
        .map(|(asked, sampler)| {
            let list = |tokens: &[u32]| (tokens.as_ptr() as u64, tokens.len() as u32);
            let request = Request::new(sampler, asked.draw).unwrap();
            // SAFETY: the lists and the counter outlive the kernel runs.
            unsafe {
                // In half of the requests, the index of the draw is the sum of `draw` and a counter in memory.
                let request = match asked.draw.draw % 2 {
                    0 => request,
                    _ => request.draw(asked.draw.draw.wrapping_sub(COUNTED)).counter(&raw const COUNTED as u64),
                };
                let request = request.history(list(&asked.prompt), list(&asked.output));
                asked.allowed.as_ref().map_or(request, |words| request.allowed(words.as_ptr() as u64))
            }
        })
        .collect();
    let penalised = asked.iter().any(|asked| !(asked.prompt.is_empty() && asked.output.is_empty()));
    let mut from = Guarded::of(x, how.shift);
    let mut adjusted = Guarded::<f32>::unwritten(if penalised { x.len() } else { 0 }, how.shift);
    let mut outcomes = vec![Outcome::default(); rows];
    let asked_at = requests.as_ptr() as u64;
    let (mut dtype, mut at) = (E::DTYPE, from.address());
    if penalised {
        let planned = sample::adjust([at, asked_at, adjusted.address()], dtype, (rows, cols)).unwrap().unwrap();
        // SAFETY: the addresses point to buffers of the required sizes, which outlive the kernel run.
        unsafe { how.run(emulator, planned) }.map_err(describe)?;
        (dtype, at) = (DType::F32, adjusted.address());
    }
    // Callers do not clear the workspace, so it begins with values other than zeros.
    let mut workspace = vec![u64::MAX / 3; sample::workspace_len(dtype, (rows, cols))];
    let mut kept = vec![u64::MAX / 3; rows * KEPT_WORDS];
    let outcomes_at = outcomes.as_mut_ptr() as u64;
    let addresses = [at, asked_at, outcomes_at, workspace.as_mut_ptr() as u64, kept.as_mut_ptr() as u64];
    for planned in sample::launches(addresses, dtype, (rows, cols), penalised).unwrap() {
        // SAFETY: the addresses point to buffers of the required sizes, which outlive the kernel runs.
        unsafe { how.run(emulator, planned) }.map_err(describe)?;
    }
    for row in 0..rows {
        let logits = Rows::new(&x[row * cols..][..cols], 1, cols).unwrap();
        let expected = samplers[row].sample_rows(logits, None, &steps[row..=row]).unwrap().remove(0);
        let expected = expected.map(|sampled| (sampled.token, sampled.kept));
        let got = outcomes[row].result(0, cols);
        let same = match (&got, &expected) {
            (Err(Error::NonFiniteInput { index: a, .. }), Err(Error::NonFiniteInput { index: b, .. })) => a == b,
            _ => got == expected,
        };
        if !same {
            let config = &asked[row].config;
            return Err(describe(format!("sample of row {row} with {config:?}: expected {expected:?}, got {got:?}")));
        }
    }
    let Some(emulator) = of_logprobs else { return Ok(()) };
    let top = [0, 1, 5, 20, 256][asked[0].draw.seed as usize % 5];
    let read = [at, asked_at, outcomes_at, kept.as_ptr() as u64];
    let of_kept = logprobs(emulator, how, read, dtype, (rows, cols), top).map_err(describe)?;
    let read = [from.address(), 0, outcomes_at, 0];
    let of_all = logprobs(emulator, how, read, E::DTYPE, (rows, cols), top).map_err(describe)?;
    let plain = SamplerConfig::default().validate().unwrap();
    for row in 0..rows {
        let drawn = outcomes[row].result(row, cols).ok().map(|(token, _)| token);
        let of_row = row * (1 + top)..(row + 1) * (1 + top);
        for (kind, got, sampler, step) in [
            ("kept tokens", &of_kept, &samplers[row], steps[row]),
            ("all tokens", &of_all, &plain, Step::from(asked[row].draw)),
        ] {
            let distribution = sampler.distribution(&x[row * cols..][..cols], None, step).ok();
            let expected = expected_logprobs(distribution.as_ref(), drawn, top);
            let got = got[of_row.clone()].iter().map(|entry| entry.get().map(|(token, p)| (token, p.to_bits())));
            if let Some((i, (got, expected))) =
                got.zip(expected).enumerate().find(|(_, (got, expected))| got != expected)
            {
                let config = &asked[row].config;
                return Err(describe(format!(
                    "log-probability {i} of {top} among {kind} in row {row} with {config:?}: expected {expected:x?}, \
                     got {got:x?}"
                )));
            }
        }
    }
    Ok(())
}

/// Runs the kernel for log-probabilities. The addresses point to the logits, requests, outcomes and kept tokens.
fn logprobs(
    emulator: &Emulator,
    how: How,
    [logits, requests, outcomes, kept]: [u64; 4],
    dtype: DType,
    shape: (usize, usize),
    top: usize,
) -> Result<Vec<Logprob>, String> {
    let mut logprobs = vec![Logprob::default(); shape.0 * (1 + top)];
    let addresses = [logits, requests, outcomes, kept, logprobs.as_mut_ptr() as u64];
    let planned = sample::launch_logprobs(addresses, dtype, shape, top).unwrap().unwrap();
    // SAFETY: the addresses point to buffers of the required sizes, which outlive the kernel run.
    unsafe { how.run(emulator, planned) }?;
    Ok(logprobs)
}

/// Returns the tokens that the CPU reports, with the bits of their log-probabilities.
fn expected_logprobs(of: Option<&Distribution>, drawn: Option<u32>, top: usize) -> Vec<Option<(u32, u64)>> {
    let mut all = vec![None; 1 + top];
    if let (Some(of), Some(drawn)) = (of, drawn) {
        let own = of.tokens().iter().zip(of.logprobs()).find(|(token, _)| **token == drawn);
        all[0] = Some((drawn, own.map_or(f64::NEG_INFINITY, |(_, logprob)| logprob).to_bits()));
        for (to, (token, logprob)) in all[1..].iter_mut().zip(of.top_logprobs(top)) {
            *to = Some((token, logprob.to_bits()));
        }
    }
    all
}
