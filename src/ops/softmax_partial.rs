//! Softmax, log-softmax and log-sum-exp of rows whose columns are sharded.

use super::columns::Columns;
use super::softmax::{Softmax, finish_call};
use crate::cpu::exp_sum::ExpSum;
#[cfg(feature = "sharded")]
use crate::cpu::exp_sum::units_for;
use crate::cpu::lanes::GuardCounts;
use crate::cpu::softmax_partial::{For, LogitShard, ShardStats, Store};
use crate::element::{DType, Element};
use crate::error::{Error, Result};
#[cfg(feature = "sharded")]
use crate::math::bins::Bins;
use crate::rows::{Geometry, Rows, RowsMut};
use crate::simd::{in_default, new_vec};

const OP: &str = "softmax";

/// Maxima of a shard of the columns. If the columns of a row are split over machines, the machines exchange two
/// partials. `SoftmaxPartial` is the first.
///
/// [`softmax`](crate::softmax) subtracts the maximum of a row before it rounds the exponentials to integer units. Sums
/// relative to the maximum of a single shard would be in different units, and converting them would cause rounding
/// errors. Sharded rows therefore take two exchanges. The exchanged data are maxima and exact sums, which do not depend
/// on the order of merging:
///
/// 1. `SoftmaxPartial` holds, for each row, the two largest logits (for f64, only the largest), whether f32 represents
///    all logits exactly, and statistics of masked scores. This is about 60 bytes per row. Merging the partials of all
///    shards gives the partial of the whole row.
/// 2. [`SoftmaxSums`] for softmax, or [`SoftmaxLogSums`] for log-softmax and log-sum-exp, hold sums relative to the
///    merged maximum. For types narrower than f64, `SoftmaxSums` consists of one integer sum per row, and
///    `SoftmaxLogSums` of two integer sums per row. For f64, each of the two types consists of three exact sums per
///    row. `SoftmaxLogSums` of f64 also has a [binned sum](crate::math::sum) per row: four numbers and their exponent.
///
/// After the second exchange, each machine computes the results of its own columns. The results have the same bits as
/// [`softmax`](crate::softmax), [`log_softmax`](crate::log_softmax) and [`logsumexp`](crate::logsumexp) over whole
/// rows, for any shards and any order of merging. Each call takes the shard's rows, its first column and the options,
/// which must be the same in all calls. The mask covers whole rows.
///
/// ```
/// use evenkeel::{Rows, Softmax, SoftmaxPartial, softmax};
/// let x = [0.5f32, -1.0, 3.0, 2.0, 0.25];
/// let options = Softmax::default();
/// let (left, right) = (Rows::new(&x[..2], 1, 2)?, Rows::new(&x[2..], 1, 3)?);
/// let mut all = SoftmaxPartial::new(right, (2, 5), &options)?;
/// all.merge(SoftmaxPartial::new(left, (0, 5), &options)?)?;
/// let mut sums = all.sums(left, 0, &options)?;
/// sums.merge(all.sums(right, 2, &options)?)?;
/// let y = [sums.softmax(left, 0, &options)?, sums.softmax(right, 2, &options)?].concat();
/// assert_eq!(y, softmax(Rows::new(&x, 1, 5)?, &options)?);
/// # Ok::<(), evenkeel::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct SoftmaxPartial {
    frame: Frame,
    columns: Columns,
    found: Vec<ShardStats>,
}

/// Properties that all merged partials must share.
#[derive(Clone, Debug, PartialEq)]
struct Frame {
    dtype: DType,
    /// Shape of the whole rows.
    dims: Vec<usize>,
    scale: f64,
    softcap: Option<f64>,
}

impl Frame {
    fn all(&self) -> usize {
        self.dims.last().copied().unwrap_or(0)
    }

    fn of<E: Element>(x: &Rows<'_, E>, all: usize, options: &Softmax<'_>) -> Self {
        let mut dims = x.geometry.shape.dims().to_vec();
        if let Some(last) = dims.last_mut() {
            *last = all;
        }
        Frame { dtype: E::DTYPE, dims, scale: options.scale, softcap: options.softcap }
    }

    fn check(&self, argument: &'static str, other: &Frame) -> Result<()> {
        if in_default(|| self == other) {
            return Ok(());
        }
        let of = |frame: &Frame| {
            let softcap = frame.softcap.map_or("none".into(), |cap| cap.to_string());
            format!("{} {:?}, scale {}, softcap {softcap}", frame.dtype, frame.dims, frame.scale)
        };
        Err(Error::shape(OP, argument, of(other), of(self)))
    }

