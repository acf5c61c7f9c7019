//! Sampling on a device: draws a token from each row of logits, or reports an error for that row.

mod logprobs;
mod request;
mod steps;

use super::device::{self, Launch};
use super::rows::{DeviceElement, Rows};
use super::workspace;
use crate::element::DType;
use crate::error::{Error, Result};
use crate::math::sum::MAX_TERMS;
use cudarc::driver::{CudaStream, CudaView, CudaViewMut, DeviceRepr, ValidAsZeroBits};
use std::sync::Arc;

pub use logprobs::{Logprob, LogprobArguments, launch_logprobs, logprobs_into, sample_logprobs_into};
pub use request::Request;
#[cfg(feature = "candle-cuda")]
pub(crate) use steps::Plan;
pub use steps::{sample_requests, sample_rows};

const OP: &str = "sample";

/// Result of sampling one row. Kernels of the application may read it in device memory, as four 32-bit integers. The
/// first integer is 0 if a token was drawn, and the second integer is the token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Outcome {
    status: u32,
    token: u32,
    kept: u32,
    padding: u32,
}

// SAFETY: the struct has plain integers in C layout, as the kernels declare it.
unsafe impl DeviceRepr for Outcome {}
// SAFETY: all zeros are a valid result: token 0, with no tokens kept.
unsafe impl ValidAsZeroBits for Outcome {}

impl Outcome {
    /// Returns the token, and the number of tokens that the filters kept.
    ///
    /// # Errors
    /// The errors of [`Sampler::sample`](crate::Sampler::sample); [`Error::InvalidArgument`] if a token of the history
    /// is outside the vocabulary, or if there are penalties but no `adjusted` buffer.
    pub fn result(self, row: usize, vocabulary: usize) -> Result<(u32, usize)> {
        match self.status {
            0 => Ok((self.token, self.kept as usize)),
            1 => Err(Error::non_finite_input(OP, row, self.token as usize, f64::NAN)),
            2 => Err(Error::EmptySupport { op: OP, row, vocabulary }),
            3 => {
                let expected = format!("a list of tokens below {vocabulary}");
                Err(Error::invalid_in_row(
                    OP,
                    "history",
                    row,
                    "a list with a token outside of the vocabulary",
                    expected,
                ))
            }
            _ => Err(Error::invalid_in_row(OP, "adjusted", row, "not given", "given if a request has penalties")),
        }
    }
}

/// Arguments of the kernels that draw.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Arguments {
    logits: u64,
    requests: u64,
    outcomes: u64,
    kept: u64,
    work: u64,
    rows: u64,
    stride: u64,
    cols: u32,
    adjusted: u32,
    parts: u32,
    padding: u32,
}

/// Arguments of the kernel that advances a counter of draws.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct AdvanceArguments {
    counter: u64,
}

// SAFETY: the struct has a plain integer in C layout, as the kernel declares it.
unsafe impl DeviceRepr for AdvanceArguments {}

/// Arguments of the kernels that apply penalties.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct AdjustArguments {
    logits: u64,
    requests: u64,
    adjusted: u64,
    rows: u64,
    cols: u64,
}

// SAFETY: the struct has plain integers in C layout, as the kernels declare it.
unsafe impl DeviceRepr for Arguments {}
// SAFETY: the struct has plain integers in C layout, as the kernels declare it.
unsafe impl DeviceRepr for AdjustArguments {}

/// Draws a token from each row of logits on the stream's device. The tokens are those that
/// [`Sampler::sample_rows`](crate::Sampler::sample_rows) draws. The host does not wait, and allocates only if the
/// stream's workspace is too small. `adjusted` is a buffer for the penalised logits, with the length of the logits. The
/// buffer may be omitted if no request has penalties. For log-probabilities, use [`sample_logprobs_into`].
///
/// # Errors
/// [`Error::ShapeMismatch`] if the lengths do not match; [`Error::EmptyInput`] for rows without tokens;
/// [`Error::InvalidArgument`] for more than 2^21 tokens; [`Error::Failed`] if the device fails. Errors of a single row
/// are reported in its [`Outcome`].
pub fn sample_into<E: DeviceElement>(
    stream: &Arc<CudaStream>,
    logits: Rows<'_, E>,
    requests: CudaView<'_, Request>,
    adjusted: Option<CudaViewMut<'_, f32>>,
    out: CudaViewMut<'_, Outcome>,
) -> Result<()> {
    draw(stream, logits, (requests, adjusted), out, None)
}

