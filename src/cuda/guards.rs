//! Counts of fully masked and non-finite rows in device memory. The host waits only when it reads the counts.

use super::device::{self, CallerContext};
use super::workspace;
use crate::error::{Error, Result};
use crate::mask::FullyMasked;
use cudarc::driver::{CudaSlice, CudaStream, SyncOnDrop};
use std::sync::Arc;

/// Counters in device memory, in which softmax, log_softmax, logsumexp and their gradients count rows that are fully
/// masked or not finite. An op that gets counters never waits, not even under
/// [`FullyMasked::Error`](crate::FullyMasked::Error), so a CUDA graph can capture it. [`Guards::take`] waits, and
/// returns the counts.
///
/// Several calls may add to the same counters, and each replay of a graph adds to them again. The counters must live as
/// long as a graph that updates them.
///
/// ```no_run
/// use evenkeel::cuda::{self, Guards, Mask, Rows, RowsMut};
/// use evenkeel::{FullyMasked, Softmax};
///
/// let stream = cuda::device(0)?.default_stream();
/// let mut guards = Guards::new(&stream)?;
/// let x = stream.clone_htod(&[1.0f32, 2.0, f32::NEG_INFINITY, f32::NEG_INFINITY])?;
/// let mut y = stream.alloc_zeros::<f32>(4)?;
/// let (from, to) = (Rows::new(x.as_view(), 2, 2)?, RowsMut::new(y.as_view_mut(), 2, 2)?);
/// let options = Softmax::default().fully_masked(FullyMasked::Error);
/// cuda::softmax_masked_into(&stream, from, to, &Mask::none(), &options, Some(&mut guards))?;
/// // Further ops, on the device and on the host.
/// let counts = guards.take()?;
/// assert_eq!(counts.first_fully_masked, Some(1));
/// assert_eq!(counts.check("softmax"), Err(evenkeel::Error::fully_masked("softmax", 1)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Guards {
    words: CudaSlice<u64>,
}

/// Counts of [`Guards`]. Each row is counted at most once: in `nan` if it has a NaN, else in `fully_masked` if it is
/// fully masked, else in `infinite` if it has +inf. A gradient also counts a row whose scores are finite if an incoming
/// gradient is not finite. Such a row counts in `nan` or in `infinite`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct GuardCounts {
    /// Number of rows with NaN.
    pub nan: u64,
    /// Number of rows with +inf or with an infinite incoming gradient.
    pub infinite: u64,
    /// Number of fully masked rows.
    pub fully_masked: u64,
    /// Lowest index of a fully masked row, within the rows of its call.
    pub first_fully_masked: Option<usize>,
}

/// Part of an error message: the host actions during which the stream must not be captured.
const WHILE: &str = "guards are created or read";
/// Number of 64-bit words that the kernels update.
const WORDS: usize = 4;
/// Counters before the first call: three counts, and the index of the first fully masked row.
const INITIAL: [u64; WORDS] = [0, 0, 0, u64::MAX];

impl Guards {
    /// Allocates counters on the stream, and sets them to zero. Ops on other streams of the device may use them too. If
    /// `cudarc`'s event tracking is off, the caller must then synchronise the streams.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] if the stream is captured; [`Error::Failed`] if the device fails.
    pub fn new(stream: &Arc<CudaStream>) -> Result<Self> {
        let _caller = CallerContext::save();
        refuse_capture("guards", stream, WHILE)?;
        Ok(Guards { words: device::check(stream.clone_htod(&INITIAL))? })
    }

    /// Waits for the stream on which the counters were allocated. Returns the counts since the last call of this
    /// function, and sets the counters to zero.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] if the stream is captured; [`Error::Failed`] if the device fails.
    pub fn take(&mut self) -> Result<GuardCounts> {
        let _caller = CallerContext::save();
        let stream = self.words.stream().clone();
        refuse_capture("guards", &stream, WHILE)?;
        let counts = GuardCounts::new(&device::to_host(&stream, &self.words)?);
        device::check(stream.memcpy_htod(&INITIAL, &mut self.words))?;
        Ok(counts)
    }

