//! The sampler.

use super::{Extent, Number, Op, Ready, Results, Shape, rows};
use crate::error::Result;
use crate::memory::{Placed, Stream};
use crate::record::Digest;
use evenkeel::cuda::cudarc::driver::{CudaSlice, DevicePtr};
use evenkeel::cuda::sample::{Logprob, Outcome, Request};
use evenkeel::{Distribution, Draw, Error, Profile, Sampled, Sampler, SamplerConfig, Step, cuda};

pub struct Sample;

/// The sampler with log-probabilities of the drawn token and of the [`TOP`] most probable tokens.
pub struct SampleLogprobs;

const TOP: usize = 5;

const PENALISED: usize = 6;
const ALLOWED: usize = 7;
/// Log-probabilities of unchanged logits.
const UNCHANGED: usize = 8;

fn sampler(way: usize) -> Result<Sampler> {
    let config = SamplerConfig::default();
    let config = match way {
        0 | UNCHANGED => config.temperature(0.7).top_k(50).top_p(0.9),
        1 => config.temperature(1.0),
        2 => config.temperature(1.3).top_p(0.95),
        3 => config.temperature(0.0),
        4 => config.profile(Profile::LlamaCpp).temperature(0.8).top_k(40).top_p(0.95).min_p(0.05),
        5 => config.profile(Profile::HuggingFace).temperature(1.0).top_k(1000).top_p(0.5),
        PENALISED => config.temperature(0.7).top_p(0.9).repetition_penalty(1.3).presence_penalty(0.5),
        _ => config.profile(Profile::Vllm).temperature(0.7).min_p(0.02),
    };
    Ok(config.validate()?)
}

fn draws(rows: usize) -> Vec<Draw> {
    (0..rows as u64).map(|row| Draw { seed: 9, row, draw: 3 }).collect()
}

/// Returns the tokens that penalties apply to.
fn history(cols: usize) -> Vec<u32> {
    (0..40).map(|i| (i * i * 37 % cols) as u32).collect()
}

/// Returns a bitmask that allows about two of three tokens.
fn allowed(cols: usize) -> Vec<u32> {
    vec![0b1011_0110_1101_1011_0110_1101_1011_0110; cols.div_ceil(32)]
}

/// Encodes the token and the number of kept tokens, or a hash of the error. The error for a non-finite logit is encoded
/// as the logit's index only, because the device reports nothing else.
fn word(outcome: evenkeel::Result<(u32, usize)>) -> u64 {
    match outcome {
        Ok((token, kept)) => u64::from(token) << 32 | kept as u64,
        Err(Error::NonFiniteInput { index, .. }) => 1 << 63 | index as u64,
        Err(error) => 3 << 62 | Digest::of_text(&error.to_string()) >> 2,
    }
}

/// Encodes a token and its log-probability.
fn words_of(entry: Option<(u32, f64)>) -> [u64; 2] {
    entry.map_or([u64::MAX, 0], |(token, logprob)| [token.into(), logprob.to_bits()])
}

/// Returns the entries of a row: the drawn token and the most probable tokens.
fn entries(of: evenkeel::Result<Distribution>, drawn: &evenkeel::Result<Sampled>) -> Vec<[u64; 2]> {
    let mut all = vec![words_of(None); 1 + TOP];
    if let (Ok(of), Ok(drawn)) = (of, drawn) {
        let own = of.tokens().iter().zip(of.logprobs()).find(|(token, _)| **token == drawn.token);
        all[0] = words_of(Some((drawn.token, own.map_or(f64::NEG_INFINITY, |(_, logprob)| logprob))));
        for (to, entry) in all[1..].iter_mut().zip(of.top_logprobs(TOP)) {
            *to = words_of(Some(entry));
        }
    }
    all
}

struct Drawing {
    stream: Stream,
    shape: Shape,
    requests: CudaSlice<Request>,
    outcomes: CudaSlice<Outcome>,
    adjusted: Option<CudaSlice<f32>>,
    logprobs: Option<CudaSlice<Logprob>>,
    is_of_unchanged: bool,
    /// Token history or bitmask whose address is in the requests. This field keeps the memory allocated.
    _lists: CudaSlice<u32>,
}

impl<E: Number> Ready<E> for Drawing {
    fn launch(&mut self, read: &[Placed<E>], _written: &mut [Placed<E>]) -> Result<()> {
        let adjusted = self.adjusted.as_mut().map(|room| room.as_view_mut());
        let (stream, requests) = (&self.stream, self.requests.as_view());
        let (logits, out) = (read[0].rows(self.shape)?, self.outcomes.as_view_mut());
        match &mut self.logprobs {
            Some(to) if !self.is_of_unchanged => {
                cuda::sample_logprobs_into(stream, logits, requests, adjusted, out, to.as_view_mut())?
            }
            _ => cuda::sample_into(stream, logits, requests, adjusted, out)?,
        }
        if let Some(to) = &mut self.logprobs
            && self.is_of_unchanged
        {
            cuda::logprobs_into(stream, read[0].rows(self.shape)?, self.outcomes.as_view(), to.as_view_mut())?;
        }
        Ok(())
    }

