//! Norms of rows whose columns are sharded.

use super::columns::Columns;
use super::layer_norm::LayerNorm;
use super::rms_norm::RmsNorm;
use super::softmax::finish_call;
use crate::cpu::lanes::GuardCounts;
use crate::cpu::moments::Moments;
use crate::cpu::norm_partial::{Kind, Known, Question, ShardNorm, ShardStats};
use crate::element::{DType, Element};
use crate::error::{Error, Result};
use crate::math::sum::TILE;
use crate::rows::{Rows, RowsMut};
use crate::simd::{filled, in_default, new_vec};
#[cfg(feature = "sharded")]
use std::ops::Range;

/// Statistics of a shard of the columns, for a norm of rows whose columns are split over machines.
///
/// The machines exchange partials and merge them in any order, in one or more rounds. After the last round, each
/// machine computes the result for its own columns. The results have the same bits as [`rms_norm`](crate::rms_norm())
/// and [`layer_norm`](crate::layer_norm()) over whole rows.
///
/// The summation order is fixed within each tile of 256 columns. A shard therefore begins at a multiple of 256, and
/// ends at a multiple of 256 or at the end of the row. [`NormPartial::next`] returns the partial for the next round, if
/// there is one. The number of rounds depends on the norm and the type. For `layer_norm` of types narrower than f64,
/// the number of rounds also depends on the rows:
///
/// | norm | number of rounds, and the data that each exchanges |
/// |---|---|
/// | `rms_norm` | 1: sums of squares |
/// | `rms_norm` of f64 | 2: largest magnitude, so that squares neither overflow nor underflow; sums of squares |
/// | `layer_norm` | 1: sums of x and x^2. 2 if a mean exceeds 32 sigma: then, sums of deviations and of their squares |
/// | `layer_norm` of f64 | 4: largest magnitude; sums; error of the mean; sums of squared deviations from the mean |
///
/// In a round that computes sums, a machine sends one or two f64 for each row and tile of its shard. In `rms_norm`, it
/// also sends 16 bytes for each row. The round for the largest magnitude sends data for rows, but not for tiles. Every
/// machine needs the weights and biases of all columns, because their values decide whether rows are multiplied in f32
/// or in f64.
///
/// ```
/// use evenkeel::{NormPartial, RmsNorm, Rows, rms_norm};
/// let x: Vec<f32> = (0..600).map(|i| i as f32).collect();
/// let options = RmsNorm::default();
/// let parts = [(Rows::new(&x[..256], 1, 256)?, 0), (Rows::new(&x[256..], 1, 344)?, 256)];
/// let mut all = NormPartial::rms_norm(parts[1].0, (256, 600), &options)?;
/// all.merge(NormPartial::rms_norm(parts[0].0, (0, 600), &options)?)?;
/// // One round is enough here. Otherwise each machine merges the partials that `next` returns.
/// assert!(all.next(parts[0].0, 0)?.is_none());
/// let y = [all.finish_rms_norm(parts[0].0, 0, &options)?, all.finish_rms_norm(parts[1].0, 256, &options)?].concat();
/// assert_eq!(y, rms_norm(Rows::new(&x, 1, 600)?, &options)?);
/// # Ok::<(), evenkeel::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct NormPartial {
    frame: Frame,
    columns: Columns,
    /// Results of the earlier rounds, for each row.
    known: Vec<Known>,
    found: Vec<ShardStats>,
}

/// Properties that all merged partials must share.
#[derive(Clone, Debug, PartialEq)]
struct Frame {
    op: &'static str,
    dtype: DType,
    kind: Kind,
    rows: usize,
    all: usize,
    eps: f64,
}

impl Frame {
    fn check(&self, argument: &'static str, other: &Frame) -> Result<()> {
        if in_default(|| self == other) {
            return Ok(());
        }
        let of = |frame: &Frame| {
            let Frame { dtype, rows, all, eps, .. } = frame;
            format!("{} of {dtype}, {rows} rows of {all} columns, eps {eps}", frame.op)
        };
        Err(Error::shape(self.op, argument, of(other), of(self)))
    }

    /// Checks a shard that begins at column `first`, and returns its columns.
    fn columns<E: Element>(&self, x: &Rows<'_, E>, first: usize) -> Result<Columns> {
        let op = self.op;
        self.check("partial", &Frame { dtype: E::DTYPE, rows: x.rows(), ..self.clone() })?;
        if !first.is_multiple_of(TILE) {
            return Err(Error::invalid(op, "first column", first, format!("a multiple of {TILE}")));
        }
        let columns = Columns::new(op, first, x.cols(), self.all)?;
        let end = first + x.cols();
        if end != self.all && !end.is_multiple_of(TILE) {
            let expected = format!("a multiple of {TILE} or the row's end, {}", self.all);
            return Err(Error::invalid(op, "end of the shard", end, expected));
        }
        Ok(columns)
    }
}

