//! Log-probabilities of sampled tokens and of the most probable tokens, on a device.

use super::{MOST_BLOCKS, OP, Outcome, Request, one_for_each, unsupported};
use crate::cuda::device::{self, Launch};
use crate::cuda::rows::{DeviceElement, Rows};
use crate::element::DType;
use crate::error::{Error, Result};
use crate::math::sum::MAX_TERMS;
use cudarc::driver::{CudaStream, CudaView, CudaViewMut, DeviceRepr, ValidAsZeroBits};
use std::sync::Arc;

/// Maximum number of most probable tokens that a row reports.
const MOST_TOP: usize = 256;
/// Token of an unused [`Logprob`].
const NO_TOKEN: u32 = u32::MAX;

/// Token with its log-probability, as the kernels write it.
#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(C)]
pub struct Logprob {
    token: u32,
    padding: u32,
    logprob: f64,
}

// SAFETY: the struct has plain numbers in C layout, as the kernels declare it.
unsafe impl DeviceRepr for Logprob {}
// SAFETY: all zeros are a valid result: token 0, with log-probability 0.
unsafe impl ValidAsZeroBits for Logprob {}

impl Default for Logprob {
    fn default() -> Self {
        Logprob { token: NO_TOKEN, padding: 0, logprob: f64::NEG_INFINITY }
    }
}

impl Logprob {
    /// Returns the token and its log-probability, or `None` for an unused entry.
    pub fn get(self) -> Option<(u32, f64)> {
        (self.token != NO_TOKEN).then_some((self.token, self.logprob))
    }
}

/// Arguments of the kernels that compute log-probabilities.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct LogprobArguments {
    logits: u64,
    requests: u64,
    outcomes: u64,
    kept: u64,
    logprobs: u64,
    rows: u64,
    cols: u32,
    top: u32,
}

// SAFETY: the struct has plain integers in C layout, as the kernels declare it.
unsafe impl DeviceRepr for LogprobArguments {}

/// Draws a token from each row as [`sample_into`](super::sample_into) does, and writes log-probabilities among the
/// tokens that the filters kept. The log-probabilities are bit-identical to the CPU's. The host does not wait, and
/// allocates only if the stream's workspace is too small.
///
/// # Shapes
/// `logprobs` is `[rows, 1 + n]`, with an `n` of 0 to 256. The first entry of a row is the drawn token with
/// [`Sampled::logprob`](crate::Sampled::logprob). The other entries are
/// [`Distribution::top_logprobs`](crate::Distribution::top_logprobs) of `n`: the most probable tokens, most probable
/// first. Entries are unused if fewer tokens were kept, and in a row without a token.
///
/// ```no_run
/// use evenkeel::cuda::sample::{Logprob, Outcome, Request};
/// use evenkeel::cuda::{self, Rows};
/// use evenkeel::{Draw, SamplerConfig};
///
/// let stream = cuda::device(0)?.default_stream();
/// let logits = stream.clone_htod(&[1.0f32, 3.0, 2.0])?;
/// let sampler = SamplerConfig::default().temperature(0.7).validate()?;
/// let requests = stream.clone_htod(&[Request::new(&sampler, Draw { seed: 1, row: 0, draw: 0 })?])?;
/// let mut outcomes = stream.alloc_zeros::<Outcome>(1)?;
/// let mut logprobs = stream.alloc_zeros::<Logprob>(1 + 2)?;
/// let rows = Rows::new(logits.as_view(), 1, 3)?;
/// let (out, to) = (outcomes.as_view_mut(), logprobs.as_view_mut());
/// cuda::sample_logprobs_into(&stream, rows, requests.as_view(), None, out, to)?;
/// let [drawn, first, second] = stream.clone_dtoh(&logprobs)?[..] else { unreachable!() };
/// println!("drawn: {:?}, most probable: {:?}, {:?}", drawn.get(), first.get(), second.get());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// The errors of [`sample_into`](super::sample_into); [`Error::ShapeMismatch`] if the length of `logprobs` is not a
/// multiple of the number of rows; [`Error::InvalidArgument`] for more than 256 most probable tokens.
pub fn sample_logprobs_into<E: DeviceElement>(
    stream: &Arc<CudaStream>,
    logits: Rows<'_, E>,
    requests: CudaView<'_, Request>,
    adjusted: Option<CudaViewMut<'_, f32>>,
    out: CudaViewMut<'_, Outcome>,
    logprobs: CudaViewMut<'_, Logprob>,
) -> Result<()> {
    let top = top_of(logprobs.len(), logits.rows)?;
    super::draw(stream, logits, (requests, adjusted), out, Some((logprobs, top)))
}

