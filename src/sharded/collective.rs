//! What ranks exchange with one another.

use crate::error::Result;

/// Ranks that exchange words, all of them in the same order of calls.
///
/// Maxima and wrapping sums of integers are all that is reduced, so no order of ranks shows in a result. Floats travel
/// as bits, or as integers whose order is theirs ([`keys`](super::keys)).
///
/// Nothing waits forever: an implementation gives [`Error::Collective`](crate::Error::Collective) once its deadline is
/// over. After an error the ranks are no longer in step, and the collective is not to be used again.
pub trait Collective {
    /// This rank's number, from 0 on.
    fn rank(&self) -> usize;

    /// How many ranks there are.
    fn size(&self) -> usize;

    /// Makes each word the largest that a rank has in its place. All ranks have as many.
    ///
    /// # Errors
    /// [`Error::Collective`](crate::Error::Collective) where a rank does not come, or comes with something else.
    fn max(&self, words: &mut [u64]) -> Result<()>;

    /// Makes each word the sum of those that ranks have in its place, modulo 2^64. All ranks have as many.
    ///
    /// # Errors
    /// As [`Collective::max`].
    fn sum(&self, words: &mut [u64]) -> Result<()>;

    /// The words of every rank, one rank after the other. All ranks have as many.
    ///
    /// # Errors
    /// As [`Collective::max`].
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