    fn address<'s>(&'s mut self, op: &'static str, stream: &'s CudaStream) -> Result<(u64, SyncOnDrop<'s>)> {
        device::write((op, "guards"), &mut self.words, stream)
    }
}

/// Returns an error of `op` if the stream is captured. `during` names the host's actions during which capture is not
/// allowed.
pub(super) fn refuse_capture(op: &'static str, stream: &CudaStream, during: &str) -> Result<()> {
    if device::is_captured(stream)? {
        return Err(Error::invalid(op, "stream", "captured", format!("not captured while {during}")));
    }
    Ok(())
}

impl GuardCounts {
    fn new(words: &[u64]) -> Self {
        let word = |index: usize| words.get(index).copied().unwrap_or(INITIAL[index]);
        let (nan, infinite, fully_masked) = (word(0), word(1), word(2));
        let first_fully_masked = usize::try_from(word(3)).ok().filter(|_| fully_masked > 0);
        GuardCounts { nan, infinite, fully_masked, first_fully_masked }
    }

    /// Returns whether all counts are 0.
    pub fn is_clean(&self) -> bool {
        *self == GuardCounts::default()
    }

    /// Fails if a row is fully masked, as `op` does under the policy [`FullyMasked::Error`](crate::FullyMasked::Error).
    ///
    /// # Errors
    /// [`Error::FullyMasked`] with the first fully masked row, if there is one.
    pub fn check(&self, op: &'static str) -> Result<()> {
        match self.first_fully_masked {
            Some(row) => Err(Error::FullyMasked { op, row }),
            None => Ok(()),
        }
    }
}

/// Calls `f` with the address of the caller's counters. If the caller has none, calls `f` with 0, or, under the policy
/// [`FullyMasked::Error`], with the address of counters in the workspace. In the latter case, waits for the stream, and
/// returns an error if a row is fully masked.
pub(super) fn counted(
    op: &'static str,
    stream: &Arc<CudaStream>,
    policy: FullyMasked,
    guards: Option<&mut Guards>,
    f: impl FnOnce(u64) -> Result<()>,
) -> Result<()> {
    if let Some(guards) = guards {
        let (address, _written) = guards.address(op, stream)?;
        return f(address);
    }
    if policy != FullyMasked::Error {
        return f(0);
    }
    refuse_waiting(op, stream)?;
    let words = workspace::with(stream, |workspace| {
        let words = workspace.words(op, WORDS)?;
        workspace.write_words(&INITIAL)?;
        f(words)?;
        workspace.read_words(WORDS)
    })?;
    GuardCounts::new(&words).check(op)
}

/// Calls `f` as [`counted`] does, for ops with workspace. The first argument of `f` is the address of `words` words of
/// the stream's workspace, and the second one is the address of the counters.
pub(super) fn counted_in_workspace(
    op: &'static str,
    stream: &Arc<CudaStream>,
    policy: FullyMasked,
    guards: Option<&mut Guards>,
    words: usize,
    f: impl FnOnce(u64, u64) -> Result<()>,
) -> Result<()> {
    if guards.is_some() || policy != FullyMasked::Error {
        return counted(op, stream, policy, guards, |guards| {
            workspace::with(stream, |workspace| f(workspace.words(op, words)?, guards))
        });
    }
    refuse_waiting(op, stream)?;
    let counts = workspace::with(stream, |workspace| {
        let counts = workspace.words(op, WORDS + words)?;
        workspace.write_words(&INITIAL)?;
        f(counts + (WORDS * size_of::<u64>()) as u64, counts)?;
        workspace.read_words(WORDS)
    })?;
    GuardCounts::new(&counts).check(op)
}

/// Returns an error if the stream is captured, because the call would wait for it.
fn refuse_waiting(op: &'static str, stream: &CudaStream) -> Result<()> {
    if device::is_captured(stream)? {
        let expected = "not captured under the policy FullyMasked::Error, unless the call gets guards";
        return Err(Error::invalid(op, "stream", "captured", expected));
    }
    Ok(())
}