/// Writes log-probabilities of the unchanged logits: at temperature 1, without filters, penalties or masks. The tokens
/// are those of the outcomes, which an earlier call may have drawn with any request. The results are those of the
/// [`Distribution`](crate::Distribution) of the default [`SamplerConfig`](crate::SamplerConfig). The host neither waits
/// nor allocates.
///
/// # Shapes
/// `logprobs` has the shape and the contents that [`sample_logprobs_into`] describes. A token whose logit is -inf has
/// the log-probability -inf. All entries of a row are unused if its outcome is an error, or if the row has a NaN or no
/// logit above -inf.
///
/// # Errors
/// [`Error::ShapeMismatch`] if there is not one outcome for each row, or if the length of `logprobs` is not a multiple
/// of the number of rows; [`Error::EmptyInput`] for rows without tokens; [`Error::InvalidArgument`] for more than 256
/// most probable tokens, or more than 2^21 tokens in a row; [`Error::Failed`] if the device fails.
pub fn logprobs_into<E: DeviceElement>(
    stream: &Arc<CudaStream>,
    logits: Rows<'_, E>,
    outcomes: CudaView<'_, Outcome>,
    mut logprobs: CudaViewMut<'_, Logprob>,
) -> Result<()> {
    let (rows, cols) = (logits.rows, logits.cols);
    one_for_each("outcomes", outcomes.len(), rows)?;
    let top = top_of(logprobs.len(), rows)?;
    let _caller = device::CallerContext::save();
    let (logits, _read) = device::read((OP, "logits"), &logits.data, stream)?;
    let (outcomes, _drawn) = device::read((OP, "outcomes"), &outcomes, stream)?;
    let (logprobs, _written) = device::write((OP, "logprobs"), &mut logprobs, stream)?;
    if let Some((launch, arguments)) = launch_logprobs([logits, 0, outcomes, 0, logprobs], E::DTYPE, (rows, cols), top)?
    {
        // SAFETY: the views have the lengths that the kernel accesses, and are used on this stream.
        unsafe { device::run(stream, &launch, &arguments)? };
    }
    Ok(())
}

/// Returns the number of most probable tokens in each row of a list. A list of `len` log-probabilities has `len / rows`
/// for each row: one for the drawn token, and the others for the most probable tokens.
fn top_of(len: usize, rows: usize) -> Result<usize> {
    if len == 0 && rows == 0 {
        return Ok(0);
    }
    if len < rows || rows == 0 || !len.is_multiple_of(rows) {
        let expected = format!("the same number for each of {rows} rows, at least one");
        return Err(Error::shape(OP, "logprobs", format!("{len} entries"), expected));
    }
    Ok(len / rows - 1)
}

/// Returns the kernel that writes log-probabilities, and its arguments; `None` if there are no rows. Takes five
/// addresses: of the logits, of the [`Request`]s, of the [`Outcome`]s, of the words that [`launches`](super::launches)
/// wrote, and of the output, which has 1 + `top` [`Logprob`]s for each row. For log-probabilities of unchanged logits,
/// the addresses of requests and words are 0.
///
/// # Errors
/// The errors of [`logprobs_into`]; [`Error::UnsupportedDType`] for f64.
pub fn launch_logprobs(
    [logits, requests, outcomes, kept, logprobs]: [u64; 5],
    dtype: DType,
    (rows, cols): (usize, usize),
    top: usize,
) -> Result<Option<(Launch, LogprobArguments)>> {
    let kernel = match dtype {
        DType::F32 => "sample_logprobs_f32",
        DType::F16 => "sample_logprobs_f16",
        DType::BF16 => "sample_logprobs_bf16",
        DType::F64 => return unsupported(dtype),
    };
    if cols > MAX_TERMS {
        return Err(Error::invalid(OP, "vocabulary", cols, format!("at most {MAX_TERMS}")));
    }
    if top > MOST_TOP {
        return Err(Error::invalid(
            OP,
            "logprobs",
            format!("{top} most probable tokens"),
            format!("at most {MOST_TOP}"),
        ));
    }
    if rows > 0 && cols == 0 {
        return Err(Error::EmptyInput { op: OP });
    }
    let (blocks, rows, cols, top) = (rows.min(MOST_BLOCKS) as u32, rows as u64, cols as u32, top as u32);
    let arguments = LogprobArguments { logits, requests, outcomes, kept, logprobs, rows, cols, top };
    let launch = Launch { source: "sample_logprobs", kernel, blocks, threads: 512, shared: 0 };
    Ok((rows > 0).then_some((launch, arguments)))
}
