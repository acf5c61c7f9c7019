//! Softmax, its logarithm and log-sum-exp of rows that are not all in one place.

use super::columns::Columns;
use super::softmax::{Softmax, settle};
use crate::cpu::exp_sum::ExpSum;
#[cfg(feature = "sharded")]
use crate::cpu::exp_sum::units_for;
use crate::cpu::lanes::Met;
use crate::cpu::softmax_partial::{For, Found, Part, Store};
use crate::element::{DType, Element};
use crate::error::{Error, Result};
#[cfg(feature = "sharded")]
use crate::math::bins::Bins;
use crate::rows::{Geometry, Rows, RowsMut};
use crate::simd::{in_default, new_vec};

const OP: &str = "softmax";

/// What some columns of rows say of their maximum: what machines that have a part of the columns each send one another
/// first.
///
/// [`softmax`](crate::softmax) takes a row's maximum off before anything else, and its sum is one of integers on a grid
/// that this maximum stands on: a sum against a maximum of the part alone would be on another grid, and what rounding
/// took off could not be given back. So there are two exchanges, and both are sums or maxima in which no order shows:
///
/// 1. `SoftmaxPartial`: for each row the two largest logits, and how they are to be read, some 60 bytes. Merged, it is
///    that of the whole row.
/// 2. [`SoftmaxSums`] for softmax, [`SoftmaxLogSums`] for the logarithm and log-sum-exp, each against the merged maximum:
///    for each row an integer of 64 bits, for logarithms two, of f64 three, and for logarithms of f64 also four numbers and
///    where they stand ([rule B](crate::math::sum)).
///
/// Then each machine stores its own columns. Results have the bits of [`softmax`](crate::softmax),
/// [`log_softmax`](crate::log_softmax) and [`logsumexp`](crate::logsumexp) over whole rows, wherever they are cut and in
/// whatever order parts are merged. A part's rows, the number of its first column and the options are asked for at each
/// step, and are to be the same; the mask is that of whole rows.
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
    found: Vec<Found>,
}

/// What parts have in common.
#[derive(Clone, Debug, PartialEq)]
struct Frame {
    dtype: DType,
    /// With all columns.
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

    /// The part from column `first` on, with its columns.
    fn part<'a, E: Element>(
        &self,
        x: &Rows<'_, E>,
        first: usize,
        options: &Softmax<'a>,
    ) -> Result<(Part<'a>, Columns)> {
        let all = self.all();
        let scores = options.resolve(OP, &Geometry::shaped(&self.dims, -1)?)?;
        self.check("partial", &Frame::of(x, all, options))?;
        let columns = Columns::new(OP, first, x.cols(), all)?;
        Ok((Part { scores, first, all }, columns))
    }
}

impl SoftmaxPartial {
    /// What columns say that are `columns.0` and those behind it, of `columns.1` in all.
    ///
    /// # Errors
    /// Those of [`softmax`](crate::softmax()) for rows of `columns.1` columns; [`Error::InvalidArgument`] where the
    /// columns reach beyond that.
    pub fn new<E: Element>(x: Rows<'_, E>, columns: (usize, usize), options: &Softmax<'_>) -> Result<Self> {
        let frame = Frame::of(&x, columns.1, options);
        let (part, columns) = frame.part(&x, columns.0, options)?;
        Ok(SoftmaxPartial { frame, columns, found: E::softmax_found(x, part)? })
    }

    /// Takes up what other columns of the same rows say.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] for other rows, another type, or another scale or softcap; [`Error::InvalidArgument`] for
    /// columns that are there already. `self` is as it was then.
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

    /// The sums of the columns from `first` on, which softmax divides by.
    ///
    /// # Errors
    /// Those of [`SoftmaxPartial::new`]; [`Error::InvalidArgument`] where `self` is not of all columns, and
    /// [`Error::ShapeMismatch`] where it is of others than these.
    pub fn sums<E: Element>(&self, x: Rows<'_, E>, first: usize, options: &Softmax<'_>) -> Result<SoftmaxSums> {
        Ok(SoftmaxSums(Sums::new(self, x, first, options, For::Softmax)?))
    }

    /// The same for logarithms.
    ///
    /// # Errors
    /// Those of [`SoftmaxPartial::sums`].
    pub fn log_sums<E: Element>(&self, x: Rows<'_, E>, first: usize, options: &Softmax<'_>) -> Result<SoftmaxLogSums> {
        Ok(SoftmaxLogSums(Sums::new(self, x, first, options, For::Logarithm)?))
    }
}

/// What goes from rank to rank.
#[cfg(feature = "sharded")]
impl SoftmaxPartial {
    /// Integers whose maxima those of all columns are made of.
    pub(crate) fn keys(&self) -> Vec<u64> {
        self.found.iter().flat_map(Found::keys).collect()
    }

    /// What all columns say, of whose keys these are the maxima.
    pub(crate) fn take_keys(&mut self, keys: &[u64]) -> Result<()> {
        self.columns = Columns::new(OP, 0, self.frame.all(), self.frame.all())?;
        self.found = keys.as_chunks().0.iter().copied().map(Found::of_keys).collect();
        Ok(())
    }

    /// Keys whose maxima are those of the second largest logits of all columns; `all` is what these say.
    pub(crate) fn second_keys(&self, all: &SoftmaxPartial) -> Vec<u64> {
        self.found.iter().zip(&all.found).map(|(found, all)| found.second_key(all)).collect()
    }