    /// Checks the shard that begins at column `first`, and returns its kernel input and its columns.
    fn part<'a, E: Element>(
        &self,
        x: &Rows<'_, E>,
        first: usize,
        options: &Softmax<'a>,
    ) -> Result<(LogitShard<'a>, Columns)> {
        let all = self.all();
        let scores = options.resolve(OP, &Geometry::shaped(&self.dims, -1)?)?;
        self.check("partial", &Frame::of(x, all, options))?;
        let columns = Columns::new(OP, first, x.cols(), all)?;
        Ok((LogitShard { scores, first, all }, columns))
    }
}

impl SoftmaxPartial {
    /// Computes the partial of the shard `x`.
    ///
    /// `columns.0` is the shard's first column, and `columns.1` is the number of columns of the whole row.
    ///
    /// # Errors
    /// The errors of [`softmax`](crate::softmax()) for rows of `columns.1` columns; [`Error::InvalidArgument`] if the
    /// shard reaches past the last column.
    pub fn new<E: Element>(x: Rows<'_, E>, columns: (usize, usize), options: &Softmax<'_>) -> Result<Self> {
        let frame = Frame::of(&x, columns.1, options);
        let (part, columns) = frame.part(&x, columns.0, options)?;
        Ok(SoftmaxPartial { frame, columns, found: E::softmax_found(x, part)? })
    }

    /// Merges the partial of other columns of the same rows into this one.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] if the partials differ in the shape of the whole rows, the type, the scale or the
    /// softcap; [`Error::InvalidArgument`] if a column is already merged. After an error `self` is unchanged.
    pub fn merge(&mut self, other: SoftmaxPartial) -> Result<()> {
        self.frame.check("partial", &other.frame)?;
        self.columns.check_new(OP, &other.columns)?;
        self.columns.merge(other.columns);
        in_default(|| {
            for (found, other) in self.found.iter_mut().zip(other.found) {
                *found = found.merge(other);
            }
        });
        Ok(())
    }

    /// Computes each row's sum of exponentials over the shard `x`, for the denominator of softmax. The shard begins at
    /// column `first`.
    ///
    /// `self` is the merged partial of all columns.
    ///
    /// # Errors
    /// The errors of [`SoftmaxPartial::new`]; [`Error::InvalidArgument`] if columns are missing from `self`, and
    /// [`Error::ShapeMismatch`] if `self` was computed for another shape, type, scale or softcap.
    pub fn sums<E: Element>(&self, x: Rows<'_, E>, first: usize, options: &Softmax<'_>) -> Result<SoftmaxSums> {
        Ok(SoftmaxSums(Sums::new(self, x, first, options, For::Softmax)?))
    }

    /// Computes the sums of the shard `x` for log-softmax and log-sum-exp; see [`SoftmaxPartial::sums`].
    ///
    /// # Errors
    /// The errors of [`SoftmaxPartial::sums`].
    pub fn log_sums<E: Element>(&self, x: Rows<'_, E>, first: usize, options: &Softmax<'_>) -> Result<SoftmaxLogSums> {
        Ok(SoftmaxLogSums(Sums::new(self, x, first, options, For::Logarithm)?))
    }
}

/// Conversions from and to the data that ranks exchange.
#[cfg(feature = "sharded")]
impl SoftmaxPartial {
    /// Returns the keys that ranks exchange. Their maxima over all ranks encode the statistics of all columns.
    pub(crate) fn keys(&self) -> Vec<u64> {
        self.found.iter().flat_map(ShardStats::keys).collect()
    }

    /// Replaces this partial by the partial of all columns. `keys` holds the maxima of [`Self::keys`] over all ranks.
    pub(crate) fn take_keys(&mut self, keys: &[u64]) -> Result<()> {
        self.columns = Columns::new(OP, 0, self.frame.all(), self.frame.all())?;
        self.found = keys.as_chunks().0.iter().copied().map(ShardStats::of_keys).collect();
        Ok(())
    }

    /// Returns, for each row, this shard's candidate for the row's second-largest logit, as an integer with the order
    /// of floats. The largest candidate of all shards is this logit. `all` is the merged partial of all shards.
    pub(crate) fn second_keys(&self, all: &SoftmaxPartial) -> Vec<u64> {
        self.found.iter().zip(&all.found).map(|(found, all)| found.second_key(all)).collect()
    }

    /// Stores the second-largest logits. `keys` holds the keys that a max-reduction over all ranks returned.
    pub(crate) fn take_seconds(&mut self, keys: &[u64]) {
        self.found.iter_mut().zip(keys).for_each(|(found, key)| found.take_second(*key));
    }

