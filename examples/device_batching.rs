//! Continuous batching for an engine on a CUDA device. Requests of different lengths join and leave a running batch.
//! Each request gets the same tokens as if it ran alone.
//!
//! A step reads one token in each slot of the batch and draws the next one. The step is captured once, in a CUDA graph
//! on one stream. Between replays, the host only writes the state of slots: pages, positions, lengths and the sampler's
//! requests. The program then runs each request alone, in an engine with one slot, and compares the tokens.
//!
//! `Engine` simulates an engine with a model. The model needs no matrix products: the embedding of a token is a row of
//! queries, keys and values, and the normalised results of the attention are the logits. `device_batching.ptx` has the
//! engine's own kernels.

use anyhow::{Context, ensure};
use evenkeel::cuda::cudarc::driver::sys::{CUgraphInstantiate_flags, CUstreamCaptureMode};
use evenkeel::cuda::cudarc::driver::{
    CudaContext, CudaFunction, CudaGraph, CudaSlice, CudaStream, DevicePtr, DeviceRepr, LaunchConfig, PushKernelArg,
};
use evenkeel::cuda::cudarc::nvrtc::Ptx;
use evenkeel::cuda::sample::{Outcome, Request};
use evenkeel::cuda::{
    self, HeadLayout, Heads, HeadsMut, PageLayout, PagedCache, Pages, Positions, RopeTable, Rows, RowsMut,
};
use evenkeel::{Attention, Draw, RmsNorm, Rope, Sampler, SamplerConfig};
use half::bf16;
use std::collections::VecDeque;
use std::slice;
use std::sync::Arc;

/// Number of requests that can run at the same time.
const SLOTS: usize = 3;
const HEADS: usize = 8;
const KEY_HEADS: usize = 2;
const FEATURES: usize = 64;
/// Number of elements in the queries, keys and values of a token.
const ROW: usize = (HEADS + 2 * KEY_HEADS) * FEATURES;
/// Number of elements in the keys and values of a position.
const POSITION: usize = 2 * KEY_HEADS * FEATURES;
/// Vocabulary size. Each element of the attention's result becomes one logit.
const VOCABULARY: usize = HEADS * FEATURES;
/// Number of positions in a page.
const PAGE: usize = 4;
/// Number of pages in the cache: fewer than the SLOTS * SLOT_PAGES pages that full slots would need.
const PAGES: usize = 16;
const SLOT_PAGES: usize = 8;
/// Maximum length of a sequence.
const SLOT_TOKENS: usize = SLOT_PAGES * PAGE;
/// Number of elements that one thread of the engine's kernels copies. They take 16 bytes.
const PIECE: usize = 16 / size_of::<bf16>();

/// A request to the engine.
struct Job {
    name: &'static str,
    /// First step in which the request may run.
    arrival: usize,
    prompt: Vec<u32>,
    /// Number of tokens to draw.
    tokens: usize,
    sampler: Sampler,
    /// Whether the sampler has penalties.
    penalises: bool,
    /// Bit mask of the tokens that may be drawn.
    allowed: Option<[u32; VOCABULARY / 32]>,
}

impl Job {
    /// Returns the number of pages that the job's sequence needs.
    fn pages(&self) -> usize {
        (self.prompt.len() + self.tokens).div_ceil(PAGE)
    }
}

/// A request in a slot.
struct Running {
    /// Index of the job.
    job: usize,
    pages: Vec<u32>,
    /// Number of steps that the engine had run when the request joined.
    joined: u64,
    /// Number of the sequence's tokens that the engine has read so far. Each step reads one.
    read: usize,
}

/// Arguments of the engine's kernels. `device_batching.ptx` describes them.
#[derive(Clone, Copy, Default)]
#[repr(C)]
struct Arguments {
    embeddings: u64,
    qkv: u64,
    cache: u64,
    table: u64,
    tokens: u64,
    prompt_lens: u64,
    positions: u64,
    lengths: u64,
    outcomes: u64,
    row_pieces: u32,
    page_size: u32,
    slot_pages: u32,
    slot_tokens: u32,
}