    /// Takes the maxima of those keys.
    pub(crate) fn take_seconds(&mut self, keys: &[u64]) {
        self.found.iter_mut().zip(keys).for_each(|(found, key)| found.take_second(*key));
    }

    /// What all columns say of each row.
    pub(crate) fn found(&self) -> &[Found] {
        &self.found
    }

    /// The columns from `first` on, for kernels.
    pub(crate) fn part<'a, E: Element>(
        &self,
        x: &Rows<'_, E>,
        first: usize,
        options: &Softmax<'a>,
    ) -> Result<Part<'a>> {
        Ok(self.frame.part(x, first, options)?.0)
    }

    /// The sums that gradients divide by.
    pub(crate) fn gradient_sums<E: Element>(
        &self,
        x: Rows<'_, E>,
        first: usize,
        options: &Softmax<'_>,
    ) -> Result<Sums> {
        Sums::new(self, x, first, options, For::Gradient)
    }

    /// The first row with nothing to attend to, of rows that have columns.
    pub(crate) fn first_masked(&self) -> Option<usize> {
        self.found.iter().position(Found::is_masked).filter(|_| self.frame.all() > 0)
    }
}

/// What some columns add to the sums that softmax divides by: see [`SoftmaxPartial`].
#[derive(Clone, Debug)]
pub struct SoftmaxSums(pub(crate) Sums);

/// What some columns add to the sums that log_softmax and log-sum-exp take the logarithm of: see [`SoftmaxPartial`].
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
    /// Takes up what other columns add.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] where they were not summed against the same maxima, [`Error::InvalidArgument`] for
    /// columns that are there already. `self` is as it was then.
    pub fn merge(&mut self, other: SoftmaxSums) -> Result<()> {
        self.0.merge(other.0)
    }

    /// The results of the columns from `first` on, as [`softmax`](crate::softmax) gives them.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] where columns are missing, [`Error::ShapeMismatch`] for other rows,
    /// [`Error::FullyMasked`] under that policy.
    pub fn softmax<E: Element>(&self, x: Rows<'_, E>, first: usize, options: &Softmax<'_>) -> Result<Vec<E>> {
        self.0.store(x, first, options, For::Softmax, OP)
    }
}

impl SoftmaxLogSums {
    /// Takes up what other columns add.
    ///
    /// # Errors
    /// Those of [`SoftmaxSums::merge`].
    pub fn merge(&mut self, other: SoftmaxLogSums) -> Result<()> {
        self.0.merge(other.0)
    }

    /// The results of the columns from `first` on, as [`log_softmax`](crate::log_softmax) gives them.
    ///
    /// # Errors
    /// Those of [`SoftmaxSums::softmax`].
    pub fn log_softmax<E: Element>(&self, x: Rows<'_, E>, first: usize, options: &Softmax<'_>) -> Result<Vec<E>> {
        self.0.store(x, first, options, For::Logarithm, "log_softmax")
    }

    /// The result of each row, as [`logsumexp`](crate::logsumexp) gives it. Of the options it takes the policy.
    ///
    /// # Errors
    /// Those of [`SoftmaxSums::softmax`]; [`Error::InvalidArgument`] for another type than the rows'.
    pub fn logsumexp<E: Element>(&self, options: &Softmax<'_>) -> Result<Vec<E>> {
        let Sums { partial: SoftmaxPartial { frame, found, .. }, columns, sums } = &self.0;
        if E::DTYPE != frame.dtype {
            return Err(Error::invalid(OP, "type", E::DTYPE, format!("{}, that of the partial", frame.dtype)));
        }
        columns.check_all(OP, frame.all())?;
        if frame.all() == 0 {
            return Ok(vec![E::NEG_INFINITY; found.len()]);
        }
        let logs = E::softmax_logs(frame.all(), found, sums)?;
        let mut met = Met::default();
        met.counts.rows = found.len() as u64;
        let each = found.iter().zip(&logs).enumerate();
        let mut one =
            |(row, (found, log)): (usize, (&Found, &f64))| found.log_sum_exp(row, *log, options.fully_masked, &mut met);
        let y = in_default(|| each.map(&mut one).collect());
        settle("logsumexp", met)?;
        Ok(y)
    }
}

/// Sums against merged maxima.
#[derive(Clone, Debug)]
pub(crate) struct Sums {
    partial: SoftmaxPartial,
    columns: Columns,
    sums: Vec<ExpSum>,
}

/// What goes from rank to rank.
#[cfg(feature = "sharded")]
impl Sums {
    /// Integers whose sums are those of all columns.
    pub(crate) fn units<E: Element>(&self, of: For) -> Vec<u64> {
        let (all, is_for_logarithm) = (self.partial.frame.all(), of == For::Logarithm);
        let count = units_for::<E>(is_for_logarithm, all);
        self.sums.iter().flat_map(|sum| sum.units::<E>(all).into_iter().take(count)).collect()
    }

    /// Takes the sums of all columns, but for what logarithms of f64 have in bins; gives these.
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

    /// Takes the bins of a rank.
    pub(crate) fn add_bins(&mut self, words: &[u64]) {
        for (sum, words) in self.sums.iter_mut().zip(words.as_chunks().0) {
            sum.add_bins(Bins::of_words(*words));
        }
    }

    /// 1 / the sum of each row, where the sums are of all columns.
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
            return Err(Error::shape(OP, "sums", "other maxima", "sums against the same ones"));
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
            let (written, met) = E::softmax_store(x, RowsMut::new(out, rows, cols)?, store)?;
            settle(op, met)?;
            Ok(written)
        })
    }
}
