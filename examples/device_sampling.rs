//! Guarded sampling for an engine that keeps its logits on a CUDA device. The sampler takes the address of the logits.
//! It returns the drawn tokens and the most probable tokens, each with its log-probability. Log-probabilities are those
//! at temperature 1, without filters.
//!
//! `engine` simulates such an engine, which exposes only the address of its logits. Each step copies the requests to
//! the device, and copies the results back: 16 bytes for each row, and 16 bytes for each log-probability. The logits
//! stay on the device.

use evenkeel::cuda::cudarc::driver::{CudaSlice, CudaStream};
use evenkeel::cuda::sample::{Logprob, Outcome, Request};
use evenkeel::cuda::{self, Rows};
use evenkeel::{Draw, Sampler, SamplerConfig};
use half::bf16;
use std::mem::ManuallyDrop;
use std::process::ExitCode;
use std::sync::Arc;

const ROWS: usize = 4;
const VOCABULARY: usize = 128_256;
const STEPS: u64 = 5;
/// Number of most probable tokens that are reported.
const TOP: usize = 2;

/// Draws one token per row of an engine's logits. The sampler's device buffers are allocated once.
struct DeviceSampler {
    stream: Arc<CudaStream>,
    sampler: Sampler,
    requests: CudaSlice<Request>,
    outcomes: CudaSlice<Outcome>,
    logprobs: CudaSlice<Logprob>,
}

/// Drawn token with its log-probability, and the most probable tokens with theirs.
struct Token {
    drawn: Option<(u32, f64)>,
    top: Vec<(u32, f64)>,
}

impl DeviceSampler {
    fn new(stream: Arc<CudaStream>, sampler: Sampler, rows: usize) -> anyhow::Result<Self> {
        let requests = stream.alloc_zeros(rows)?;
        let outcomes = stream.alloc_zeros(rows)?;
        let logprobs = stream.alloc_zeros(rows * (1 + TOP))?;
        Ok(DeviceSampler { stream, sampler, requests, outcomes, logprobs })
    }

    /// Draws a token for each row. A rejected row gets an error, and tokens are still drawn for the other rows.
    ///
    /// # Safety
    /// `logits` is the address of rows * `VOCABULARY` bf16 numbers on the stream's device. Earlier work on this stream
    /// has written them.
    unsafe fn draw(&mut self, logits: u64, step: u64) -> anyhow::Result<Vec<evenkeel::Result<Token>>> {
        let rows = self.requests.len();
        let request = |row| Request::new(&self.sampler, Draw { seed: 42, row, draw: step });
        let requests = (0..rows as u64).map(request).collect::<evenkeel::Result<Vec<_>>>()?;
        self.stream.memcpy_htod(&requests, &mut self.requests)?;
        // SAFETY: the caller guarantees the address and the length. `ManuallyDrop` leaves freeing the memory to the
        // engine.
        let logits = ManuallyDrop::new(unsafe { self.stream.upgrade_device_ptr::<bf16>(logits, rows * VOCABULARY) });
        let rows_of_logits = || Rows::new(logits.as_view(), rows, VOCABULARY);
        let (requests, outcomes) = (self.requests.as_view(), self.outcomes.as_view_mut());
        cuda::sample_into(&self.stream, rows_of_logits()?, requests, None, outcomes)?;
        let (outcomes, logprobs) = (self.outcomes.as_view(), self.logprobs.as_view_mut());
        cuda::logprobs_into(&self.stream, rows_of_logits()?, outcomes, logprobs)?;
        let outcomes = self.stream.clone_dtoh(&self.outcomes)?;
        let logprobs: Vec<_> = self.stream.clone_dtoh(&self.logprobs)?.into_iter().map(Logprob::get).collect();
        let token = |row: usize| {
            outcomes[row].result(row, VOCABULARY)?;
            let of_row = &logprobs[row * (1 + TOP)..][..1 + TOP];
            Ok(Token { drawn: of_row[0], top: of_row[1..].iter().copied().flatten().collect() })
        };
        Ok((0..rows).map(token).collect())
    }
}

/// Returns logits that a model could leave on the device, with a NaN in the last row.
fn engine(stream: &Arc<CudaStream>, step: u64) -> anyhow::Result<CudaSlice<bf16>> {
    let logit = |i: usize| ((i as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(step as u32 + 7) >> 40) as f32;
    let mut logits: Vec<bf16> = (0..ROWS * VOCABULARY).map(|i| bf16::from_f32(logit(i) / 1e6)).collect();
    logits[ROWS * VOCABULARY - 1] = bf16::NAN;
    Ok(stream.clone_htod(&logits)?)
}

fn run() -> anyhow::Result<()> {
    let stream = cuda::device(0)?.default_stream();
    let sampler = SamplerConfig::default().temperature(0.7).top_k(50).top_p(0.9).validate()?;
    let mut sampler = DeviceSampler::new(stream.clone(), sampler, ROWS)?;
    for step in 0..STEPS {
        let logits = engine(&stream, step)?.leak();
        // SAFETY: the engine wrote ROWS * VOCABULARY logits to this address, on this stream.
        let tokens = unsafe { sampler.draw(logits, step) };
        // SAFETY: the pointer comes from `leak` above, and the engine no longer uses the memory.
        drop(unsafe { stream.upgrade_device_ptr::<bf16>(logits, ROWS * VOCABULARY) });
        for (row, token) in tokens?.into_iter().enumerate() {
            match token {
                Ok(Token { drawn, top }) => println!("step {step}, row {row}: {drawn:?}, most probable: {top:?}"),
                Err(refused) => println!("step {step}, row {row}: {refused}"),
            }
        }
    }
    Ok(())
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("device_sampling: {error:#}");
            ExitCode::FAILURE
        }
    }
}