    fn words(&self) -> Result<Vec<u64>> {
        let outcomes = self.stream.clone_dtoh(&self.outcomes)?.into_iter().enumerate();
        let mut words: Vec<u64> = outcomes.map(|(row, outcome)| word(outcome.result(row, self.shape.cols))).collect();
        if let Some(logprobs) = &self.logprobs {
            let entries = self.stream.clone_dtoh(logprobs)?;
            words.extend(entries.into_iter().flat_map(|entry| words_of(entry.get())));
        }
        Ok(words)
    }
}

/// Forms of the calls. The last form is only for log-probabilities.
const WAYS: [&str; 9] = [
    "top_k 50, top_p 0.9",
    "temperature",
    "top_p 0.95",
    "greedy",
    "as llama.cpp",
    "as Hugging Face",
    "penalties",
    "allowed tokens",
    "of unchanged logits",
];

impl Op for Sample {
    const NAME: &'static str = "sample";
    const READ: &'static [Extent] = &[Extent::Whole];
    const WRITTEN: &'static [Extent] = &[];
    const IS_OF_ROWS: bool = false;
    const WAYS: &'static [&'static str] = WAYS.split_at(WAYS.len() - 1).0;

    fn on_cpu<E: Number>(shape: Shape, way: usize, read: &[Vec<E>]) -> Result<Results<E>> {
        on_cpu(shape, way, read, false)
    }

    fn on_device<E: Number>(stream: &Stream, shape: Shape, way: usize) -> Result<impl Ready<E>> {
        drawing(stream, shape, way, false)
    }
}

impl Op for SampleLogprobs {
    const NAME: &'static str = "sample_logprobs";
    const READ: &'static [Extent] = Sample::READ;
    const WRITTEN: &'static [Extent] = Sample::WRITTEN;
    const IS_OF_ROWS: bool = Sample::IS_OF_ROWS;
    const WAYS: &'static [&'static str] = &WAYS;

    fn on_cpu<E: Number>(shape: Shape, way: usize, read: &[Vec<E>]) -> Result<Results<E>> {
        on_cpu(shape, way, read, true)
    }

    fn on_device<E: Number>(stream: &Stream, shape: Shape, way: usize) -> Result<impl Ready<E>> {
        drawing(stream, shape, way, true)
    }
}

fn on_cpu<E: Number>(shape: Shape, way: usize, read: &[Vec<E>], has_logprobs: bool) -> Result<Results<E>> {
    let (history, allowed) = (history(shape.cols), allowed(shape.cols));
    let step = |draw: Draw| match way {
        PENALISED => Step::from(draw).output(&history),
        ALLOWED => Step::from(draw).allowed(&allowed),
        _ => Step::from(draw),
    };
    let steps: Vec<Step> = draws(shape.rows).into_iter().map(step).collect();
    let logits = || rows(&read[0], shape);
    let sampled = sampler(way)?.sample_rows(logits()?, None, &steps)?;
    let mut words: Vec<u64> = sampled.iter().cloned().map(|one| word(one.map(|one| (one.token, one.kept)))).collect();
    if has_logprobs {
        let of = if way == UNCHANGED { SamplerConfig::default().validate()? } else { sampler(way)? };
        let distributions = of.distributions(logits()?, None, &steps)?;
        words.extend(distributions.into_iter().zip(&sampled).flat_map(|(of, drawn)| entries(of, drawn)).flatten());
    }
    Ok(Results { written: Vec::new(), words })
}

fn drawing(stream: &Stream, shape: Shape, way: usize, has_logprobs: bool) -> Result<Drawing> {
    let list = if way == PENALISED { history(shape.cols) } else { allowed(shape.cols) };
    let lists = stream.clone_htod(&list)?;
    let sampler = sampler(way)?;
    let address = lists.device_ptr(stream).0;
    let request = |draw| {
        let request = Request::new(&sampler, draw)?;
        // SAFETY: the history has the given length, the bitmask has a bit for each token, and both live as long as
        // the requests.
        Ok(unsafe {
            match way {
                PENALISED => request.history((0, 0), (address, list.len() as u32)),
                ALLOWED => request.allowed(address),
                _ => request,
            }
        })
    };
    let requests = draws(shape.rows).into_iter().map(request).collect::<evenkeel::Result<Vec<_>>>()?;
    let adjusted = if way == PENALISED { Some(stream.alloc_zeros(shape.elements())?) } else { None };
    let (requests, outcomes) = (stream.clone_htod(&requests)?, stream.alloc_zeros(shape.rows)?);
    let logprobs = if has_logprobs { Some(stream.alloc_zeros::<Logprob>(shape.rows * (1 + TOP))?) } else { None };
    let (stream, is_of_unchanged) = (stream.clone(), way == UNCHANGED);
    Ok(Drawing { stream, shape, requests, outcomes, adjusted, logprobs, is_of_unchanged, _lists: lists })
}
