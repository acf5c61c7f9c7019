//! Measures the duration of each op, and of a copy of the same number of bytes for comparison.
//!
//! Calls are timed in batches between two events of the device. Before each batch, copies keep the device busy while
//! calls are queued. The measured time therefore excludes the host's time per call. Successive calls use different
//! buffers. Together, the buffers are larger than the device's caches.

use crate::error::Result;
use crate::memory::{Placed, Stream};
use crate::numbers;
use crate::ops::{
    Extent, Number, Op, Ready, Shape, adamw, attention_decode, clip_grad_norm, elementwise, losses, norms, rope,
    sample, scores,
};
use crate::record::{OURS, Timing, Timings, write_json};
use crate::watchdog::Watchdog;
use evenkeel::cuda::cudarc::driver::sys::CUevent_flags;
use evenkeel::cuda::cudarc::driver::{CudaEvent, CudaSlice};
use evenkeel::{DType, Element};
use half::bf16;
use std::collections::HashMap;
use std::path::Path;
use std::time::{Duration, Instant};

/// Ops to time, the device, and the file for the timings.
pub struct Plan<'a> {
    pub stream: &'a Stream,
    /// Names of the ops to time; all if empty.
    pub ops: &'a [String],
    /// Largest number of elements per call: larger shapes get fewer or shorter rows. The number also limits the total
    /// size of the buffers that successive calls use.
    pub elements: usize,
    /// Whether to measure only two shapes of each op, in bf16.
    pub is_quick: bool,
    /// File that the timings are written to after each op.
    pub out: &'a Path,
}

const ROWS: &[(usize, usize)] =
    &[(8192, 1024), (8192, 4096), (8192, 8192), (8192, 16_384), (8192, 32_768), (2048, 131_072), (2048, 50_257)];
/// Shapes for masked ops, except softmax with a causal mask, which is timed on [`ROWS`].
const MASKED: &[(usize, usize)] = &[(8192, 4096), (8192, 16_384)];
const FLAT: &[(usize, usize)] = &[(8192, 16_384)];
/// Shape for rope. Each row is one head at one position. There are 32 heads of 8,192 positions. For attention, this
/// is the shape of the keys, and of the values.
const HEADS: &[(usize, usize)] = &[(262_144, 128)];
const LOGITS: &[(usize, usize)] = &[(128, 128_256), (1, 128_256)];

/// Total size, in bytes, of the buffers that successive calls use. It is more than twice the size of the device's
/// second-level cache.
const ROUND: usize = 256 << 20;
const BATCHES: usize = 9;
/// Target duration of a batch, in ms.
const BATCH: f64 = 2.0;
/// Number of copies that keep the device busy before a batch.
const BUSY_COPIES: usize = 8;
const MOST_CALLS: usize = 200;
/// Time limit of an op, including its allocations and its batches. An op that takes longer is assumed to have a kernel
/// that never ends.
const LONGEST: Duration = Duration::from_secs(40);