// SAFETY: the struct has only integers, in the C layout that the kernels read.
unsafe impl DeviceRepr for Arguments {}

struct Engine {
    stream: Arc<CudaStream>,
    slots: usize,
    embed: CudaFunction,
    append: CudaFunction,
    next: CudaFunction,
    arguments: Arguments,
    // Weights.
    embeddings: CudaSlice<bf16>,
    query_norm: CudaSlice<bf16>,
    key_norm: CudaSlice<bf16>,
    logit_norm: CudaSlice<bf16>,
    rope: RopeTable,
    // Results of a step.
    qkv: CudaSlice<bf16>,
    attended: CudaSlice<bf16>,
    logits: CudaSlice<bf16>,
    adjusted: CudaSlice<f32>,
    outcomes: CudaSlice<Outcome>,
    // Keys and values of all sequences.
    cache: CudaSlice<bf16>,
    free_pages: Vec<u32>,
    // State of the slots.
    table: CudaSlice<u32>,
    tokens: CudaSlice<u32>,
    prompt_lens: CudaSlice<u32>,
    positions: CudaSlice<u32>,
    lengths: CudaSlice<u32>,
    allowed: CudaSlice<u32>,
    requests: CudaSlice<Request>,
    /// Number of steps so far: `counter` is on the device, `steps` on the host.
    counter: CudaSlice<u64>,
    steps: u64,
}

impl Engine {
    fn new(context: &Arc<CudaContext>, slots: usize) -> anyhow::Result<Self> {
        let stream = context.new_stream()?;
        let module = context.load_module(Ptx::from_src(include_str!("device_batching.ptx")))?;
        let positions: Vec<i64> = (0..SLOT_TOKENS as i64).collect();
        let rope = evenkeel::RopeTable::new(&positions, FEATURES, &Rope::default())?;
        let zeros = |of_slot| stream.alloc_zeros::<u32>(slots * of_slot);
        let mut engine = Engine {
            slots,
            embed: module.load_function("embed")?,
            append: module.load_function("append")?,
            next: module.load_function("next")?,
            arguments: Arguments::default(),
            embeddings: noise(&stream, 1, VOCABULARY * ROW, 1.0)?,
            query_norm: noise(&stream, 2, FEATURES, 2.0)?,
            key_norm: noise(&stream, 3, FEATURES, 2.0)?,
            logit_norm: noise(&stream, 4, VOCABULARY, 4.0)?,
            rope: RopeTable::new(&stream, &rope)?,
            qkv: stream.alloc_zeros(slots * ROW)?,
            attended: stream.alloc_zeros(slots * VOCABULARY)?,
            logits: stream.alloc_zeros(slots * VOCABULARY)?,
            adjusted: stream.alloc_zeros(slots * VOCABULARY)?,
            outcomes: stream.alloc_zeros(slots)?,
            cache: stream.alloc_zeros(PAGES * PAGE * POSITION)?,
            free_pages: (0..PAGES as u32).collect(),
            table: zeros(SLOT_PAGES)?,
            tokens: zeros(SLOT_TOKENS)?,
            prompt_lens: zeros(1)?,
            positions: zeros(1)?,
            lengths: zeros(1)?,
            allowed: zeros(VOCABULARY / 32)?,
            requests: stream.alloc_zeros(slots)?,
            counter: stream.alloc_zeros(1)?,
            steps: 0,
            stream,
        };
        engine.arguments = Arguments {
            embeddings: address(&engine.embeddings),
            qkv: address(&engine.qkv),
            cache: address(&engine.cache),
            table: address(&engine.table),
            tokens: address(&engine.tokens),
            prompt_lens: address(&engine.prompt_lens),
            positions: address(&engine.positions),
            lengths: address(&engine.lengths),
            outcomes: address(&engine.outcomes),
            row_pieces: (ROW / PIECE) as u32,
            page_size: PAGE as u32,
            slot_pages: SLOT_PAGES as u32,
            slot_tokens: SLOT_TOKENS as u32,
        };
        Ok(engine)
    }

