//! What an op asks of the collective, with the op's name in what goes wrong.

use super::Sharded;
use super::collective::Collective;
use crate::error::{Error, Result};

impl<C: Collective + ?Sized> Sharded<'_, C> {
    pub(super) fn max(&self, op: &'static str, words: &mut [u64]) -> Result<()> {
        self.comm.max(words).map_err(|error| error.in_collective(op))
    }

    pub(super) fn sum(&self, op: &'static str, words: &mut [u64]) -> Result<()> {
        self.comm.sum(words).map_err(|error| error.in_collective(op))
    }

    /// The words of every rank, each of which has as many.
    pub(super) fn gather(&self, op: &'static str, words: &[u64]) -> Result<Vec<u64>> {
        let all = self.comm.gather(words).map_err(|error| error.in_collective(op))?;
        let needed = words.len() * self.comm.size();
        if all.len() == needed {
            return Ok(all);
        }
        let reason = format!("{} words were gathered where there are {needed}", all.len());
        Err(Error::Collective { op, rank: None, reason })
    }

    /// The words of every rank, which has as many as `lens` says; nothing is exchanged if none has any.
    pub(super) fn gather_lists(&self, op: &'static str, words: &[u64], lens: &[usize]) -> Result<Vec<Vec<u64>>> {
        let longest = lens.iter().copied().max().unwrap_or(0);
        if longest == 0 {
            return Ok(vec![Vec::new(); lens.len()]);
        }
        let mut padded = words.to_vec();
        padded.resize(longest, 0);
        let all = self.gather(op, &padded)?;
        Ok(all.chunks(longest).zip(lens).map(|(words, len)| words[..*len].to_vec()).collect())
    }

    /// The words of every rank, of which the others do not know how many it has.
    pub(super) fn gather_any(&self, op: &'static str, words: &[u64]) -> Result<Vec<Vec<u64>>> {
        let lens = self.gather(op, &[words.len() as u64])?;
        let lens: Vec<usize> = lens.into_iter().map(|len| len as usize).collect();
        self.gather_lists(op, words, &lens)
    }
}