/// Calls `$then!` for each timed op, with its type, the index of the form of the call in `Op::WAYS`, the shapes and
/// the element types.
macro_rules! each_timed {
    ($then:ident) => {
        $then!(scores::Softmax, 0, ROWS, [bf16, f32]);
        $then!(scores::SoftmaxMasked, 0, ROWS, [bf16, f32]);
        $then!(scores::SoftmaxMasked, 2, MASKED, [bf16]);
        $then!(scores::SoftmaxMasked, 7, MASKED, [bf16]);
        $then!(scores::SoftmaxMasked, 9, MASKED, [bf16]);
        $then!(scores::LogSoftmaxMasked, 2, MASKED, [bf16]);
        $then!(scores::LogSumExpMasked, 2, MASKED, [bf16]);
        $then!(scores::SoftmaxBackwardMasked, 2, MASKED, [bf16]);
        $then!(scores::LogSoftmax, 0, ROWS, [bf16, f32]);
        $then!(scores::LogSumExp, 0, ROWS, [bf16, f32]);
        $then!(scores::SoftmaxBackward, 0, ROWS, [bf16, f32]);
        $then!(scores::LogSoftmaxBackward, 0, ROWS, [bf16, f32]);
        $then!(scores::LogSumExpBackward, 0, ROWS, [bf16, f32]);
        $then!(losses::CrossEntropy, 0, ROWS, [bf16, f32]);
        $then!(losses::CrossEntropyBackward, 0, ROWS, [bf16, f32]);
        $then!(norms::RmsNorm, 0, ROWS, [bf16, f32]);
        $then!(norms::RmsNormResidual, 0, ROWS, [bf16, f32]);
        $then!(norms::LayerNorm, 0, ROWS, [bf16, f32]);
        $then!(norms::RmsNormBackward, 0, ROWS, [bf16, f32]);
        $then!(norms::LayerNormBackward, 0, ROWS, [bf16, f32]);
        $then!(rope::Rope, 0, HEADS, [bf16, f32]);
        $then!(rope::RopeBackward, 0, HEADS, [bf16, f32]);
        $then!(rope::QkNormRope, 0, HEADS, [bf16, f32]);
        $then!(attention_decode::AttentionDecode, 0, HEADS, [bf16, f32]);
        $then!(attention_decode::AttentionDecode, 1, HEADS, [bf16]);
        $then!(clip_grad_norm::ClipGradNorm, 0, FLAT, [bf16, f32]);
        $then!(adamw::AdamW, 0, FLAT, [bf16, f32]);
        $then!(adamw::AdamW, 1, FLAT, [bf16]);
        $then!(elementwise::Exp, 0, FLAT, [bf16, f32]);
        $then!(elementwise::Log, 0, FLAT, [bf16, f32]);
        $then!(elementwise::Gelu, 0, FLAT, [bf16, f32]);
        $then!(elementwise::GeluTanh, 0, FLAT, [bf16, f32]);
        $then!(elementwise::Silu, 0, FLAT, [bf16, f32]);
        $then!(elementwise::Tanh, 0, FLAT, [bf16, f32]);
        $then!(elementwise::Softplus, 0, FLAT, [bf16, f32]);
        $then!(elementwise::Swiglu, 0, FLAT, [bf16]);
        $then!(elementwise::SwigluBackward, 0, FLAT, [bf16, f32]);
        $then!(elementwise::SiluBackward, 0, FLAT, [bf16, f32]);
        $then!(elementwise::GeluBackward, 0, FLAT, [bf16, f32]);
        $then!(elementwise::Exp2, 0, FLAT, [bf16]);
        $then!(elementwise::Log2, 0, FLAT, [bf16]);
        $then!(elementwise::Sigmoid, 0, FLAT, [bf16]);
        $then!(elementwise::Erf, 0, FLAT, [bf16]);
        $then!(elementwise::Rsqrt, 0, FLAT, [bf16]);
        $then!(sample::Sample, 0, LOGITS, [bf16, f32]);
        $then!(sample::Sample, 1, LOGITS, [bf16, f32]);
        $then!(sample::Sample, 2, LOGITS, [bf16, f32]);
        $then!(sample::SampleLogprobs, 0, LOGITS, [bf16, f32]);
        $then!(sample::SampleLogprobs, 1, LOGITS, [bf16]);
        $then!(sample::SampleLogprobs, 8, LOGITS, [bf16]);
    };
}

/// Returns the names of the timed ops, each once.
pub fn names() -> Vec<&'static str> {
    let mut names = Vec::new();
    macro_rules! name {
        ($op:ty, $way:expr, $shapes:expr, [$($type:ty),*]) => {{
            let _: usize = $way;
            names.push(<$op>::NAME)
        }};
    }
    each_timed!(name);
    names.dedup();
    names
}