    fn launch(&self, kernel: &CudaFunction, blocks: usize, threads: usize) -> anyhow::Result<()> {
        let [grid_dim, block_dim] = [blocks, threads].map(|count| (count as u32, 1, 1));
        let config = LaunchConfig { grid_dim, block_dim, shared_mem_bytes: 0 };
        // SAFETY: the engine's kernels take `Arguments`, with the addresses and the lengths of this engine's buffers.
        unsafe { self.stream.launch_builder(kernel).arg(&self.arguments).launch(config)? };
        Ok(())
    }

    /// Launches a step, and does not wait for its results. A slot without a request has no keys, so its attention is
    /// zero. The sampler still draws a token for such a slot, but the kernel `next` ignores this token.
    fn step(&mut self) -> anyhow::Result<()> {
        let (stream, slots) = (&self.stream, self.slots);
        self.launch(&self.embed, slots, ROW / PIECE)?;

        let heads =
            |heads| HeadLayout { tokens: slots, heads, cols: FEATURES, token_stride: ROW, head_stride: FEATURES };
        let positions = Positions::from(self.positions.as_view());
        for (first, count, weight) in [(0, HEADS, &self.query_norm), (HEADS, KEY_HEADS, &self.key_norm)] {
            let x = HeadsMut::strided(self.qkv.slice_mut(first * FEATURES..), heads(count))?;
            let (weight, at) = (Some(weight.as_view().into()), (&positions, &self.rope));
            cuda::qk_norm_rope_heads_in_place(stream, x, weight, at, &RmsNorm::default())?;
        }
        self.launch(&self.append, slots, POSITION / PIECE)?;

        let layout = PageLayout {
            page_stride: PAGE * POSITION,
            position_stride: POSITION,
            ..PageLayout::contiguous([PAGES, PAGE, KEY_HEADS, FEATURES])
        };
        let pages = |first| Pages::strided(self.cache.slice(first..), layout);
        let (table, lengths) = (self.table.as_view(), self.lengths.as_view());
        let cache = PagedCache::new(pages(0)?, pages(KEY_HEADS * FEATURES)?, table, lengths)?;
        let q = Heads::strided(self.qkv.as_view(), heads(HEADS))?;
        let out = HeadsMut::new(self.attended.as_view_mut(), [slots, HEADS, FEATURES])?;
        cuda::attention_decode_into(stream, q, &cache, None, out, &Attention::default(), None)?;

        let x = Rows::new(self.attended.as_view(), slots, VOCABULARY)?;
        let logits = RowsMut::new(self.logits.as_view_mut(), slots, VOCABULARY)?;
        cuda::rms_norm_into(stream, x, Some(self.logit_norm.as_view().into()), logits, &RmsNorm::default())?;
        let logits = Rows::new(self.logits.as_view(), slots, VOCABULARY)?;
        let (adjusted, outcomes) = (self.adjusted.as_view_mut(), self.outcomes.as_view_mut());
        cuda::sample_into(stream, logits, self.requests.as_view(), Some(adjusted), outcomes)?;
        cuda::sample::advance(stream, self.counter.as_view_mut())?;
        self.launch(&self.next, 1, slots)
    }

    /// Captures a step in a CUDA graph. First runs a step without requests, so that the kernels are compiled and the
    /// workspace is allocated before the capture.
    fn capture(&mut self) -> anyhow::Result<CudaGraph> {
        self.step()?;
        self.steps += 1;
        self.stream.begin_capture(CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL)?;
        let captured = self.step();
        let graph = self.stream.end_capture(CUgraphInstantiate_flags(0))?;
        captured?;
        graph.context("the graph of a step is empty")
    }

