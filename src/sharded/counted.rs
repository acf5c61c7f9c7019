//! How much is exchanged.

use super::collective::Collective;
use crate::error::Result;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A collective that counts what one rank hands to it and gets back, however that travels below.
#[derive(Debug, Default)]
pub struct Counted<C> {
    inner: C,
    calls: AtomicU64,
    given: AtomicU64,
    got: AtomicU64,
}

/// What was exchanged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Exchanged {
    /// Calls, each of which takes the time that a word takes to every rank and back.
    pub calls: u64,
    /// Bytes that this rank gave.
    pub given: u64,
    /// Bytes that it got back: as many, or where they are gathered those of all ranks.
    pub got: u64,
}

impl<C> Counted<C> {
    /// Counts from 0 on.
    pub fn new(inner: C) -> Self {
        Counted { inner, calls: AtomicU64::new(0), given: AtomicU64::new(0), got: AtomicU64::new(0) }
    }

    /// What was exchanged since this was last asked.
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
