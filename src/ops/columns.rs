//! Which columns of a row parts have.

use crate::error::{Error, Result};
use std::ops::Range;

/// Columns that were met, in no order, none of them twice.
#[derive(Clone, Debug, Default)]
pub(super) struct Columns(Vec<Range<usize>>);

impl Columns {
    /// Those from `first` on, `count` of `all`.
    pub fn new(op: &'static str, first: usize, count: usize, all: usize) -> Result<Self> {
        match first.checked_add(count) {
            Some(end) if end <= all => Ok(Columns((count > 0).then_some(first..end).into_iter().collect())),
            _ => {
                Err(Error::invalid(op, "first column", first, format!("at most {all} less the {count} that are here")))
            }
        }
    }

    /// Refuses columns that are here already.
    pub fn check_new(&self, op: &'static str, other: &Columns) -> Result<()> {
        let twice = |own: &Range<usize>, part: &Range<usize>| {
            (own.start < part.end && part.start < own.end).then(|| own.start.max(part.start))
        };
        match other.0.iter().find_map(|part| self.0.iter().find_map(|own| twice(own, part))) {
            Some(column) => {
                Err(Error::invalid(op, "partial", format!("column {column}"), "columns that are not there yet"))
            }
            None => Ok(()),
        }
    }

    /// Takes up columns that are not here.
    pub fn merge(&mut self, other: Columns) {
        self.0.extend(other.0);
    }

    /// Refuses if one of `all` is missing.
    pub fn check_all(&self, op: &'static str, all: usize) -> Result<()> {
        let mut ranges = self.0.clone();
        ranges.sort_by_key(|range| range.start);
        let end = ranges.iter().fold(0, |end, range| if range.start == end { range.end } else { end });
        if end == all {
            return Ok(());
        }
        Err(Error::invalid(op, "partial", format!("without column {end}"), "of all columns"))
    }
}