impl NormPartial {
    /// Computes the first round of [`rms_norm`](crate::rms_norm()) for a shard of the columns.
    ///
    /// `columns.0` is the shard's first column, and `columns.1` is the number of columns of the whole row. The only
    /// option used is eps.
    ///
    /// # Errors
    /// The errors of `rms_norm`; [`Error::InvalidArgument`] if the shard does not begin at a multiple of 256, or ends
    /// neither at a multiple of 256 nor at the end of the row.
    pub fn rms_norm<E: Element>(x: Rows<'_, E>, columns: (usize, usize), options: &RmsNorm<'_>) -> Result<Self> {
        options.resolve("rms_norm", columns.1)?;
        Self::new("rms_norm", x, columns, Kind::Rms, options.eps)
    }

    /// Computes the first round of [`layer_norm`](crate::layer_norm()) for a shard of the columns.
    ///
    /// Arguments are as in [`NormPartial::rms_norm`].
    ///
    /// # Errors
    /// The errors of [`NormPartial::rms_norm`].
    pub fn layer_norm<E: Element>(x: Rows<'_, E>, columns: (usize, usize), options: &LayerNorm<'_>) -> Result<Self> {
        options.resolve("layer_norm", columns.1)?;
        Self::new("layer_norm", x, columns, Kind::Layer, options.eps)
    }

    /// Computes the shard's first partial results of an op that applies the norm `kind`. The caller has checked the
    /// options.
    pub(crate) fn new<E: Element>(
        op: &'static str,
        x: Rows<'_, E>,
        (first, all): (usize, usize),
        kind: Kind,
        eps: f64,
    ) -> Result<Self> {
        let frame = Frame { op, dtype: E::DTYPE, kind, rows: x.rows(), all, eps };
        frame.columns(&x, first)?;
        let known = filled(op, "the state of each row", x.rows(), Known::at_first::<E>())?;
        Self::ask(frame, known, x, first)
    }

    fn ask<E: Element>(frame: Frame, known: Vec<Known>, x: Rows<'_, E>, first: usize) -> Result<Self> {
        let columns = frame.columns(&x, first)?;
        let found = E::norm_found(x, Question { kind: frame.kind, eps: frame.eps, known: &known, first })?;
        Ok(NormPartial { frame, columns, known, found })
    }

    /// Merges the partial of other columns of the same rows into this one.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] if the partials differ in the number of rows or columns, the norm, the type, eps or the
    /// round; [`Error::InvalidArgument`] if a column is already merged. After an error `self` is unchanged.
    pub fn merge(&mut self, other: NormPartial) -> Result<()> {
        self.frame.check("partial", &other.frame)?;
        if in_default(|| self.known != other.known) {
            return Err(Error::shape(
                self.frame.op,
                "partial",
                "the results of a different round",
                "the results of the round that is being merged",
            ));
        }
        self.columns.check_new(self.frame.op, &other.columns)?;
        self.columns.merge(other.columns);
        in_default(|| self.found.iter_mut().zip(other.found).for_each(|(found, other)| found.merge(other)));
        Ok(())
    }

    /// Computes the next round for the shard `x` that begins at column `first`. Returns `None` if there is no further
    /// round.
    ///
    /// `self` is the merged partial of all columns.
    ///
    /// # Errors
    /// The errors of the first round; [`Error::InvalidArgument`] if columns are missing from `self`.
    pub fn next<E: Element>(&self, x: Rows<'_, E>, first: usize) -> Result<Option<NormPartial>> {
        self.frame.columns(&x, first)?;
        let known = self.after::<E>()?;
        if known.iter().all(|known| matches!(known, Known::Moments(_))) {
            return Ok(None);
        }
        Self::ask(self.frame.clone(), known, x, first).map(Some)
    }

    /// Computes the result of [`rms_norm`](crate::rms_norm()) for the shard `x` that begins at column `first`.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] if columns are missing or another round is needed; [`Error::ShapeMismatch`] if the
    /// norm, the number of rows, the type or eps differs from the earlier rounds, or if the weight does not have one
    /// value for every column of the whole row.
    pub fn finish_rms_norm<E: Element>(&self, x: Rows<'_, E>, first: usize, options: &RmsNorm<'_>) -> Result<Vec<E>> {
        let norm = options.resolve("rms_norm", self.frame.all)?;
        let moments = self.moments(&x, first, Kind::Rms, options.eps)?;
        store(x, "rms_norm", |out| E::rms_norm_part(x, out, ShardNorm { norm, moments: &moments, first }))
    }

