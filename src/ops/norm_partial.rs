//! Norms of rows that are not all in one place.

use super::columns::Columns;
use super::layer_norm::LayerNorm;
use super::rms_norm::RmsNorm;
use super::softmax::settle;
use crate::cpu::lanes::Met;
use crate::cpu::moments::Moments;
use crate::cpu::norm_partial::{Found, Kind, Known, Part, Question};
use crate::element::{DType, Element};
use crate::error::{Error, Result};
use crate::math::sum::TILE;
use crate::rows::{Rows, RowsMut};
use crate::simd::{filled, in_default, new_vec};
#[cfg(feature = "sharded")]
use std::ops::Range;

/// What some columns of rows say of the row's mean and mean square: what machines that have a part of the columns each
/// send one another, where the hidden size is cut.
///
/// Sums of floats have one order: it holds each tile of 256 columns by itself, and parts begin and end at multiples of
/// 256, or with the row. Merged in any order, [`NormPartial::next`] says what else there is to ask of the columns, which
/// depends on the type and the norm alone but for one case:
///
/// | norm | rounds |
/// |---|---|
/// | `rms_norm` | 1: squares |
/// | of f64 | 2: the largest magnitude, so that squares neither overflow nor vanish; squares |
/// | `layer_norm` | 1: sums and squares; and 2: deviations and their squares, if a row's mean is more than 32 times its deviation |
/// | of f64 | 4: the largest magnitude; sums; what the mean is off by; squares about it |
///
/// A round takes an f64 for each tile, or two, and of `rms_norm` 16 bytes more a row. Then each machine stores its own
/// columns: the results have the bits of [`rms_norm`](crate::rms_norm()) and [`layer_norm`](crate::layer_norm()) over
/// whole rows. Weights and biases are those of all columns, as their values have a say in how rows are multiplied.
///
/// ```
/// use evenkeel::{NormPartial, RmsNorm, Rows, rms_norm};
/// let x: Vec<f32> = (0..600).map(|i| i as f32).collect();
/// let options = RmsNorm::default();
/// let parts = [(Rows::new(&x[..256], 1, 256)?, 0), (Rows::new(&x[256..], 1, 344)?, 256)];
/// let mut all = NormPartial::rms_norm(parts[1].0, (256, 600), &options)?;
/// all.merge(NormPartial::rms_norm(parts[0].0, (0, 600), &options)?)?;
/// // One round was enough; of more, each machine merges what `next` gives.
/// assert!(all.next(parts[0].0, 0)?.is_none());
/// let y = [all.finish_rms_norm(parts[0].0, 0, &options)?, all.finish_rms_norm(parts[1].0, 256, &options)?].concat();
/// assert_eq!(y, rms_norm(Rows::new(&x, 1, 600)?, &options)?);
/// # Ok::<(), evenkeel::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct NormPartial {
    frame: Frame,
    columns: Columns,
    /// Of each row, before this round.
    known: Vec<Known>,
    found: Vec<Found>,
}

/// What parts have in common.
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

    /// Checks rows that begin with column `first`.
    fn columns<E: Element>(&self, x: &Rows<'_, E>, first: usize) -> Result<Columns> {
        let op = self.op;
        self.check("partial", &Frame { dtype: E::DTYPE, rows: x.rows(), ..self.clone() })?;
        if !first.is_multiple_of(TILE) {
            return Err(Error::invalid(op, "first column", first, format!("a multiple of {TILE}")));
        }
        let columns = Columns::new(op, first, x.cols(), self.all)?;
        let end = first + x.cols();
        if end != self.all && !end.is_multiple_of(TILE) {
            let expected = format!("a multiple of {TILE}, or all {}", self.all);
            return Err(Error::invalid(op, "end of the columns", end, expected));
        }
        Ok(columns)
    }
}

impl NormPartial {
    /// What columns say first that are `columns.0` and those behind it, of `columns.1` in all, for
    /// [`rms_norm`](crate::rms_norm()). Of the options it takes eps.
    ///
    /// # Errors
    /// Those of `rms_norm`; [`Error::InvalidArgument`] where the columns don't begin with a multiple of 256, or end with
    /// neither one nor the last.
    pub fn rms_norm<E: Element>(x: Rows<'_, E>, columns: (usize, usize), options: &RmsNorm<'_>) -> Result<Self> {
        options.resolve("rms_norm", columns.1)?;
        Self::new("rms_norm", x, columns, Kind::Rms, options.eps)
    }

    /// The same for [`layer_norm`](crate::layer_norm()).
    ///
    /// # Errors
    /// As [`NormPartial::rms_norm`].
    pub fn layer_norm<E: Element>(x: Rows<'_, E>, columns: (usize, usize), options: &LayerNorm<'_>) -> Result<Self> {
        options.resolve("layer_norm", columns.1)?;
        Self::new("layer_norm", x, columns, Kind::Layer, options.eps)
    }

    /// The same for any op of such a norm whose options are as they should be.
    pub(crate) fn new<E: Element>(
        op: &'static str,
        x: Rows<'_, E>,
        (first, all): (usize, usize),
        kind: Kind,
        eps: f64,
    ) -> Result<Self> {
        let frame = Frame { op, dtype: E::DTYPE, kind, rows: x.rows(), all, eps };
        frame.columns(&x, first)?;
        let known = filled(op, "what is known of each row", x.rows(), Known::at_first::<E>())?;
        Self::ask(frame, known, x, first)
    }

