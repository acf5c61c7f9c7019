//! Whether ranks are about to do the same: asked before each op, so that what one of them has wrong is an error on all
//! of them and nobody waits for a rank that has given up.

use super::Sharded;
use super::collective::Collective;
use crate::error::{Error, Result};
use crate::sharded::digest::Digest;
use std::ops::Range;

/// What stands where a digest is if a rank refuses.
const REFUSES: u64 = 0;

/// What each rank said in the end.
#[derive(Debug)]
pub(super) struct Agreed {
    /// The columns of each rank.
    pub columns: Vec<Range<usize>>,
}

impl<C: Collective + ?Sized> Sharded<'_, C> {
    /// Agrees with the other ranks that all are about to do what the text says, each with its columns, and have got as
    /// far as to begin with it. Takes 24 bytes of each rank, and texts only where there is something to say of them.
    pub(super) fn agree<T>(&self, op: &'static str, text: &str, begun: Result<T>) -> Result<(T, Agreed)> {
        let own = [self.columns.start, self.columns.end].map(|column| column as u64);
        let (begun, each) = self.agree_beside(op, text, begun, own)?;
        let columns: Vec<Range<usize>> = each.iter().map(|[start, end]| *start as usize..*end as usize).collect();
        covers(op, &columns, self.all)?;
        Ok((begun, Agreed { columns }))
    }

    /// The same where it is not columns that ranks have: gives the numbers that each says beside.
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
            // Its own refusal a rank knows better than the others.
            begun?;
            return Err(unlike(op, &digests, &texts));
        }
        let each = headers().map(|header| std::array::from_fn(|i| header[1 + i])).collect();
        begun.map(|begun| (begun, each))
    }

    /// What each rank has to say.
    fn texts(&self, op: &'static str, own: &str) -> Result<Vec<String>> {
        // A letter a word: this is no more than once, and then there is an error.
        let letters: Vec<u64> = own.chars().map(u64::from).collect();
        let letter = |word: &u64| u32::try_from(*word).ok().and_then(char::from_u32);
        Ok(self.gather_any(op, &letters)?.iter().map(|words| words.iter().filter_map(letter).collect()).collect())
    }
}

/// The same on every rank: the lowest that refuses, or else that has not what most have.
fn unlike(op: &'static str, digests: &[u64], texts: &[String]) -> Error {
    if let Some(rank) = digests.iter().position(|digest| *digest == REFUSES) {
        return at(op, rank, format!("rank {rank} refuses: {}", texts[rank]));
    }
    let alike = |digest: &u64| digests.iter().filter(|other| *other == digest).count();
    // Of as many, those that the lowest rank is one of.
    let most = (0..digests.len()).rev().max_by_key(|rank| alike(&digests[*rank])).unwrap_or(0);
    let rank = digests.iter().position(|digest| *digest != digests[most]).unwrap_or(0);
    let of = format!("{} of {}", alike(&digests[most]), digests.len());
    at(op, rank, format!("rank {rank} has {}; {of} ranks have {}", texts[rank], texts[most]))
}

/// Checks that each column is of one rank.
fn covers(op: &'static str, columns: &[Range<usize>], all: usize) -> Result<()> {
    let mut ranks: Vec<usize> = (0..columns.len()).filter(|rank| !columns[*rank].is_empty()).collect();
    ranks.sort_by_key(|rank| columns[*rank].start);
    let (mut end, mut last) = (0, 0);
    for rank in ranks {
        let own = &columns[rank];
        if own.start > end {
            return Err(at(op, rank, format!("columns {end}..{} before those of rank {rank} are nobody's", own.start)));
        }
        if own.start < end {
            let reason = format!("rank {rank} has columns {own:?}, of which rank {last} has those up to {end}");
            return Err(at(op, rank, reason));
        }
        (end, last) = (own.end, rank);
    }
    if end != all {
        return Err(at(op, last, format!("columns {end}..{all} behind those of rank {last} are nobody's")));
    }
    Ok(())
}

fn at(op: &'static str, rank: usize, reason: String) -> Error {
    Error::Collective { op, rank: Some(rank), reason }
}
