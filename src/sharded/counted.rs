//! Counter of exchanged bytes.

use super::collective::Collective;
use crate::error::Result;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A collective that counts the calls of one rank, and the bytes that this rank sends and receives. Traffic of the
/// underlying transport is not counted.
#[derive(Debug, Default)]
pub struct Counted<C> {
    inner: C,
    calls: AtomicU64,
    given: AtomicU64,
    got: AtomicU64,
}

/// Amount of data exchanged by one rank.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Exchanged {
    /// Number of calls, each of which takes at least the latency of one exchange between all ranks.
    pub calls: u64,
    /// Number of bytes that this rank sent.
    pub given: u64,
    /// Number of bytes that this rank received. A maximum or a sum returns as many bytes as the rank sent, and a gather
    /// returns the bytes of all ranks.
    pub got: u64,
}

impl<C> Counted<C> {
    /// Wraps a collective, with all counts at 0.
    pub fn new(inner: C) -> Self {
        Counted { inner, calls: AtomicU64::new(0), given: AtomicU64::new(0), got: AtomicU64::new(0) }
    }

    /// Returns the counts since the previous call of `take`, and resets them.
    pub fn take(&self) -> Exchanged {
        let take = |count: &AtomicU64| count.swap(0, Relaxed);
        Exchanged { calls: take(&self.calls), given: take(&self.given), got: take(&self.got) }
    }

    fn count(&self, given: usize, got: usize) {
        self.calls.fetch_add(1, Relaxed);
        self.given.fetch_add((given as u64).wrapping_mul(8), Relaxed);
        self.got.fetch_add((got as u64).wrapping_mul(8), Relaxed);
    }
}

impl<C: Collective> Collective for Counted<C> {
    fn rank(&self) -> usize {
        self.inner.rank()
    }

    fn size(&self) -> usize {
        self.inner.size()
    }

    fn max(&self, words: &mut [u64]) -> Result<()> {
        self.count(words.len(), words.len());
        self.inner.max(words)
    }

    fn sum(&self, words: &mut [u64]) -> Result<()> {
        self.count(words.len(), words.len());
        self.inner.sum(words)
    }

    fn gather(&self, words: &[u64]) -> Result<Vec<u64>> {
        self.count(words.len(), words.len().wrapping_mul(self.size()));
        self.inner.gather(words)
    }
}