    fn ask<E: Element>(frame: Frame, known: Vec<Known>, x: Rows<'_, E>, first: usize) -> Result<Self> {
        let columns = frame.columns(&x, first)?;
        let found = E::norm_found(x, Question { kind: frame.kind, eps: frame.eps, known: &known, first })?;
        Ok(NormPartial { frame, columns, known, found })
    }

    /// Takes up what other columns of the same rows say.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] for other rows, another norm, type or eps, or another round; [`Error::InvalidArgument`]
    /// for columns that are there already. `self` is as it was then.
    pub fn merge(&mut self, other: NormPartial) -> Result<()> {
        self.frame.check("partial", &other.frame)?;
        if in_default(|| self.known != other.known) {
            return Err(Error::shape(self.frame.op, "partial", "other rounds behind it", "those of the others"));
        }
        self.columns.check_new(self.frame.op, &other.columns)?;
        self.columns.merge(other.columns);
        in_default(|| self.found.iter_mut().zip(other.found).for_each(|(found, other)| found.merge(other)));
        Ok(())
    }

    /// What the columns from `first` on say in the next round; nothing if there is none.
    ///
    /// # Errors
    /// Those of the first round; [`Error::InvalidArgument`] where `self` is not of all columns.
    pub fn next<E: Element>(&self, x: Rows<'_, E>, first: usize) -> Result<Option<NormPartial>> {
        self.frame.columns(&x, first)?;
        let known = self.after::<E>()?;
        if known.iter().all(|known| matches!(known, Known::Moments(_))) {
            return Ok(None);
        }
        Self::ask(self.frame.clone(), known, x, first).map(Some)
    }

    /// The results of the columns from `first` on, as [`rms_norm`](crate::rms_norm()) gives them.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] where columns are missing or there is another round, or for another eps;
    /// [`Error::ShapeMismatch`] for other rows, or a weight that is not one of all columns.
    pub fn finish_rms_norm<E: Element>(&self, x: Rows<'_, E>, first: usize, options: &RmsNorm<'_>) -> Result<Vec<E>> {
        let norm = options.resolve("rms_norm", self.frame.all)?;
        let moments = self.moments(&x, first, Kind::Rms, options.eps)?;
        store(x, "rms_norm", |out| E::rms_norm_part(x, out, Part { norm, moments: &moments, first }))
    }

    /// The results of the columns from `first` on, as [`layer_norm`](crate::layer_norm()) gives them.
    ///
    /// # Errors
    /// As [`NormPartial::finish_rms_norm`].
    pub fn finish_layer_norm<E: Element>(
        &self,
        x: Rows<'_, E>,
        first: usize,
        options: &LayerNorm<'_>,
    ) -> Result<Vec<E>> {
        let norm = options.resolve("layer_norm", self.frame.all)?;
        let moments = self.moments(&x, first, Kind::Layer, options.eps)?;
        store(x, "layer_norm", |out| E::layer_norm_part(x, out, Part { norm, moments: &moments, first }))
    }

    /// What is known of each row after this round.
    fn after<E: Element>(&self) -> Result<Vec<Known>> {
        let Frame { kind, all, eps, .. } = self.frame;
        self.columns.check_all(self.frame.op, all)?;
        let rows = self.known.iter().zip(&self.found);
        Ok(in_default(|| rows.map(|(known, found)| known.after::<E>(kind, eps, all, found)).collect()))
    }

    /// The moments of all columns.
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
            _ => Err(Error::invalid(self.frame.op, "partial", "of a round that is not the last", "of the last")),
        });
        moments.collect()
    }
}

/// What goes from rank to rank.
#[cfg(feature = "sharded")]
impl NormPartial {
    /// Integers whose maxima those of all columns are made of; nothing where none are asked for, which is the same for
    /// all ranks.
    pub(crate) fn keys(&self) -> Option<Vec<u64>> {
        let asked = self.known.iter().any(|known| known.asks_for_maxima(self.frame.kind));
        asked.then(|| self.found.iter().flat_map(Found::keys).collect())
    }

    /// Takes the maxima of all columns.
    pub(crate) fn take_keys(&mut self, keys: &[u64]) {
        self.found.iter_mut().zip(keys.as_chunks().0).for_each(|(found, keys)| found.take_keys(*keys));
    }

    /// The sums of the tiles of these columns.
    pub(crate) fn words(&self) -> Vec<u64> {
        let mut words = Vec::new();
        self.found.iter().for_each(|found| found.to_words(&mut words));
        words
    }

    /// How many words so many columns have.
    pub(crate) fn count_words<E: Element>(&self, columns: usize) -> usize {
        let sums: usize = self.known.iter().map(|known| known.sums::<E>(self.frame.kind)).sum();
        sums.saturating_mul(columns.div_ceil(TILE))
    }

    /// Takes the words of all parts, whose columns these are.
    pub(crate) fn take_words<E: Element>(&mut self, columns: &[Range<usize>], words: &[Vec<u64>]) -> Result<()> {
        self.columns = Columns::new(self.frame.op, 0, self.frame.all, self.frame.all)?;
        self.found.iter_mut().for_each(Found::drop_tiles);
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
    write: impl for<'a> FnOnce(RowsMut<'a, E>) -> Result<(&'a mut [E], Met)>,
) -> Result<Vec<E>> {
    let (rows, cols) = (x.rows(), x.cols());
    new_vec(op, rows * cols, |out| {
        let (written, met) = write(RowsMut::new(out, rows, cols)?)?;
        settle(op, met)?;
        Ok(written)
    })
}
