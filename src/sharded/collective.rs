//! Communication between ranks.

use crate::error::Result;

/// Communication between ranks that exchange 64-bit words. All ranks must make the same calls in the same order.
///
/// The only reductions are maxima and wrapping sums of integers, so results do not depend on the order of ranks. Floats
/// are sent as bits, or as integers with the same order ([`keys`](super::keys)).
///
/// No call waits forever: an implementation returns [`Error::Collective`](crate::Error::Collective) after its deadline.
/// After an error the ranks are no longer in step, so the collective must not be used again.
pub trait Collective {
    /// Returns the number of this rank, counted from 0.
    fn rank(&self) -> usize;

    /// Returns the number of ranks.
    fn size(&self) -> usize;

    /// Replaces each word by the maximum over all ranks. Every rank must pass the same number of words.
    ///
    /// # Errors
    /// [`Error::Collective`](crate::Error::Collective) if a rank does not join the call, or makes another call.
    fn max(&self, words: &mut [u64]) -> Result<()>;

    /// Replaces each word by the sum over all ranks, modulo 2^64. Every rank must pass the same number of words.
    ///
    /// # Errors
    /// The errors of [`Collective::max`].
    fn sum(&self, words: &mut [u64]) -> Result<()>;

    /// Returns the words of all ranks, in the order of ranks. Every rank must pass the same number of words.
    ///
    /// # Errors
    /// The errors of [`Collective::max`].
    fn gather(&self, words: &[u64]) -> Result<Vec<u64>>;
}

impl<C: Collective + ?Sized> Collective for &C {
    fn rank(&self) -> usize {
        (**self).rank()
    }

    fn size(&self) -> usize {
        (**self).size()
    }

    fn max(&self, words: &mut [u64]) -> Result<()> {
        (**self).max(words)
    }

    fn sum(&self, words: &mut [u64]) -> Result<()> {
        (**self).sum(words)
    }

    fn gather(&self, words: &[u64]) -> Result<Vec<u64>> {
        (**self).gather(words)
    }
}
