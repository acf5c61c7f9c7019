//! Functions that call the collective, and add the op's name to its errors.

use super::Sharded;
use super::collective::Collective;
use crate::error::{Error, Result};
use crate::simd::reserve;

/// Calls a collective. The call may wait inside rayon, which may then run unrelated tasks on this thread. So the
/// thread's state is suspended during the call: reports, traces, the level set by `with_level`, and the floating-point
/// environment.
fn waiting<R>(call: impl FnOnce() -> R) -> R {
    #[cfg(feature = "parallel")]
    let _suspended = crate::simd::suspend();
    call()
}

impl<C: Collective + ?Sized> Sharded<'_, C> {
    pub(super) fn max(&self, op: &'static str, words: &mut [u64]) -> Result<()> {
        waiting(|| self.comm.max(words)).map_err(|error| error.in_collective(op))
    }

    pub(super) fn sum(&self, op: &'static str, words: &mut [u64]) -> Result<()> {
        waiting(|| self.comm.sum(words)).map_err(|error| error.in_collective(op))
    }

    /// Gathers the words of all ranks. Every rank must pass the same number of words.
    pub(super) fn gather(&self, op: &'static str, words: &[u64]) -> Result<Vec<u64>> {
        let needed = words.len().saturating_mul(self.comm.size());
        let all = waiting(|| self.comm.gather(words)).map_err(|error| error.in_collective(op))?;
        if all.len() == needed {
            return Ok(all);
        }
        let reason = format!("gathered {} words; expected {needed}", all.len());
        Err(Error::Collective { op, rank: None, reason })
    }

    /// Gathers one list of words from each rank; `lens` has the length of each rank's list. Nothing is exchanged if all
    /// lists are empty.
    pub(super) fn gather_lists(&self, op: &'static str, words: &[u64], lens: &[usize]) -> Result<Vec<Vec<u64>>> {
        let longest = lens.iter().copied().max().unwrap_or(0);
        if longest == 0 {
            return Ok(vec![Vec::new(); lens.len()]);
        }
        // The lengths come from other ranks and may be huge, so the function checks first that memory suffices.
        reserve::<u64>(op, "the exchanged words", longest.saturating_mul(lens.len()))?;
        let mut padded = words.to_vec();
        padded.resize(longest, 0);
        let all = self.gather(op, &padded)?;
        Ok(all.chunks(longest).zip(lens).map(|(words, len)| words[..*len].to_vec()).collect())
    }

    /// Gathers one list of words from each rank. A rank knows only the length of its own list, so the ranks exchange
    /// the lengths first.
    pub(super) fn gather_any(&self, op: &'static str, words: &[u64]) -> Result<Vec<Vec<u64>>> {
        let lens = self.gather(op, &[words.len() as u64])?;
        let lens = self.lens(op, lens)?;
        self.gather_lists(op, words, &lens)
    }

    /// Checks and converts the list lengths that ranks sent.
    pub(super) fn lens(&self, op: &'static str, lens: impl IntoIterator<Item = u64>) -> Result<Vec<usize>> {
        // An allocation has at most `isize::MAX` bytes, and a word has eight bytes.
        const MOST: u64 = isize::MAX as u64 / 8;
        let len = |(rank, len): (usize, u64)| match usize::try_from(len) {
            Ok(count) if len <= MOST => Ok(count),
            _ => {
                let reason = format!("rank {rank} has {len} words; at most {MOST} are possible");
                Err(Error::Collective { op, rank: Some(rank), reason })
            }
        };
        lens.into_iter().enumerate().map(len).collect()
    }
}
