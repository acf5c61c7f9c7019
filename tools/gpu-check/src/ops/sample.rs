//! The sampler.

use super::{Extent, Number, Op, Ready, Results, Shape, rows};
use crate::error::Result;
use crate::memory::{Placed, Stream};
use crate::record::Digest;
use evenkeel::cuda::cudarc::driver::{CudaSlice, DevicePtr};
use evenkeel::cuda::sample::{Outcome, Request};
use evenkeel::{Draw, Error, Profile, Sampler, SamplerConfig, Step, cuda};

pub struct Sample;

const PENALISED: usize = 6;
const ALLOWED: usize = 7;

fn sampler(way: usize) -> Result<Sampler> {
    let config = SamplerConfig::default();
    let config = match way {
        0 => config.temperature(0.7).top_k(50).top_p(0.9),
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

struct Drawing {
    stream: Stream,
    shape: Shape,
    requests: CudaSlice<Request>,
    outcomes: CudaSlice<Outcome>,
    adjusted: Option<CudaSlice<f32>>,
    /// Lists whose addresses are in the requests.
    _lists: CudaSlice<u32>,
}

impl<E: Number> Ready<E> for Drawing {
    fn launch(&mut self, read: &[Placed<E>], _written: &mut [Placed<E>]) -> Result<()> {
        let adjusted = self.adjusted.as_mut().map(|room| room.as_view_mut());
        let (logits, requests) = (read[0].rows(self.shape)?, self.requests.as_view());
        Ok(cuda::sample_into(&self.stream, logits, requests, adjusted, self.outcomes.as_view_mut())?)
    }

    fn words(&self) -> Result<Vec<u64>> {
        let outcomes = self.stream.clone_dtoh(&self.outcomes)?.into_iter().enumerate();
        Ok(outcomes.map(|(row, outcome)| word(outcome.result(row, self.shape.cols))).collect())
    }
}

impl Op for Sample {
    const NAME: &'static str = "sample";
    const READ: &'static [Extent] = &[Extent::Whole];
    const WRITTEN: &'static [Extent] = &[];
    const IS_OF_ROWS: bool = false;
    const WAYS: &'static [&'static str] = &[
        "top_k 50, top_p 0.9",
        "temperature",
        "top_p 0.95",
        "greedy",
        "as llama.cpp",
        "as Hugging Face",
        "penalties",
        "allowed tokens",
    ];

    fn on_cpu<E: Number>(shape: Shape, way: usize, read: &[Vec<E>]) -> Result<Results<E>> {
        let (history, allowed) = (history(shape.cols), allowed(shape.cols));
        let step = |draw: Draw| match way {
            PENALISED => Step::from(draw).output(&history),
            ALLOWED => Step::from(draw).allowed(&allowed),
            _ => Step::from(draw),
        };
        let steps: Vec<Step> = draws(shape.rows).into_iter().map(step).collect();
        let sampled = sampler(way)?.sample_rows(rows(&read[0], shape)?, None, &steps)?;
        let words = sampled.into_iter().map(|one| word(one.map(|one| (one.token, one.kept)))).collect();
        Ok(Results { written: Vec::new(), words })
    }

    fn on_device<E: Number>(stream: &Stream, shape: Shape, way: usize) -> Result<impl Ready<E>> {
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
        Ok(Drawing { stream: stream.clone(), shape, requests, outcomes, adjusted, _lists: lists })
    }
}
