//! Exchanges for the gradients of softmax, log-softmax and log-sum-exp.

use super::Sharded;
use super::collective::Collective;
use crate::cpu::partial_tiles::PartialTiles;
use crate::cpu::scores::Row;
use crate::cpu::scores_backward::partial::{RowSums, ShardInput, SoftmaxOp};
use crate::cpu::softmax_partial::{For, ShardStats};
use crate::element::Element;
use crate::error::{Error, Result};
use crate::math::keys;
use crate::ops::same_lanes;
use crate::ops::softmax::{Softmax, finish_call};
use crate::ops::softmax_partial::SoftmaxPartial;
use crate::rows::{Rows, RowsMut};
use crate::simd::new_vec;

impl<C: Collective + ?Sized> Sharded<'_, C> {
    /// Returns the gradient of softmax or log-softmax.
    pub(super) fn scores_backward<E: Element>(
        &self,
        op: &'static str,
        x: Rows<'_, E>,
        dy: Rows<'_, E>,
        options: &Softmax<'_>,
        of: SoftmaxOp,
    ) -> Result<Vec<E>> {
        let checked = same_lanes(op, "dy", &dy.geometry, &x.geometry);
        let partial = self.maxima_beside(op, x, options, "", checked)?;
        let reciprocals = self.reciprocals(op, x, &partial, options)?;
        let part = ShardInput { part: partial.part(&x, self.columns.start, options)?, x, found: partial.found(), of };
        let mut largest = vec![0.0; x.rows()];
        if E::IS_F64 {
            let mut own: Vec<u64> = E::scores_backward_largest(part, dy)?.into_iter().map(keys::of_f64).collect();
            self.max(op, &mut own)?;
            largest = own.into_iter().map(keys::to_f64).collect();
        }
        let sums = self.sums_of_terms(op, part, dy, &largest)?;
        let rows = reciprocals.into_iter().zip(sums).zip(largest);
        let rows: Vec<RowSums> =
            rows.map(|((reciprocal, sum), largest)| RowSums { reciprocal, sum, largest }).collect();
        finish(op, part, dy, &rows)
    }

    /// Returns the gradient of log-sum-exp, given one gradient for each row.
    pub(super) fn scores_backward_of_rows<E: Element>(
        &self,
        op: &'static str,
        x: Rows<'_, E>,
        dy: &[E],
        (beside, checked): (&str, Result<()>),
        options: &Softmax<'_>,
    ) -> Result<Vec<E>> {
        let partial = self.maxima_beside(op, x, options, beside, checked)?;
        let reciprocals = self.reciprocals(op, x, &partial, options)?;
        let of = SoftmaxOp::LogSumExp;
        let part = ShardInput { part: partial.part(&x, self.columns.start, options)?, x, found: partial.found(), of };
        let rows = reciprocals.into_iter().zip(dy);
        let rows: Vec<RowSums> =
            rows.map(|(reciprocal, dy)| RowSums { reciprocal, sum: (dy.widen(), 0.0), largest: 0.0 }).collect();
        finish(op, part, x, &rows)
    }

    /// Returns the reciprocal of each row's sum of exponentials. Each reciprocal is a sum of two f64.
    fn reciprocals<E: Element>(
        &self,
        op: &'static str,
        x: Rows<'_, E>,
        partial: &SoftmaxPartial,
        options: &Softmax<'_>,
    ) -> Result<Vec<(f64, f64)>> {
        let mut sums = partial.gradient_sums(x, self.columns.start, options)?;
        self.add_up::<E>(op, &mut sums, For::Gradient)?;
        Ok(sums.reciprocals::<E>())
    }

    /// Returns the total of each row's gradient terms. Each total is a sum of two f64.
    fn sums_of_terms<E: Element>(
        &self,
        op: &'static str,
        part: ShardInput<'_, E>,
        dy: Rows<'_, E>,
        largest: &[f64],
    ) -> Result<Vec<(f64, f64)>> {
        let mut words = Vec::new();
        E::scores_backward_terms(part, dy, largest)?.iter().flatten().for_each(|piece| piece.to_words(&mut words));
        let lists = self.gather_any(op, &words)?;
        let mut parts: Vec<&[u64]> = lists.iter().map(Vec::as_slice).collect();
        let sum = |found: &ShardStats| match found.row() {
            Row::Live(_) => {
                let gained = parts.iter_mut().enumerate().map(|(rank, words)| {
                    let short = || {
                        let reason = format!("rank {rank} sent invalid partial sums");
                        Error::Collective { op, rank: Some(rank), reason }
                    };
                    take::<E>(words, self.all).ok_or_else(short)
                });
                Ok(RowSums::sum_of(&gained.collect::<Result<Vec<_>>>()?))
            }
            _ => Ok((0.0, 0.0)),
        };
        part.found.iter().map(sum).collect()
    }
}

/// Decodes one row of a rank's gradient terms: one [`PartialTiles`], or two for f64. Removes the decoded words from
/// `words`.
fn take<E: Element>(words: &mut &[u64], all: usize) -> Option<Vec<PartialTiles>> {
    let count = if E::IS_F64 { 2 } else { 1 };
    let mut one = || {
        let (piece, rest) = PartialTiles::of_words(words, all)?;
        *words = rest;
        Some(piece)
    };
    (0..count).map(|_| one()).collect()
}

fn finish<E: Element>(op: &'static str, part: ShardInput<'_, E>, dy: Rows<'_, E>, sums: &[RowSums]) -> Result<Vec<E>> {
    let (rows, cols) = (dy.rows(), dy.cols());
    new_vec(op, rows * cols, |out| {
        let (written, guards) = E::scores_backward_store(part, dy, RowsMut::new(out, rows, cols)?, sums)?;
        finish_call(op, guards)?;
        Ok(written)
    })
}