/// Measures the duration of each planned op that is not in `timings` yet.
///
/// # Errors
/// Returns the device's error, after writing it to the file.
pub fn run(plan: &Plan, timings: &mut Timings) -> Result<()> {
    let mut clock = Clock::new(plan)?;
    macro_rules! op {
        ($op:ty, $way:expr, $shapes:expr, [$($type:ty),*]) => {
            let is_planned = plan.ops.is_empty() || plan.ops.iter().any(|name| name == <$op>::NAME);
            let shapes = if plan.is_quick { &$shapes[..$shapes.len().min(2)] } else { $shapes };
            for &(rows, cols) in shapes.iter().filter(|_| is_planned) {
                let cols = cols.min(plan.elements);
                let rows = rows.min(plan.elements / cols);
                let shape = <$op>::shape(Shape { rows, cols });
                $(if !plan.is_quick || <$type>::DTYPE == DType::BF16 {
                    written::<$op, $type>(plan, timings, &mut clock, shape, $way)?;
                })*
            }
        };
    }
    each_timed!(op);
    Ok(())
}

fn written<O: Op, E: Number>(
    plan: &Plan,
    timings: &mut Timings,
    clock: &mut Clock,
    shape: Shape,
    way: usize,
) -> Result<()> {
    let op = if way == 0 && !O::NAME.starts_with("sample") {
        O::NAME.to_string()
    } else {
        format!("{}: {}", O::NAME, O::WAYS[way])
    };
    let key = |timing: &Timing| (timing.op.clone(), timing.dtype.clone(), timing.rows, timing.cols);
    let (dtype, Shape { rows, cols }) = (E::DTYPE.to_string(), shape);
    let mut timing =
        Timing { op, dtype, rows, cols, by: OURS.to_string(), bytes: O::bytes::<E>(shape), ..Timing::default() };
    if timings.timings.iter().any(|done| key(done) == key(&timing)) {
        return Ok(());
    }
    // Text that stays in the file if the process ends during this op.
    timing.trouble = Some("the program ended during this op".to_string());
    timings.timings.push(timing.clone());
    write_json(plan.out, timings)?;
    let _watchdog = Watchdog::new(format!("{} {shape}", timing.op), LONGEST);
    let measured = time::<O, E>(clock, shape, way).and_then(|us| Ok((us, clock.copy(timing.bytes)?)));
    timing.trouble = None;
    let lost = match measured {
        Ok((spread, copy_us)) => {
            let Spread { us, fastest, slowest, trouble } = spread;
            timing = Timing { us, fastest, slowest, copy_us, trouble, ..timing };
            None
        }
        Err(error) => {
            timing.trouble = Some(error.to_string());
            Some(error).filter(|error| error.is_of_device())
        }
    };
    let Timing { op, dtype, us, copy_us, .. } = &timing;
    println!("{op}, {dtype}, {shape}: {us:.1} us, a copy {copy_us:.1} us {}", timing.trouble.as_deref().unwrap_or(""));
    if let Some(last) = timings.timings.last_mut() {
        *last = timing;
    }
    write_json(plan.out, timings)?;
    lost.map_or(Ok(()), Err)
}

fn time<O: Op, E: Number>(clock: &mut Clock, shape: Shape, way: usize) -> Result<Spread> {
    let stream = clock.stream.clone();
    let block = numbers::plain::<E>(1 << 20);
    let placed = |extent: &Extent| Placed::repeated(&stream, &block, extent.len(shape));
    let mut rounds = Vec::new();
    for _ in 0..clock.pieces(O::bytes::<E>(shape)) {
        let read = O::READ.iter().map(placed).collect::<Result<Vec<_>>>()?;
        let written = O::WRITTEN.iter().map(placed).collect::<Result<Vec<_>>>()?;
        rounds.push((read, written, O::on_device::<E>(&stream, shape, way)?));
    }
    for (read, written, ready) in &mut rounds {
        ready.fill(read, written)?;
    }
    let count = rounds.len();
    clock.measure(count, |call| {
        let (read, written, ready) = &mut rounds[call % count];
        ready.launch(read, written)
    })
}

/// Duration of a call, in µs.
struct Spread {
    us: f64,
    fastest: f64,
    slowest: f64,
    trouble: Option<String>,
}