    /// Returns the statistics of each row, such as its maximum.
    pub(crate) fn found(&self) -> &[ShardStats] {
        &self.found
    }

    /// Returns the kernel input for the shard `x` that begins at column `first`.
    pub(crate) fn part<'a, E: Element>(
        &self,
        x: &Rows<'_, E>,
        first: usize,
        options: &Softmax<'a>,
    ) -> Result<LogitShard<'a>> {
        Ok(self.frame.part(x, first, options)?.0)
    }

    /// Computes each row's sum of exponentials over the shard `x`, for the gradients.
    pub(crate) fn gradient_sums<E: Element>(
        &self,
        x: Rows<'_, E>,
        first: usize,
        options: &Softmax<'_>,
    ) -> Result<Sums> {
        Sums::new(self, x, first, options, For::Gradient)
    }

    /// Returns the first fully masked row. Returns `None` if no row is fully masked, or if the rows have no columns.
    pub(crate) fn first_masked(&self) -> Option<usize> {
        self.found.iter().position(ShardStats::is_masked).filter(|_| self.frame.all() > 0)
    }
}

/// Sums of exponentials over a shard of the columns, for the denominators of softmax; see [`SoftmaxPartial`].
#[derive(Clone, Debug)]
pub struct SoftmaxSums(pub(crate) Sums);

/// Sums over a shard of the columns, for the logarithms in log-softmax and log-sum-exp; see [`SoftmaxPartial`].
///
/// ```
/// use evenkeel::{Rows, Softmax, SoftmaxPartial, logsumexp};
/// let x = [0.5f32, -1.0, 3.0, 2.0];
/// let (rows, options) = (Rows::new(&x, 1, 4)?, Softmax::default());
/// let sums = SoftmaxPartial::new(rows, (0, 4), &options)?.log_sums(rows, 0, &options)?;
/// assert_eq!(sums.logsumexp::<f32>(&options)?, logsumexp(rows, &options)?);
/// # Ok::<(), evenkeel::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct SoftmaxLogSums(pub(crate) Sums);

impl SoftmaxSums {
    /// Adds the sums of other columns to these sums.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] if the sums are not relative to the same maxima; [`Error::InvalidArgument`] if a column
    /// is already merged. After an error `self` is unchanged.
    pub fn merge(&mut self, other: SoftmaxSums) -> Result<()> {
        self.0.merge(other.0)
    }

    /// Computes the result of [`softmax`](crate::softmax) for the shard `x` that begins at column `first`.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] if columns are missing; [`Error::ShapeMismatch`] if the rows' shape or type, the
    /// scale or the softcap differs from the earlier calls; [`Error::FullyMasked`] under the policy Error.
    pub fn softmax<E: Element>(&self, x: Rows<'_, E>, first: usize, options: &Softmax<'_>) -> Result<Vec<E>> {
        self.0.store(x, first, options, For::Softmax, OP)
    }
}

impl SoftmaxLogSums {
    /// Adds the sums of other columns to these sums.
    ///
    /// # Errors
    /// The errors of [`SoftmaxSums::merge`].
    pub fn merge(&mut self, other: SoftmaxLogSums) -> Result<()> {
        self.0.merge(other.0)
    }

    /// Computes the result of [`log_softmax`](crate::log_softmax) for the shard `x` that begins at column `first`.
    ///
    /// # Errors
    /// The errors of [`SoftmaxSums::softmax`].
    pub fn log_softmax<E: Element>(&self, x: Rows<'_, E>, first: usize, options: &Softmax<'_>) -> Result<Vec<E>> {
        self.0.store(x, first, options, For::Logarithm, "log_softmax")
    }

    /// Computes the result of [`logsumexp`](crate::logsumexp) for each row. The only option used is `fully_masked`.
    ///
    /// # Errors
    /// The errors of [`SoftmaxSums::softmax`]; [`Error::InvalidArgument`] if `E` is not the type of the rows.
    pub fn logsumexp<E: Element>(&self, options: &Softmax<'_>) -> Result<Vec<E>> {
        let Sums { partial: SoftmaxPartial { frame, found, .. }, columns, sums } = &self.0;
        if E::DTYPE != frame.dtype {
            return Err(Error::invalid(OP, "type", E::DTYPE, format!("the rows' type, {}", frame.dtype)));
        }
        columns.check_all(OP, frame.all())?;
        if frame.all() == 0 {
            return Ok(vec![E::NEG_INFINITY; found.len()]);
        }
        let logs = E::softmax_logs(frame.all(), found, sums)?;
        let mut guards = GuardCounts::default();
        guards.counts.rows = found.len() as u64;
        let each = found.iter().zip(&logs).enumerate();
        let mut one = |(row, (found, log)): (usize, (&ShardStats, &f64))| {
            found.log_sum_exp(row, *log, options.fully_masked, &mut guards)
        };
        let y = in_default(|| each.map(&mut one).collect());
        finish_call("logsumexp", guards)?;
        Ok(y)
    }
}

