//! Guarded sampling after any engine: the address of its logits on a CUDA device in, tokens out.
//!
//! `engine` stands for one that keeps its logits on the device; all that it gives away is where they are. Each step copies
//! the requests there and the outcomes back, 16 bytes a row: the logits stay.

use evenkeel::cuda::cudarc::driver::{CudaSlice, CudaStream};
use evenkeel::cuda::sample::{Outcome, Request};
use evenkeel::cuda::{self, Rows};
use evenkeel::{Draw, Sampler, SamplerConfig};
use half::bf16;
use std::mem::ManuallyDrop;
use std::process::ExitCode;
use std::sync::Arc;

const ROWS: usize = 4;
const VOCABULARY: usize = 128_256;
const STEPS: u64 = 5;

/// Draws a token for each of an engine's rows. What it needs on the device is made once.
struct DeviceSampler {
    stream: Arc<CudaStream>,
    sampler: Sampler,
    requests: CudaSlice<Request>,
    outcomes: CudaSlice<Outcome>,
}

impl DeviceSampler {
    fn new(stream: Arc<CudaStream>, sampler: Sampler, rows: usize) -> anyhow::Result<Self> {
        let requests = stream.alloc_zeros(rows)?;
        let outcomes = stream.alloc_zeros(rows)?;
        Ok(DeviceSampler { stream, sampler, requests, outcomes })
    }

    /// A token for each row, or why there is none: the others are drawn all the same.
    ///
    /// # Safety
    /// The address is of rows times `VOCABULARY` numbers in bf16 on the stream's device, which what ran on this stream
    /// before has written.
    unsafe fn draw(&mut self, logits: u64, step: u64) -> anyhow::Result<Vec<evenkeel::Result<u32>>> {
        let rows = self.requests.len();
        let request = |row| Request::new(&self.sampler, Draw { seed: 42, row, draw: step });
        let requests = (0..rows as u64).map(request).collect::<evenkeel::Result<Vec<_>>>()?;
        self.stream.memcpy_htod(&requests, &mut self.requests)?;
        // SAFETY: as the caller promises; the memory is the engine's to free.
        let logits = ManuallyDrop::new(unsafe { self.stream.upgrade_device_ptr::<bf16>(logits, rows * VOCABULARY) });
        let rows_of_logits = Rows::new(logits.as_view(), rows, VOCABULARY)?;
        let (requests, outcomes) = (self.requests.as_view(), self.outcomes.as_view_mut());
        cuda::sample_into(&self.stream, rows_of_logits, requests, None, outcomes)?;
        let outcomes = self.stream.clone_dtoh(&self.outcomes)?;
        let token = |(row, outcome): (usize, &Outcome)| outcome.result(row, VOCABULARY).map(|(token, _)| token);
        Ok(outcomes.iter().enumerate().map(token).collect())
    }
}

/// Logits as a model could leave them on the device, with a NaN in the last row.
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
        // SAFETY: the engine wrote so many logits there, on this stream.
        let tokens = unsafe { sampler.draw(logits, step) };
        // SAFETY: it was the engine's, which has no more use for it.
        drop(unsafe { stream.upgrade_device_ptr::<bf16>(logits, ROWS * VOCABULARY) });
        for (row, token) in tokens?.into_iter().enumerate() {
            match token {
                Ok(token) => println!("step {step}, row {row}: token {token}"),
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
