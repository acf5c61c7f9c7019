//! Agreement check before each op: ranks verify that all make the same call. If one rank fails, all ranks return an
//! error, and no rank waits for the failed rank.

use super::Sharded;
use super::collective::Collective;
use crate::error::{Error, Result};
use crate::sharded::digest::Digest;
use std::ops::Range;

/// Value that a rank sends if an error prevents its call. A rank without an error sends the digest of its call.
const REFUSES: u64 = 0;

/// Values that the ranks exchanged during the agreement check.
#[derive(Debug)]
pub(super) struct Agreed {
    /// Column range of each rank.
    pub columns: Vec<Range<usize>>,
}

impl<C: Collective + ?Sized> Sharded<'_, C> {
    /// Checks that no rank failed before this exchange, and that all ranks describe their calls by the same `text`.
    /// `begun` is the value that this rank prepared, or the error that prevented it. Returns the prepared value and the
    /// column range of each rank. Each rank sends 24 bytes. Texts are exchanged only if a check fails.
    pub(super) fn agree<T>(&self, op: &'static str, text: &str, begun: Result<T>) -> Result<(T, Agreed)> {
        let own = [self.columns.start, self.columns.end].map(|column| column as u64);
        let (begun, each) = self.agree_beside(op, text, begun, own)?;
        let columns: Vec<Range<usize>> = each.iter().map(|[start, end]| *start as usize..*end as usize).collect();
        covers(op, &columns, self.all)?;
        Ok((begun, Agreed { columns }))
    }

    /// Checks a call as [`Sharded::agree`] does, but this rank sends the numbers in `beside` instead of its column
    /// range. Returns the prepared value, and the numbers that each rank sent.
    pub(super) fn agree_beside<T, const N: usize>(
        &self,
        op: &'static str,
        text: &str,
        begun: Result<T>,
        beside: [u64; N],
    ) -> Result<(T, Vec<[u64; N]>)> {
        let (own, say) = match &begun {
            Ok(_) => (Digest::of_text(text), text.to_string()),
            Err(error) => (REFUSES, error.to_string()),
        };
        let words: Vec<u64> = [own].into_iter().chain(beside).collect();
        let (rank, size) = (self.comm.rank(), self.comm.size());
        if rank >= size {
            return Err(at(op, rank, format!("rank is {rank}; it must be below {size}, the number of ranks")));
        }
        let all = self.gather(op, &words)?;
        let headers = || all.chunks_exact(1 + N);
        let digests: Vec<u64> = headers().map(|header| header[0]).collect();
        if digests.iter().any(|digest| *digest == REFUSES || *digest != own) {
            let texts = self.texts(op, &say)?;
            // A rank that failed returns its own, more specific error.
            begun?;
            return Err(unlike(op, &digests, &texts));
        }
        let each = headers().map(|header| std::array::from_fn(|i| header[1 + i])).collect();
        begun.map(|begun| (begun, each))
    }

    /// Returns the text of each rank.
    fn texts(&self, op: &'static str, own: &str) -> Result<Vec<String>> {
        // One word for each character is wasteful, but texts are exchanged at most once, before an error.
        let letters: Vec<u64> = own.chars().map(u64::from).collect();
        let letter = |word: &u64| u32::try_from(*word).ok().and_then(char::from_u32);
        Ok(self.gather_any(op, &letters)?.iter().map(|words| words.iter().filter_map(letter).collect()).collect())
    }
}

/// Returns the same error on every rank: the error of the lowest failing rank. If no rank failed, the error names the
/// first rank that disagrees with the majority.
fn unlike(op: &'static str, digests: &[u64], texts: &[String]) -> Error {
    if let Some(rank) = digests.iter().position(|digest| *digest == REFUSES) {
        return at(op, rank, format!("rank {rank} reported an error: {}", texts[rank]));
    }
    let alike = |digest: &u64| digests.iter().filter(|other| *other == digest).count();
    // Ties are decided in favour of the group with the lowest rank.
    let most = (0..digests.len()).rev().max_by_key(|rank| alike(&digests[*rank])).unwrap_or(0);
    let rank = digests.iter().position(|digest| *digest != digests[most]).unwrap_or(0);
    let of = format!("{} of {}", alike(&digests[most]), digests.len());
    at(op, rank, format!("rank {rank} calls {}; {of} ranks call {}", texts[rank], texts[most]))
}

/// Checks that each column belongs to exactly one rank.
fn covers(op: &'static str, columns: &[Range<usize>], all: usize) -> Result<()> {
    let mut ranks: Vec<usize> = (0..columns.len()).filter(|rank| !columns[*rank].is_empty()).collect();
    ranks.sort_by_key(|rank| columns[*rank].start);
    let (mut end, mut last) = (0, 0);
    for rank in ranks {
        let own = &columns[rank];
        if own.start > end {
            return Err(at(
                op,
                rank,
                format!("no rank has columns {end}..{}, which come before the columns of rank {rank}", own.start),
            ));
        }
        if own.start < end {
            let reason =
                format!("rank {rank} has columns {own:?}, but rank {last} already has the columns up to {end}");
            return Err(at(op, rank, reason));
        }
        (end, last) = (own.end, rank);
    }
    if end != all {
        return Err(at(
            op,
            last,
            format!("no rank has columns {end}..{all}, which come after the columns of rank {last}"),
        ));
    }
    Ok(())
}

fn at(op: &'static str, rank: usize, reason: String) -> Error {
    Error::Collective { op, rank: Some(rank), reason }
}