/// Sums of exponentials over a shard, relative to the merged maxima.
#[derive(Clone, Debug)]
pub(crate) struct Sums {
    partial: SoftmaxPartial,
    columns: Columns,
    sums: Vec<ExpSum>,
}

/// Conversions from and to the data that ranks exchange.
#[cfg(feature = "sharded")]
impl Sums {
    /// Returns the integers for a sum-reduction over ranks.
    pub(crate) fn units<E: Element>(&self, of: For) -> Vec<u64> {
        let (all, is_for_logarithm) = (self.partial.frame.all(), of == For::Logarithm);
        let count = units_for::<E>(is_for_logarithm, all);
        self.sums.iter().flat_map(|sum| sum.units::<E>(all).into_iter().take(count)).collect()
    }

    /// Replaces the integer sums by the sums over all columns. For the logarithms of f64 rows, the function also
    /// returns this rank's binned sums as words. [`Sums::add_bins`] must then add the words of every rank.
    pub(crate) fn take_units<E: Element>(&mut self, units: &[u64], of: For) -> Result<Vec<u64>> {
        let (partial, all) = (&self.partial, self.partial.frame.all());
        self.columns = Columns::new(OP, 0, all, all)?;
        let mut words = Vec::new();
        let count = units_for::<E>(of == For::Logarithm, all);
        for ((sum, found), units) in self.sums.iter_mut().zip(&partial.found).zip(units.chunks(count)) {
            if E::IS_F64 && of == For::Logarithm {
                words.extend(sum.bins().to_words());
            }
            let units = std::array::from_fn(|i| units.get(i).copied().unwrap_or(0));
            *sum = ExpSum::of_units::<E>(units, found.finer(), all);
        }
        Ok(words)
    }

    /// Adds the binned sums of one rank, which `words` encodes.
    pub(crate) fn add_bins(&mut self, words: &[u64]) {
        for (sum, words) in self.sums.iter_mut().zip(words.as_chunks().0) {
            sum.add_bins(Bins::of_words(*words));
        }
    }

    /// Returns the reciprocal of each row's sum of exponentials, as two f64 whose sum is the reciprocal. All columns
    /// must be merged.
    pub(crate) fn reciprocals<E: Element>(&self) -> Vec<(f64, f64)> {
        self.sums.iter().map(|sum| sum.inverse::<E>(self.partial.frame.all())).collect()
    }
}

impl Sums {
    fn new<E: Element>(
        partial: &SoftmaxPartial,
        x: Rows<'_, E>,
        first: usize,
        options: &Softmax<'_>,
        of: For,
    ) -> Result<Self> {
        let (part, columns) = partial.frame.part(&x, first, options)?;
        partial.columns.check_all(OP, part.all)?;
        let sums = E::softmax_sums(x, part, &partial.found, of)?;
        Ok(Sums { partial: partial.clone(), columns, sums })
    }

    fn merge(&mut self, other: Sums) -> Result<()> {
        self.partial.frame.check("sums", &other.partial.frame)?;
        if in_default(|| self.partial.found != other.partial.found) {
            return Err(Error::shape(
                OP,
                "sums",
                "maxima that differ from the maxima of the merged sums",
                "equal maxima",
            ));
        }
        self.columns.check_new(OP, &other.columns)?;
        self.columns.merge(other.columns);
        in_default(|| self.sums.iter_mut().zip(other.sums).for_each(|(sum, other)| sum.merge(other)));
        Ok(())
    }

    fn store<E: Element>(
        &self,
        x: Rows<'_, E>,
        first: usize,
        options: &Softmax<'_>,
        of: For,
        op: &'static str,
    ) -> Result<Vec<E>> {
        let (part, _) = self.partial.frame.part(&x, first, options)?;
        self.columns.check_all(OP, part.all)?;
        let (rows, cols) = (x.rows(), x.cols());
        let store = Store { part, found: &self.partial.found, sums: &self.sums, of };
        new_vec(op, rows * cols, |out| {
            let (written, guards) = E::softmax_store(x, RowsMut::new(out, rows, cols)?, store)?;
            finish_call(op, guards)?;
            Ok(written)
        })
    }
}