struct Clock {
    stream: Stream,
    start: CudaEvent,
    end: CudaEvent,
    /// Memory whose copies keep the device busy.
    busy: [CudaSlice<u8>; 2],
    /// Duration of these copies, in µs.
    busy_us: f64,
    /// Total size, in bytes, of the buffers that successive calls use.
    round: usize,
    /// Durations of copies, by the number of bytes that they read and write.
    copies: HashMap<usize, f64>,
}

impl Clock {
    fn new(plan: &Plan) -> Result<Self> {
        let stream = plan.stream.clone();
        let event = || stream.context().new_event(Some(CUevent_flags::CU_EVENT_DEFAULT));
        let bytes = plan.elements.min(1 << 30);
        let busy = [stream.alloc_zeros(bytes)?, stream.alloc_zeros(bytes)?];
        let (start, end) = (event()?, event()?);
        let round = ROUND.min(plan.elements);
        let mut clock = Clock { stream, start, end, busy, busy_us: 0.0, round, copies: HashMap::new() };
        for _ in 0..2 {
            clock.start.record(&clock.stream)?;
            clock.keep_busy()?;
            clock.end.record(&clock.stream)?;
            clock.busy_us = 1e3 * f64::from(clock.start.elapsed_ms(&clock.end)?);
        }
        Ok(clock)
    }

    fn keep_busy(&mut self) -> Result<()> {
        let [from, to] = &mut self.busy;
        for _ in 0..BUSY_COPIES {
            self.stream.memcpy_dtod(from, to)?;
        }
        Ok(())
    }

    /// Returns the number of sets of buffers that successive calls use in turn, if each call moves `bytes`.
    fn pieces(&self, bytes: usize) -> usize {
        self.round.div_ceil(bytes.max(1)).clamp(1, 64)
    }

    /// Measures the duration of a call. The first `warming` calls do not count.
    fn measure(&mut self, warming: usize, mut call: impl FnMut(usize) -> Result<()>) -> Result<Spread> {
        let mut next = 0;
        let mut calls = |count: usize| {
            let range = next..next + count;
            next += count;
            range.into_iter().try_for_each(&mut call)
        };
        calls(warming)?;
        let mut batch = |count: usize| {
            let queueing = Instant::now();
            self.keep_busy()?;
            self.start.record(&self.stream)?;
            calls(count)?;
            self.end.record(&self.stream)?;
            let queueing = queueing.elapsed().as_secs_f64() * 1e6;
            Ok((1e3 * f64::from(self.start.elapsed_ms(&self.end)?) / count as f64, queueing))
        };
        let (about, _) = batch(4)?;
        let count = ((1e3 * BATCH / about.max(0.1)) as usize).clamp(4, MOST_CALLS);
        let batches = (0..BATCHES).map(|_| batch(count)).collect::<Result<Vec<_>>>()?;
        let mut times: Vec<f64> = batches.iter().map(|(us, _)| *us).collect();
        times.sort_by(f64::total_cmp);
        let queueing = batches.iter().map(|(_, queueing)| *queueing).fold(f64::INFINITY, f64::min);
        let trouble = (queueing > self.busy_us).then(|| {
            format!(
                "the host took {queueing:.0} us to queue {count} calls; the device was busy for only {:.0} us",
                self.busy_us
            )
        });
        Ok(Spread { us: times[BATCHES / 2], fastest: times[0], slowest: times[BATCHES - 1], trouble })
    }

    /// Returns the duration, in µs, of a copy that reads and writes `bytes` in total.
    fn copy(&mut self, bytes: usize) -> Result<f64> {
        if let Some(us) = self.copies.get(&bytes) {
            return Ok(*us);
        }
        let stream = self.stream.clone();
        let room = || stream.alloc_zeros::<u8>((bytes / 2).max(1));
        let mut rounds = (0..self.pieces(bytes)).map(|_| Ok((room()?, room()?))).collect::<Result<Vec<_>>>()?;
        let count = rounds.len();
        let spread = self.measure(count, |call| {
            let (from, to) = &mut rounds[call % count];
            Ok(stream.memcpy_dtod(from, to)?)
        })?;
        self.copies.insert(bytes, spread.us);
        Ok(spread.us)
    }
}