    /// Computes the result of [`layer_norm`](crate::layer_norm()) for the shard `x` that begins at column `first`.
    ///
    /// # Errors
    /// The errors of [`NormPartial::finish_rms_norm`].
    pub fn finish_layer_norm<E: Element>(
        &self,
        x: Rows<'_, E>,
        first: usize,
        options: &LayerNorm<'_>,
    ) -> Result<Vec<E>> {
        let norm = options.resolve("layer_norm", self.frame.all)?;
        let moments = self.moments(&x, first, Kind::Layer, options.eps)?;
        store(x, "layer_norm", |out| E::layer_norm_part(x, out, ShardNorm { norm, moments: &moments, first }))
    }

    /// Returns the statistics that are known after this round, for each row.
    fn after<E: Element>(&self) -> Result<Vec<Known>> {
        let Frame { kind, all, eps, .. } = self.frame;
        self.columns.check_all(self.frame.op, all)?;
        let rows = self.known.iter().zip(&self.found);
        Ok(in_default(|| rows.map(|(known, found)| known.after::<E>(kind, eps, all, found)).collect()))
    }

    /// Returns the [`Moments`] of each whole row, such as its mean.
    pub(crate) fn moments<E: Element>(
        &self,
        x: &Rows<'_, E>,
        first: usize,
        kind: Kind,
        eps: f64,
    ) -> Result<Vec<Moments>> {
        self.frame.check("partial", &Frame { kind, eps, ..self.frame.clone() })?;
        self.frame.columns(x, first)?;
        let moments = self.after::<E>()?.into_iter().map(|known| match known {
            Known::Moments(moments) => Ok(moments),
            _ => {
                Err(Error::invalid(self.frame.op, "partial", "an intermediate result", "the result of the last round"))
            }
        });
        moments.collect()
    }
}

/// Conversions from and to the data that ranks exchange.
#[cfg(feature = "sharded")]
impl NormPartial {
    /// Returns the keys that ranks exchange if this round needs their maxima over all ranks, and `None` otherwise. All
    /// ranks return `None` in the same rounds.
    pub(crate) fn keys(&self) -> Option<Vec<u64>> {
        let asked = self.known.iter().any(|known| known.asks_for_maxima(self.frame.kind));
        asked.then(|| self.found.iter().flat_map(ShardStats::keys).collect())
    }

    /// Replaces the maxima of the shard by the maxima of all columns. `keys` holds the keys after a max-reduction over
    /// all ranks.
    pub(crate) fn take_keys(&mut self, keys: &[u64]) {
        self.found.iter_mut().zip(keys.as_chunks().0).for_each(|(found, keys)| found.take_keys(*keys));
    }

    /// Returns the sums of the shard's tiles of 256 columns, as the bits of f64.
    pub(crate) fn words(&self) -> Vec<u64> {
        let mut words = Vec::new();
        self.found.iter().for_each(|found| found.to_words(&mut words));
        words
    }

    /// Returns the number of words that [`NormPartial::words`] returns for a shard of `columns` columns.
    pub(crate) fn count_words<E: Element>(&self, columns: usize) -> usize {
        let sums: usize = self.known.iter().map(|known| known.sums::<E>(self.frame.kind)).sum();
        sums.saturating_mul(columns.div_ceil(TILE))
    }

    /// Replaces the shard's tile sums by the tile sums of all shards. `words[i]` holds the tile sums of the shard with
    /// the columns `columns[i]`.
    pub(crate) fn take_words<E: Element>(&mut self, columns: &[Range<usize>], words: &[Vec<u64>]) -> Result<()> {
        self.columns = Columns::new(self.frame.op, 0, self.frame.all, self.frame.all)?;
        self.found.iter_mut().for_each(ShardStats::drop_tiles);
        for (columns, mut words) in columns.iter().zip(words.iter().map(Vec::as_slice)) {
            let (first, tiles) = (columns.start / TILE, columns.len().div_ceil(TILE));
            for (known, found) in self.known.iter().zip(&mut self.found) {
                let (own, rest) = words.split_at(tiles * known.sums::<E>(self.frame.kind));
                found.add_words(own, first, tiles);
                words = rest;
            }
        }
        Ok(())
    }
}

fn store<E: Element>(
    x: Rows<'_, E>,
    op: &'static str,
    write: impl for<'a> FnOnce(RowsMut<'a, E>) -> Result<(&'a mut [E], GuardCounts)>,
) -> Result<Vec<E>> {
    let (rows, cols) = (x.rows(), x.cols());
    new_vec(op, rows * cols, |out| {
        let (written, guards) = write(RowsMut::new(out, rows, cols)?)?;
        finish_call(op, guards)?;
        Ok(written)
    })
}
