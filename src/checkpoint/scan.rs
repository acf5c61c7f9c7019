//! Scan of all tensors. Each thread takes a span of a tensor, reads and counts it in parts, and merges its counts into
//! the tensor's counts.

use super::bins::{Bin, Tables, merged};
use super::error::{Error, Result};
use super::kind::Decode;
use super::stats::{self, Stats};
use super::tensor::Tensor;
use super::wide::{Beside, RUN};
use crate::simd::{self, Token};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Number of bytes that a thread takes at a time. With this number, merging the counts takes far less time than
/// counting.
const SPAN: u64 = 8 << 20;
/// Number of bytes that are read at a time. They stay in the L2 cache until they are counted.
const PART: u64 = 256 << 10;

/// A range of a tensor's bytes that one thread scans.
struct Span {
    tensor: usize,
    start: u64,
    bytes: u64,
}

/// Counts and other statistics of a tensor. They cover the spans that were scanned so far.
#[derive(Default)]
struct Counted {
    bins: Vec<Bin>,
    /// For each span, its start and its statistics other than counts. The statistics are merged in order of the starts,
    /// so that sums do not depend on the threads.
    beside: Vec<(u64, Beside)>,
}

/// State of a tensor: the number of spans left, the counts so far, and the statistics once all spans are counted.
struct Pending {
    spans: usize,
    counted: Counted,
    stats: Option<Stats>,
}

/// Returns the statistics of each tensor, or `None` for a tensor that is not analysed. After each read, `progress` is
/// called on the reading thread with the number of bytes read.
pub(crate) fn scan(
    files: &[PathBuf],
    tensors: &[Tensor],
    progress: &(dyn Fn(u64) + Sync),
) -> Result<Vec<Option<Stats>>> {
    let spans: Vec<Span> = tensors.iter().enumerate().flat_map(|(i, tensor)| spans(i, tensor)).collect();
    let mut pending: Vec<Mutex<Pending>> = Vec::with_capacity(tensors.len());
    pending.resize_with(tensors.len(), || Mutex::new(Pending { spans: 0, counted: Counted::default(), stats: None }));
    for span in &spans {
        lock(&pending[span.tensor]).spans += 1;
    }
    let token = Token::current().map_err(|error| Error::Simd(Box::new(error)))?;
    let (next, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
    let failed: Mutex<Option<Error>> = Mutex::new(None);
    simd::spread(simd::threads(), &|_| {
        let mut worker = Worker::new(files, token);
        while !stop.load(Ordering::Relaxed) {
            let Some(span) = spans.get(next.fetch_add(1, Ordering::Relaxed)) else { break };
            let tensor = &tensors[span.tensor];
            match worker.count(tensor, span, progress) {
                Ok(counted) => lock(&pending[span.tensor]).add(tensor, counted),
                Err(error) => {
                    stop.store(true, Ordering::Relaxed);
                    lock(&failed).get_or_insert(error);
                }
            }
        }
    });
    match failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some(error) => Err(error),
        None => {
            Ok(pending.into_iter().map(|one| one.into_inner().unwrap_or_else(PoisonError::into_inner).stats).collect())
        }
    }
}

/// Locks a mutex, and ignores poisoning. Each change leaves the data consistent, so a panic between changes cannot
/// leave the data invalid.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Rounds a number of bytes down to whole blocks, but to no less than one block.
fn whole_blocks(tensor: &Tensor, bytes: u64) -> u64 {
    (bytes / tensor.kind.bytes).max(1) * tensor.kind.bytes
}

/// Returns the spans of a tensor. A tensor without elements has a single empty span. A tensor that is not analysed has
/// no span.
fn spans(i: usize, tensor: &Tensor) -> impl Iterator<Item = Span> {
    let (step, bytes) = (whole_blocks(tensor, SPAN), tensor.bytes);
    let count = if tensor.is_analysed() { bytes.div_ceil(step).max(1) } else { 0 };
    (0..count).map(move |n| Span { tensor: i, start: n * step, bytes: step.min(bytes - n * step) })
}

