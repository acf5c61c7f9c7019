//! Exchanges of the norm gradients.

use super::Sharded;
use super::collective::Collective;
use crate::cpu::moments::Moments;
use crate::cpu::norm_backward::partial::{OfTiles, ShardInput};
use crate::cpu::norm_backward::{Norm, Sums};
use crate::cpu::norm_partial::Kind;
use crate::element::Element;
use crate::error::Result;
use crate::math::keys;
use crate::math::sum::TILE;
use crate::ops::norm_backward::{Operands, store_columns};
use crate::ops::norm_partial::NormPartial;
use crate::ops::same_lanes;
use crate::ops::softmax::finish_call;
use crate::rows::{Rows, RowsMut};
use crate::simd::new_vec;
use std::ops::Range;

impl<C: Collective + ?Sized> Sharded<'_, C> {
    /// Returns dx for this rank's columns. Writes the gradients of weight and bias for these columns to `operands`.
    pub(super) fn norm_backward<E: Element, const N: usize>(
        &self,
        op: &'static str,
        [x, dy]: [Rows<'_, E>; 2],
        operands: Operands<'_, N>,
        text: &str,
        norm: Result<Norm<'_>>,
    ) -> Result<Vec<E>> {
        let begun = same_lanes(op, "dy", &dy.geometry, &x.geometry).and(norm).and_then(|norm| {
            let columns = (self.own(op, x.cols())?, self.all);
            Ok((norm, NormPartial::new(op, x, columns, kind(&norm), norm.eps)?))
        });
        let ((norm, partial), agreed) = self.agree(op, text, begun)?;
        let partial = self.rounds(op, x, partial, &agreed.columns)?;
        let moments = partial.moments(&x, self.columns.start, kind(&norm), norm.eps)?;
        let norm = Norm { weight: norm.weight.map(|weight| weight.part(self.columns.clone())), ..norm };
        if operands.iter().any(|(_, room)| room.is_some()) {
            store_columns([x, dy], operands, norm, &moments)?;
        }
        let sums = self.norm_sums(op, [x, dy], norm, &moments, &agreed.columns)?;
        let kernel = ShardInput { norm, x, moments: &moments, sums: &sums }.kernel();
        let (rows, cols) = (x.rows(), x.cols());
        new_vec(op, rows * cols, |dx| {
            let (written, guards) = E::norm_backward(dy.into(), RowsMut::new(dx, rows, cols)?.into(), kernel)?;
            finish_call(op, guards)?;
            Ok(written)
        })
    }

    /// Gathers the tile sums of all ranks, and returns the sums over each whole row.
    fn norm_sums<E: Element>(
        &self,
        op: &'static str,
        [x, dy]: [Rows<'_, E>; 2],
        norm: Norm<'_>,
        moments: &[Moments],
        columns: &[Range<usize>],
    ) -> Result<Vec<Sums>> {
        let mut largest = vec![[0.0; 2]; x.rows()];
        if E::IS_F64 {
            let own = E::norm_backward_largest(dy, norm)?;
            let mut own: Vec<u64> = own.into_iter().flatten().map(keys::of_f64).collect();
            self.max(op, &mut own)?;
            largest = own.as_chunks().0.iter().map(|keys| keys.map(keys::to_f64)).collect();
        }
        let begun: Vec<Sums> = largest.into_iter().map(|largest| Sums::begin(largest, self.all)).collect();
        let own = E::norm_backward_tiles(dy, ShardInput { norm, x, moments, sums: &begun })?;
        let words: Vec<u64> = own.iter().flatten().flatten().map(|sum| sum.to_bits()).collect();
        let each = if norm.centred { 2 } else { 1 };
        let tiles = |columns: &Range<usize>| columns.len().div_ceil(TILE);
        let lens: Vec<usize> = columns.iter().map(|columns| (x.rows() * each).saturating_mul(tiles(columns))).collect();
        let lists = self.gather_lists(op, &words, &lens)?;
        let mut parts: Vec<_> = columns.iter().zip(&lists).filter(|(columns, _)| !columns.is_empty()).collect();
        parts.sort_by_key(|(columns, _)| columns.start);
        let sums_of_row = |(row, begun): (usize, Sums)| {
            let mut all = OfTiles::default();
            for (columns, words) in &parts {
                let tiles = tiles(columns);
                let own = words.chunks(tiles).skip(row * each);
                all.iter_mut().zip(own.take(each)).for_each(|(all, own)| {
                    all.extend(own.iter().map(|sum| f64::from_bits(*sum)));
                });
            }
            begun.finish(&all)
        };
        Ok(begun.into_iter().enumerate().map(sums_of_row).collect())
    }
}

fn kind(norm: &Norm<'_>) -> Kind {
    if norm.centred { Kind::Layer } else { Kind::Rms }
}
