//! Exchanges of the norms. In one or more rounds, ranks merge the partial statistics that [`NormPartial`] describes.

use super::Sharded;
use super::collective::Collective;
use crate::element::Element;
use crate::error::Result;
use crate::ops::norm_partial::NormPartial;
use crate::rows::Rows;
use std::ops::Range;

impl<C: Collective + ?Sized> Sharded<'_, C> {
    /// Runs all rounds, and returns the merged statistics of all columns. `own` holds this rank's statistics for the
    /// first round.
    pub(super) fn moments<E: Element>(
        &self,
        op: &'static str,
        x: Rows<'_, E>,
        text: &str,
        own: Result<NormPartial>,
    ) -> Result<NormPartial> {
        let (partial, agreed) = self.agree(op, text, own)?;
        self.rounds(op, x, partial, &agreed.columns)
    }

    /// Runs all rounds of a norm, after the check that all ranks make the same call. `columns` holds the column range
    /// of each rank.
    pub(super) fn rounds<E: Element>(
        &self,
        op: &'static str,
        x: Rows<'_, E>,
        mut partial: NormPartial,
        columns: &[Range<usize>],
    ) -> Result<NormPartial> {
        loop {
            self.round::<E>(op, &mut partial, columns)?;
            match partial.next(x, self.columns.start)? {
                Some(next) => partial = next,
                None => return Ok(partial),
            }
        }
    }

    /// Runs one round: replaces this rank's statistics by the statistics of all ranks.
    fn round<E: Element>(&self, op: &'static str, partial: &mut NormPartial, columns: &[Range<usize>]) -> Result<()> {
        if let Some(mut keys) = partial.keys() {
            self.max(op, &mut keys)?;
            partial.take_keys(&keys);
        }
        let lens: Vec<usize> = columns.iter().map(|columns| partial.count_words::<E>(columns.len())).collect();
        let words = self.gather_lists(op, &partial.words(), &lens)?;
        partial.take_words::<E>(columns, &words)
    }
}
