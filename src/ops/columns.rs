//! Column ranges of a row that the merged shards cover so far.

use crate::error::{Error, Result};
use std::ops::Range;

/// Column ranges that do not overlap, in no particular order.
#[derive(Clone, Debug, Default)]
pub(super) struct Columns(Vec<Range<usize>>);

impl Columns {
    /// Creates a set with one range of `count` columns, which begins at column `first`. Returns an error if the range
    /// reaches past the end of the row, which has `all` columns.
    pub fn new(op: &'static str, first: usize, count: usize, all: usize) -> Result<Self> {
        match first.checked_add(count) {
            Some(end) if end <= all => Ok(Columns((count > 0).then_some(first..end).into_iter().collect())),
            _ => {
                let expected = match all.checked_sub(count) {
                    Some(most) => format!("at most {most}, as the shard has {count} of the row's {all} columns"),
                    None => format!("in a shard of at most {all} columns, the row's width; the shard has {count}"),
                };
                Err(Error::invalid(op, "first column", first, expected))
            }
        }
    }

    /// Returns an error if `self` already covers a column of `other`.
    pub fn check_new(&self, op: &'static str, other: &Columns) -> Result<()> {
        let twice = |own: &Range<usize>, part: &Range<usize>| {
            (own.start < part.end && part.start < own.end).then(|| own.start.max(part.start))
        };
        match other.0.iter().find_map(|part| self.0.iter().find_map(|own| twice(own, part))) {
            Some(column) => Err(Error::invalid(
                op,
                "partial",
                format!("a shard with column {column}, which is already merged"),
                "a shard of columns that are not merged yet",
            )),
            None => Ok(()),
        }
    }

    /// Adds the columns of `other`. The caller must have checked these columns with [`Columns::check_new`].
    pub fn merge(&mut self, other: Columns) {
        self.0.extend(other.0);
    }

    /// Returns an error unless the ranges cover the whole row, which has `all` columns.
    pub fn check_all(&self, op: &'static str, all: usize) -> Result<()> {
        let mut ranges = self.0.clone();
        ranges.sort_by_key(|range| range.start);
        let end = ranges.iter().fold(0, |end, range| if range.start == end { range.end } else { end });
        if end == all {
            return Ok(());
        }
        Err(Error::invalid(op, "partial", format!("missing the shard with column {end}"), "merged from all shards"))
    }
}