    /// Assigns a job to a slot, and writes the slot's state. The next step reads the first token of the job's prompt.
    fn join(&mut self, slot: usize, jobs: &[Job], job: usize) -> anyhow::Result<Running> {
        let Job { prompt, allowed, .. } = &jobs[job];
        let count = jobs[job].pages();
        ensure!(!prompt.is_empty() && count <= SLOT_PAGES, "a sequence must have 1 to {SLOT_TOKENS} tokens");
        let pages = self.free_pages.split_off(self.free_pages.len() - count);
        let stream = &self.stream;
        write(stream, &mut self.table, slot * SLOT_PAGES, &pages)?;
        write(stream, &mut self.tokens, slot * SLOT_TOKENS, prompt)?;
        write(stream, &mut self.prompt_lens, slot, &[prompt.len() as u32])?;
        write(stream, &mut self.positions, slot, &[0])?;
        write(stream, &mut self.lengths, slot, &[1])?;
        if let Some(allowed) = allowed {
            write(stream, &mut self.allowed, slot * allowed.len(), allowed)?;
        }
        let running = Running { job, pages, joined: self.steps, read: 0 };
        self.request(slot, &jobs[job], &running)?;
        Ok(running)
    }

    /// Writes the request that the sampler reads for a slot.
    fn request(&mut self, slot: usize, job: &Job, running: &Running) -> anyhow::Result<()> {
        // The device adds its step counter to `draw`. The sum wraps around, so the request's first step gets draw 0.
        let draw = Draw { seed: 42, row: 0, draw: 0u64.wrapping_sub(running.joined) };
        let tokens = self.arguments.tokens + (slot * SLOT_TOKENS * size_of::<u32>()) as u64;
        let output = tokens + size_of_val(job.prompt.as_slice()) as u64;
        let drawn = (running.read + 1).saturating_sub(job.prompt.len());
        // SAFETY: the counter and the tokens are buffers of this engine, and each slot has space for all tokens of its
        // job.
        let mut request = unsafe {
            let request = Request::new(&job.sampler, draw)?.counter(address(&self.counter));
            request.history((tokens, job.prompt.len() as u32), (output, drawn as u32))
        };
        if let Some(allowed) = job.allowed {
            let at = address(&self.allowed) + (slot * size_of_val(&allowed)) as u64;
            // SAFETY: the buffer has a mask of the whole vocabulary for each slot.
            request = unsafe { request.allowed(at) };
        }
        write(&self.stream, &mut self.requests, slot, &[request])
    }

    /// Runs jobs, and returns the tokens of each. `report` gets a line for each job that joins or leaves.
    fn run(&mut self, graph: &CudaGraph, jobs: &[Job], report: impl Fn(String)) -> anyhow::Result<Vec<Vec<u32>>> {
        let mut tokens = vec![Vec::new(); jobs.len()];
        let mut waiting: VecDeque<usize> = (0..jobs.len()).collect();
        let mut running: Vec<Option<Running>> = (0..self.slots).map(|_| None).collect();
        for step in 0.. {
            while let Some(&job) = waiting.front()
                && let Some(slot) = running.iter().position(Option::is_none)
                && jobs[job].arrival <= step
                && jobs[job].pages() <= self.free_pages.len()
            {
                waiting.pop_front();
                let joined = self.join(slot, jobs, job)?;
                report(format!("step {step}: {} joins slot {slot}, pages {:?}", jobs[job].name, joined.pages));
                running[slot] = Some(joined);
            }
            if waiting.is_empty() && running.iter().all(Option::is_none) {
                break;
            }
            graph.launch()?;
            self.steps += 1;
            let outcomes = self.stream.clone_dtoh(&self.outcomes)?;
            self.stream.synchronize()?;
            for (slot, (state, outcome)) in running.iter_mut().zip(outcomes).enumerate() {
                let Some(mut of_slot) = state.take() else { continue };
                let job = &jobs[of_slot.job];
                of_slot.read += 1;
                if of_slot.read >= job.prompt.len() {
                    tokens[of_slot.job].push(outcome.result(slot, VOCABULARY)?.0);
                }
                if tokens[of_slot.job].len() == job.tokens {
                    report(format!("step {step}: {} leaves slot {slot}", job.name));
                    // A length of 0 marks the slot as empty. The rest of its state stays valid, and has no effect.
                    write(&self.stream, &mut self.lengths, slot, &[0])?;
                    self.free_pages.extend(of_slot.pages);
                    continue;
                }
                if job.penalises {
                    // The sampler's request contains the length of the history, which grows with each drawn token.
                    self.request(slot, job, &of_slot)?;
                }
                *state = Some(of_slot);
            }
        }
        Ok(tokens)
    }
}