/// Draws a token from each row, and writes log-probabilities if there is a list for them. The number in `logprobs` is
/// how many of the most probable tokens are reported for each row.
fn draw<E: DeviceElement>(
    stream: &Arc<CudaStream>,
    logits: Rows<'_, E>,
    (requests, mut adjusted): (CudaView<'_, Request>, Option<CudaViewMut<'_, f32>>),
    mut out: CudaViewMut<'_, Outcome>,
    mut logprobs: Option<(CudaViewMut<'_, Logprob>, usize)>,
) -> Result<()> {
    let (rows, cols) = (logits.rows, logits.cols);
    one_for_each("requests", requests.len(), rows)?;
    one_for_each("out", out.len(), rows)?;
    if let Some(adjusted) = adjusted.as_ref().filter(|adjusted| adjusted.len() != rows * cols) {
        let expected = format!("{rows} rows of {cols}");
        return Err(Error::shape(OP, "adjusted", format!("{} elements", adjusted.len()), expected));
    }
    let _caller = device::CallerContext::save();
    let (logits, _read) = device::read((OP, "logits"), &logits.data, stream)?;
    let (requests, _asked) = device::read((OP, "requests"), &requests, stream)?;
    let (out, _written) = device::write((OP, "out"), &mut out, stream)?;
    let adjusted = adjusted.as_mut().map(|adjusted| device::write((OP, "adjusted"), adjusted, stream)).transpose()?;
    let logprobs = match &mut logprobs {
        Some((to, top)) => Some((device::write((OP, "logprobs"), to, stream)?, *top)),
        None => None,
    };
    let (from, dtype) = match &adjusted {
        Some((to, _)) => (*to, DType::F32),
        None => (logits, E::DTYPE),
    };
    let adjust =
        adjusted.as_ref().map(|(to, _)| adjust([logits, requests, *to], E::DTYPE, (rows, cols))).transpose()?;
    workspace::with(stream, |workspace| {
        let kept_words = if logprobs.is_some() { rows * KEPT_WORDS } else { 0 };
        let words = workspace.words(OP, kept_words + workspace_len(dtype, (rows, cols)))?;
        let (kept, work) = (if kept_words > 0 { words } else { 0 }, words + (kept_words * size_of::<u64>()) as u64);
        let draws = launches([from, requests, out, work, kept], dtype, (rows, cols), adjusted.is_some())?;
        let last = match &logprobs {
            Some(((to, _), top)) => launch_logprobs([from, requests, out, kept, *to], dtype, (rows, cols), *top)?,
            None => None,
        };
        if let Some((launch, arguments)) = adjust.flatten() {
            // SAFETY: the views have the lengths that the kernel accesses, and are used on this stream.
            unsafe { device::run(stream, &launch, &arguments)? };
        }
        for (launch, arguments) in draws {
            // SAFETY: the views and the workspace have the lengths that the kernels access, and are used on this
            // stream.
            unsafe { device::run(stream, &launch, &arguments)? };
        }
        if let Some((launch, arguments)) = last {
            // SAFETY: the views and the workspace have the lengths that the kernel accesses, and are used on this
            // stream.
            unsafe { device::run(stream, &launch, &arguments)? };
        }
        Ok(())
    })?;
    Ok(())
}

fn one_for_each(argument: &'static str, len: usize, rows: usize) -> Result<()> {
    if len == rows {
        return Ok(());
    }
    Err(Error::shape(OP, argument, format!("{len} entries"), format!("one for each of {rows} rows")))
}

/// Adds 1 to a counter of draws on the stream's device; see [`Request::counter`]. The host neither waits nor allocates.
///
/// # Errors
/// [`Error::ShapeMismatch`] if the view does not have exactly one element; [`Error::Failed`] if the device fails.
pub fn advance(stream: &Arc<CudaStream>, mut counter: CudaViewMut<'_, u64>) -> Result<()> {
    if counter.len() != 1 {
        return Err(Error::shape(OP, "counter", format!("{} elements", counter.len()), "1 element"));
    }
    let _caller = device::CallerContext::save();
    let (counter, _written) = device::write((OP, "counter"), &mut counter, stream)?;
    let (launch, arguments) = launch_advance(counter);
    // SAFETY: the view has one element, and is used on this stream.
    unsafe { device::run(stream, &launch, &arguments) }
}

/// Returns the kernel that adds 1 to the `u64` at an address, and its arguments.
pub fn launch_advance(counter: u64) -> (Launch, AdvanceArguments) {
    (Launch { source: OP, kernel: "sample_advance", blocks: 1, threads: 32, shared: 0 }, AdvanceArguments { counter })
}

/// Returns the kernels that draw, in launch order, with their arguments. Takes five addresses: of the logits, of the
/// [`Request`]s, of the [`Outcome`]s, of a workspace of [`workspace_len`] 64-bit words, and of an output of
/// [`KEPT_WORDS`] 64-bit words for each row. The last address is 0 unless [`launch_logprobs`] reads these words.
/// `is_adjusted` states that the logits are the output of [`adjust`].
///
/// # Errors
/// The errors of [`sample_into`]; [`Error::UnsupportedDType`] for f64.
pub fn launches(
    [logits, requests, outcomes, workspace, kept]: [u64; 5],
    dtype: DType,
    (rows, cols): (usize, usize),
    is_adjusted: bool,
) -> Result<Vec<(Launch, Arguments)>> {
    let [whole, in_parts @ ..] = match dtype {
        DType::F32 => ["sample_f32_8", "sample_survey_f32", "sample_measure_f32", "sample_list_f32", "sample_f32_16"],
        DType::F16 => ["sample_f16_8", "sample_survey_f16", "sample_measure_f16", "sample_list_f16", "sample_f16_16"],
        DType::BF16 => {
            ["sample_bf16_8", "sample_survey_bf16", "sample_measure_bf16", "sample_list_bf16", "sample_bf16_16"]
        }
        DType::F64 => return unsupported(dtype),
    };
    if cols > MAX_TERMS {
        return Err(Error::invalid(OP, "vocabulary", cols, format!("at most {MAX_TERMS}")));
    }
    if rows > 0 && cols == 0 {
        return Err(Error::EmptyInput { op: OP });
    }
    let launch =
        |kernel, blocks: usize, threads| Launch { source: OP, kernel, blocks: blocks as u32, threads, shared: 0 };
    let arguments = |first: usize, rows: usize, parts: usize| Arguments {
        logits: logits + (first * cols * bytes(dtype)) as u64,
        requests: requests + (first * size_of::<Request>()) as u64,
        outcomes: outcomes + (first * size_of::<Outcome>()) as u64,
        kept: if kept == 0 { 0 } else { kept + (first * KEPT_WORDS * size_of::<u64>()) as u64 },
        work: workspace,
        rows: rows as u64,
        stride: (size_of::<u64>() * words_of_row(dtype, cols)) as u64,
        cols: cols as u32,
        adjusted: u32::from(is_adjusted),
        parts: parts as u32,
        padding: 0,
    };
    if cols <= LONG {
        let blocks = rows.min(MOST_BLOCKS);
        return Ok(if rows == 0 { Vec::new() } else { vec![(launch(whole, blocks, 256), arguments(0, rows, 1))] });
    }
    let mut launches = Vec::new();
    let at_once = rows_at_once(cols);
    for first in (0..rows).step_by(at_once) {
        let rows = at_once.min(rows - first);
        let parts = parts(dtype, (rows, cols));
        let arguments = arguments(first, rows, parts);
        let [survey, measure, list, draw] = in_parts;
        launches.extend([survey, measure, list].map(|kernel| (launch(kernel, rows * parts, 256), arguments)));
        launches.push((launch(draw, rows, 512), arguments));
    }
    Ok(launches)
}

fn bytes(dtype: DType) -> usize {
    if dtype == DType::F32 { 4 } else { 2 }
}

/// Returns the largest number of steps that a warp needs to read a row. In a step, each lane reads 16 bytes. Rows that
/// do not begin at a multiple of 16 bytes may take one step more than others.
fn steps(dtype: DType, cols: usize) -> usize {
    let of_piece = 16 / bytes(dtype);
    cols.saturating_add(of_piece - 1).div_ceil(32 * of_piece)
}

/// Returns the number of blocks that read a row. There are enough blocks to keep the device busy, and enough that no
/// lane adds more than 511 masses. The sum of more masses could overflow.
fn parts(dtype: DType, (rows, cols): (usize, usize)) -> usize {
    let steps = steps(dtype, cols);
    let least = steps.div_ceil(WARPS_OF_PART * (511 / (16 / bytes(dtype))));
    (BLOCKS_AT_ONCE / rows).clamp(LEAST_PARTS, MOST_PARTS).min(steps.div_ceil(WARPS_OF_PART)).max(least)
}

/// Returns the maximum number of rows that are processed at a time.
fn rows_at_once(cols: usize) -> usize {
    (LOGITS_AT_ONCE / cols).clamp(LEAST_ROWS, MOST_ROWS)
}

/// Returns the workspace length of a row, in 64-bit words. The workspace has a `SampleWork`, and four f32 for each
/// step: the largest logit of each of the step's four groups of columns.
fn words_of_row(dtype: DType, cols: usize) -> usize {
    WORDS_OF_WORK + 2 * steps(dtype, cols)
}

/// Returns the workspace length for rows of logits, in 64-bit words.
pub fn workspace_len(dtype: DType, (rows, cols): (usize, usize)) -> usize {
    if cols <= LONG { 0 } else { rows.min(rows_at_once(cols)) * words_of_row(dtype, cols) }
}

/// Returns the kernel that writes the penalised logits as f32, and its arguments; `None` if there are no elements. The
/// parameters are three addresses: of the logits, of the [`Request`]s, and of the results, one f32 for each logit.
///
/// # Errors
/// [`Error::UnsupportedDType`] for f64.
pub fn adjust(
    [logits, requests, adjusted]: [u64; 3],
    dtype: DType,
    (rows, cols): (usize, usize),
) -> Result<Option<(Launch, AdjustArguments)>> {
    let kernel = match dtype {
        DType::F32 => "sample_adjust_f32",
        DType::F16 => "sample_adjust_f16",
        DType::BF16 => "sample_adjust_bf16",
        DType::F64 => return unsupported(dtype),
    };
    if rows == 0 || cols == 0 {
        return Ok(None);
    }
    let arguments = AdjustArguments { logits, requests, adjusted, rows: rows as u64, cols: cols as u64 };
    let blocks = rows.min(MOST_BLOCKS) as u32;
    Ok(Some((Launch { source: OP, kernel, blocks, threads: 256, shared: 0 }, arguments)))
}

fn unsupported<T>(dtype: DType) -> Result<T> {
    Err(Error::UnsupportedDType { op: OP, dtype: dtype.to_string(), backend: "cuda" })
}

/// Maximum number of blocks. If there are more rows than blocks, a block processes several rows.
const MOST_BLOCKS: usize = 1 << 20;
/// Row length above which several blocks read a row.
const LONG: usize = 8192;
/// Number of logits that are processed at a time. In f16 and bf16, this many logits fit in a device's second-level
/// cache.
const LOGITS_AT_ONCE: usize = 1 << 24;
/// Minimum and maximum number of rows whose results are in the workspace at the same time.
const LEAST_ROWS: usize = 128;
const MOST_ROWS: usize = 512;
/// Number of blocks that read rows at the same time, unless the bounds of [`parts`] require another number.
const BLOCKS_AT_ONCE: usize = 1024;
const LEAST_PARTS: usize = 8;
const MOST_PARTS: usize = 64;
const WARPS_OF_PART: usize = 8;
/// Size of the kernels' struct `SampleKept`, in 64-bit words.
pub const KEPT_WORDS: usize = 3;
/// Size of the kernels' struct `SampleWork`, in 64-bit words.
const WORDS_OF_WORK: usize = 35376 / 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn launches_cover_all_rows_within_the_workspace() {
        for (rows, cols) in [(1, 8193), (128, 128_256), (129, 1 << 21), (1300, 10_000), (3, 8192)] {
            for (dtype, bytes) in [(DType::F32, 4), (DType::BF16, 2)] {
                let launches =
                    launches([1 << 40, 1 << 41, 1 << 42, 1 << 43, 1 << 44], dtype, (rows, cols), false).unwrap();
                let mut first = 0;
                for (Launch { kernel, blocks, threads, .. }, arguments) in launches {
                    assert_eq!(arguments.logits, (1 << 40) + (first * cols * bytes) as u64, "{kernel}, row {first}");
                    assert_eq!(arguments.requests, (1 << 41) + (first * size_of::<Request>()) as u64);
                    assert_eq!(arguments.outcomes, (1 << 42) + (first * size_of::<Outcome>()) as u64);
                    assert_eq!(arguments.kept, (1 << 44) + (first * KEPT_WORDS * 8) as u64);
                    let (of_launch, parts) = (arguments.rows as usize, arguments.parts as usize);
                    let is_last = cols <= LONG || threads == 512;
                    assert_eq!(blocks as usize, if is_last { of_launch } else { of_launch * parts });
                    if cols > LONG {
                        let used = of_launch * arguments.stride as usize;
                        assert!(
                            used <= 8 * workspace_len(dtype, (rows, cols)),
                            "{rows} rows of {cols} columns: {used} bytes must fit into the workspace"
                        );
                        let share = steps(dtype, cols).div_ceil(WARPS_OF_PART * parts);
                        assert!(
                            parts <= MOST_PARTS && share * (16 / bytes) <= 511,
                            "{cols} columns: expected at most {MOST_PARTS} parts, got {parts}. \
                             Expected at most 511 logits per lane, got {}",
                            share * (16 / bytes)
                        );
                    }
                    first += if is_last { of_launch } else { 0 };
                }
                assert_eq!(first, rows);
            }
        }
    }
}