struct Worker<'a> {
    files: &'a [PathBuf],
    open: Option<(usize, File)>,
    bytes: Vec<u8>,
    counter: Counter,
}

impl<'a> Worker<'a> {
    fn new(files: &'a [PathBuf], token: Token) -> Self {
        let counter = Counter { floats: Vec::new(), tables: Tables::new(), token };
        Worker { files, open: None, bytes: Vec::new(), counter }
    }

    fn count(&mut self, tensor: &Tensor, span: &Span, progress: &(dyn Fn(u64) + Sync)) -> Result<Counted> {
        let Some(decode) = tensor.kind.decode else { return Ok(Counted::default()) };
        let path = &self.files[tensor.file];
        let failed = |source| Error::read(path, format!("tensor {}", super::error::shown(&tensor.name)), source);
        let file = match &mut self.open {
            Some((number, file)) if *number == tensor.file => file,
            open => &mut open.insert((tensor.file, File::open(path).map_err(failed)?)).1,
        };
        file.seek(SeekFrom::Start(tensor.start + span.start)).map_err(failed)?;
        let (mut beside, mut left) = (Beside::default(), span.bytes);
        while left > 0 {
            let part = whole_blocks(tensor, PART).min(left);
            self.bytes.resize(part as usize, 0);
            file.read_exact(&mut self.bytes).map_err(failed)?;
            self.counter.add(decode, &self.bytes, &mut beside);
            progress(part);
            left -= part;
        }
        let bits = if let Decode::Bits8(_) = decode { 8 } else { 16 };
        Ok(Counted { bins: self.counter.tables.take(bits), beside: vec![(span.start, beside)] })
    }
}

/// Counters of a thread, with the buffer for decoded blocks.
struct Counter {
    floats: Vec<f32>,
    tables: Tables,
    /// Instruction set of the thread that started the scan.
    token: Token,
}

impl Counter {
    /// Counts the elements of `bytes`, which are whole blocks.
    fn add(&mut self, decode: Decode, bytes: &[u8], beside: &mut Beside) {
        let Counter { floats, tables, token } = self;
        match decode {
            Decode::Bits8(_) => tables.add(bytes, u16::from),
            Decode::Bits16(_) => tables.add_bits16(bytes),
            Decode::F64 => {
                for block in bytes.as_chunks::<8>().0.chunks(RUN) {
                    let block: Vec<f64> = block.iter().map(|&bytes| f64::from_le_bytes(bytes)).collect();
                    beside.add(&block, *token, tables);
                }
            }
            Decode::F32 => {
                for block in bytes.as_chunks::<4>().0.chunks(RUN) {
                    floats.clear();
                    floats.extend(block.iter().map(|&bytes| f32::from_le_bytes(bytes)));
                    beside.add(floats, *token, tables);
                }
            }
            Decode::Blocks(decode) => {
                floats.clear();
                decode(bytes, floats);
                floats.chunks(RUN).for_each(|block| beside.add(block, *token, tables));
            }
        }
    }
}

impl Pending {
    /// Adds the counts of a span. After the last span, computes the statistics.
    fn add(&mut self, tensor: &Tensor, mut counted: Counted) {
        self.counted.bins = merged(&self.counted.bins, &counted.bins);
        self.counted.beside.append(&mut counted.beside);
        self.spans -= 1;
        if self.spans == 0 {
            let counted = std::mem::take(&mut self.counted);
            self.stats = tensor.kind.decode.map(|decode| counted.stats(decode));
        }
    }
}

impl Counted {
    fn stats(mut self, decode: Decode) -> Stats {
        self.beside.sort_by_key(|(start, _)| *start);
        let beside = self.beside.iter().fold(Beside::default(), |all, (_, one)| all.and(one));
        let bins = &self.bins;
        match decode {
            Decode::Bits8(of) => stats::of_patterns(bins, |bits| (of.value)(bits as u8), of.min_normal),
            Decode::Bits16(of) => stats::of_patterns(bins, of.value, of.min_normal),
            Decode::F32 | Decode::Blocks(_) => stats::of_wide::<f32>(bins, &beside),
            Decode::F64 => stats::of_wide::<f64>(bins, &beside),
        }
    }
}