/// Returns the address of a buffer.
fn address<T>(buffer: &CudaSlice<T>) -> u64 {
    buffer.device_ptr(buffer.stream()).0
}

/// Writes elements of a buffer, after all earlier work on the stream.
fn write<T: DeviceRepr>(stream: &Arc<CudaStream>, to: &mut CudaSlice<T>, at: usize, from: &[T]) -> anyhow::Result<()> {
    Ok(stream.memcpy_htod(from, &mut to.slice_mut(at..at + from.len()))?)
}

/// Returns numbers between -range and range.
fn noise(stream: &Arc<CudaStream>, seed: u64, len: usize, range: f32) -> anyhow::Result<CudaSlice<bf16>> {
    let number = |i: u64| {
        let bits = (seed << 32 | i).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let bits = (bits ^ bits >> 31).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 40;
        bf16::from_f32(range * (bits as f32 / (1 << 23) as f32 - 1.0))
    };
    Ok(stream.clone_htod(&(0..len as u64).map(number).collect::<Vec<_>>())?)
}

fn jobs() -> anyhow::Result<Vec<Job>> {
    let job = |name, (arrival, prompt, tokens): (usize, &[u32], usize), config: SamplerConfig| {
        let penalises = config.repetition_penalty != 1.0 || config.frequency_penalty != 0.0;
        let (prompt, sampler) = (prompt.to_vec(), config.validate()?);
        anyhow::Ok(Job { name, arrival, prompt, tokens, sampler, penalises, allowed: None })
    };
    let config = SamplerConfig::default;
    let mut jobs = vec![
        job("greedy", (0, &[7, 301, 12], 9), config().temperature(0.0))?,
        job("top_p", (0, &[5], 20), config().temperature(0.8).top_p(0.9))?,
        job("penalties", (2, &[44, 45, 46, 47, 48, 49, 50], 14), config().top_k(40).repetition_penalty(1.3))?,
        job("min_p", (3, &[500, 2], 5), config().temperature(1.5).min_p(0.05))?,
        job("frequency", (4, &[9, 9, 9, 9], 24), config().temperature(0.0).frequency_penalty(1.5))?,
        job("even tokens", (9, &[100, 200, 300, 400, 500], 8), config().top_k(50).top_p(0.95))?,
        // Joins last, and gets pages that a finished request has freed.
        job("temperature", (36, &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11], 9), config())?,
    ];
    jobs[5].allowed = Some([0x5555_5555; VOCABULARY / 32]);
    Ok(jobs)
}

fn main() -> anyhow::Result<()> {
    let context = cuda::device(0)?;
    // SAFETY: each buffer is used on one stream only. A capture must not wait for events recorded before it.
    unsafe { context.disable_event_tracking() };
    let jobs = jobs()?;
    let mut engine = Engine::new(&context, SLOTS)?;
    let graph = engine.capture()?;
    let batched = engine.run(&graph, &jobs, |line| println!("{line}"))?;

    let mut engine = Engine::new(&context, 1)?;
    let graph = engine.capture()?;
    for (job, batched) in jobs.iter().zip(&batched) {
        let alone = &engine.run(&graph, slice::from_ref(job), |_| {})?[0];
        println!("{}: {batched:?}", job.name);
        ensure!(alone == batched, "{}: alone, the request must get the same tokens, got {alone:?}", job.name);
    }
    println!("Each request has the same tokens alone as in the batch.");
    Ok(())
}
