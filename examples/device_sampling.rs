//! Guarded sampling for an engine that keeps its logits on a CUDA device. The sampler takes the address of the logits
//! and returns tokens.
//!
//! `engine` simulates such an engine, which exposes only the address of its logits. Each step copies the requests to
//! the device, and copies the outcomes back: 16 bytes for each row. The logits stay on the device.

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

/// Draws one token per row of an engine's logits. The sampler's device buffers are allocated once.
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

    /// Draws a token for each row. A rejected row gets an error, and tokens are still drawn for the other rows.
    ///
    /// # Safety
    /// `logits` is the address of rows * `VOCABULARY` bf16 numbers on the stream's device. Earlier work on this stream
    /// has written them.
    unsafe fn draw(&mut self, logits: u64, step: u64) -> anyhow::Result<Vec<evenkeel::Result<u32>>> {
        let rows = self.requests.len();
        let request = |row| Request::new(&self.sampler, Draw { seed: 42, row, draw: step });
        let requests = (0..rows as u64).map(request).collect::<evenkeel::Result<Vec<_>>>()?;
        self.stream.memcpy_htod(&requests, &mut self.requests)?;
        // SAFETY: the caller guarantees the address and the length. `ManuallyDrop` leaves freeing the memory to the
        // engine.
        let logits = ManuallyDrop::new(unsafe { self.stream.upgrade_device_ptr::<bf16>(logits, rows * VOCABULARY) });
        let rows_of_logits = Rows::new(logits.as_view(), rows, VOCABULARY)?;
        let (requests, outcomes) = (self.requests.as_view(), self.outcomes.as_view_mut());
        cuda::sample_into(&self.stream, rows_of_logits, requests, None, outcomes)?;
        let outcomes = self.stream.clone_dtoh(&self.outcomes)?;
        let token = |(row, outcome): (usize, &Outcome)| outcome.result(row, VOCABULARY).map(|(token, _)| token);
        Ok(outcomes.iter().enumerate().map(token).collect())
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
