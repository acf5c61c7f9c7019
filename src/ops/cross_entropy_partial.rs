//! Cross-entropy and its gradient for rows whose columns are sharded.

use super::columns::Columns;
use super::cross_entropy::{CrossEntropy, Resolved};
use super::cross_entropy_backward::{gradient, resolve};
use super::loss::Loss;
use crate::cpu::cross_entropy::RowLoss;
#[cfg(feature = "sharded")]
use crate::cpu::cross_entropy_partial::units_for;
use crate::cpu::cross_entropy_partial::{Gradients, LossShard, Sums};
use crate::cpu::lanes::GuardCounts;
use crate::cpu::softmax_partial::ShardStats;
use crate::element::{DType, Element};
use crate::error::{Error, Result};
#[cfg(feature = "sharded")]
use crate::math::bins::Bins;
use crate::report::{self, Counts};
use crate::rows::{Rows, RowsMut};
use crate::simd::{in_default, new_vec};

const OP: &str = "cross_entropy";
pub(crate) const BACKWARD: &str = "cross_entropy_backward";

/// Maxima of a shard of the vocabulary. If the vocabulary is split over machines, the machines exchange two partials.
/// `CrossEntropyPartial` is the first.
///
/// The results do not depend on the order of merging. The two exchanges are as for
/// [`SoftmaxPartial`](crate::SoftmaxPartial):
///
/// 1. `CrossEntropyPartial`: for each row, the two largest logits (for f64 logits, only the largest), and whether f32
///    represents all logits exactly. Merging the partials of all shards gives the partial of the whole row.
/// 2. [`CrossEntropySums`], which are relative to the merged maximum. For each row, they hold the sum of exponentials,
///    and the logit of the target if the target is in the shard. The sum is two 64-bit integers, or three for f64
///    logits and for rows of more than 262,144 columns. For f64 logits, `CrossEntropySums` also hold the sum of all
///    exponentials but the largest. For label smoothing, they also hold the weighted sum of the logits' distances from
///    the maximum. These two sums are [binned sums](crate::math::sum). A binned sum has four numbers and an exponent.
///
/// After the second exchange, each machine computes the loss, and the gradient of its own columns. Loss and gradient
/// have the same bits as [`cross_entropy`](crate::cross_entropy()) and
/// [`cross_entropy_backward`](crate::cross_entropy_backward()) over whole rows, for any shards and any order of
/// merging. Rows with NaN, infinities or masked logits also give the results that those two functions document.
///
/// Targets are class numbers in the whole vocabulary, and the weights cover all classes. Each method for a shard takes
/// the shard's rows and first column, the targets and the options again. These arguments must be the same in all calls.
///
/// ```
/// use evenkeel::{CrossEntropy, CrossEntropyPartial, Rows, cross_entropy_backward};
/// let x = [0.5f32, -1.0, 3.0, 2.0, 0.25];
/// let (targets, options) = ([3], CrossEntropy::default());
/// let (left, right) = (Rows::new(&x[..2], 1, 2)?, Rows::new(&x[2..], 1, 3)?);
/// let mut all = CrossEntropyPartial::new(right, (2, 5), &targets, &options)?;
/// all.merge(CrossEntropyPartial::new(left, (0, 5), &targets, &options)?)?;
/// let mut sums = all.sums(left, 0, &targets, &options)?;
/// sums.merge(all.sums(right, 2, &targets, &options)?)?;
/// let (loss, dx) = cross_entropy_backward(Rows::new(&x, 1, 5)?, &targets, &[1.0], &options)?;
/// assert_eq!(sums.loss(&targets, &options)?, loss);
/// assert_eq!(sums.backward(right, 2, &targets, &[1.0], &options)?, dx[2..]);
/// # Ok::<(), evenkeel::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct CrossEntropyPartial {
    frame: Frame,
    columns: Columns,
    /// Statistics of each row over the merged columns.
    found: Vec<ShardStats>,
}

/// Properties that all merged partials must share.
#[derive(Clone, Debug, PartialEq)]
struct Frame {
    dtype: DType,
    rows: usize,
    /// Number of columns of the whole rows.
    all: usize,
    softcap: Option<f64>,
    label_smoothing: f64,
}

impl Frame {
    fn of<E: Element>(rows: usize, all: usize, options: &CrossEntropy<'_>) -> Self {
        let CrossEntropy { softcap, label_smoothing, .. } = *options;
        Frame { dtype: E::DTYPE, rows, all, softcap, label_smoothing }
    }

    fn check(&self, argument: &'static str, other: &Frame) -> Result<()> {
        if in_default(|| self == other) {
            return Ok(());
        }
        let of = |frame: &Frame| {
            let Frame { dtype, rows, all, softcap, label_smoothing } = frame;
            let softcap = softcap.map_or("none".into(), |cap| cap.to_string());
            format!("{dtype} {:?}, softcap {softcap}, label_smoothing {label_smoothing}", [rows, all])
        };
        Err(Error::shape(OP, argument, of(other), of(self)))
    }

    /// Checks a shard of `rows` rows and `cols` columns that begins at column `first`, and returns its columns.
    fn columns<E: Element>(
        &self,
        op: &'static str,
        (rows, cols): (usize, usize),
        first: usize,
        options: &CrossEntropy<'_>,
    ) -> Result<Columns> {
        self.check("partial", &Frame::of::<E>(rows, self.all, options))?;
        Columns::new(op, first, cols, self.all)
    }

    /// Returns two flags: whether the exponentials are added by a binned sum, and whether the terms of label smoothing
    /// are.
    #[cfg(feature = "sharded")]
    fn in_bins(&self) -> [bool; 2] {
        [self.dtype == DType::F64, self.label_smoothing != 0.0]
    }

    fn resolve(&self, op: &'static str, targets: &[i64], options: &CrossEntropy<'_>) -> Result<Resolved> {
        options.resolve(op, self.rows, self.all, targets)
    }

    fn part<'k>(
        &self,
        first: usize,
        targets: &'k [i64],
        options: &CrossEntropy<'_>,
        resolved: &'k Resolved,
    ) -> LossShard<'k> {
        LossShard { forward: options.kernel(resolved, targets), first, all: self.all }
    }
}

impl CrossEntropyPartial {
    /// Computes the partial of the shard `logits`. `columns.0` is the first class of the shard, and `columns.1` is the
    /// total number of classes.
    ///
    /// # Errors
    /// The errors of [`cross_entropy`](crate::cross_entropy()) for rows of `columns.1` columns;
    /// [`Error::InvalidArgument`] if the shard reaches past the last column.
    pub fn new<E: Element>(
        logits: Rows<'_, E>,
        columns: (usize, usize),
        targets: &[i64],
        options: &CrossEntropy<'_>,
    ) -> Result<Self> {
        let (first, all) = columns;
        let frame = Frame::of::<E>(logits.rows(), all, options);
        let resolved = frame.resolve(OP, targets, options)?;
        let columns = frame.columns::<E>(OP, (logits.rows(), logits.cols()), first, options)?;
        let found = E::cross_entropy_found(logits, frame.part(first, targets, options, &resolved))?;
        Ok(CrossEntropyPartial { frame, columns, found })
    }

    /// Merges another partial, for other columns of the same rows, into this one.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] if the partials differ in their number of rows, type, softcap or label smoothing;
    /// [`Error::InvalidArgument`] if `other` has columns that are already merged. After an error `self` is unchanged.
    pub fn merge(&mut self, other: CrossEntropyPartial) -> Result<()> {
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

    /// Computes the sums of the shard `logits` that begins at column `first`.
    ///
    /// `self` is the merged partial of all columns.
    ///
    /// # Errors
    /// The errors of [`CrossEntropyPartial::new`]; [`Error::InvalidArgument`] if columns are missing from `self`;
    /// [`Error::ShapeMismatch`] if the number of rows, the type, the softcap or the label smoothing differs from
    /// `self`.
    pub fn sums<E: Element>(
        &self,
        logits: Rows<'_, E>,
        first: usize,
        targets: &[i64],
        options: &CrossEntropy<'_>,
    ) -> Result<CrossEntropySums> {
        let resolved = self.frame.resolve(OP, targets, options)?;
        let columns = self.frame.columns::<E>(OP, (logits.rows(), logits.cols()), first, options)?;
        self.columns.check_all(OP, self.frame.all)?;
        let sums = E::cross_entropy_sums(logits, self.frame.part(first, targets, options, &resolved), &self.found)?;
        Ok(CrossEntropySums { partial: self.clone(), columns, sums })
    }
}

/// Conversions from and to the data that ranks exchange.
#[cfg(feature = "sharded")]
impl CrossEntropyPartial {
    /// Returns the keys that ranks exchange. Their maxima over all ranks encode the statistics of all columns.
    pub(crate) fn keys(&self) -> Vec<u64> {
        self.found.iter().flat_map(ShardStats::plain_keys).collect()
    }

    /// Replaces this partial by the partial of all columns. `keys` holds the keys after a max-reduction over all ranks.
    /// Afterwards the caller must call [`CrossEntropyPartial::take_seconds`] to store the second-largest logits.
    pub(crate) fn take_keys(&mut self, keys: &[u64]) -> Result<()> {
        self.columns = Columns::new(OP, 0, self.frame.all, self.frame.all)?;
        self.found = keys.as_chunks().0.iter().copied().map(ShardStats::of_plain_keys).collect();
        Ok(())
    }

    /// Returns the keys for a max-reduction that yields the second-largest logits. `all` is the partial of all columns.
    pub(crate) fn second_keys(&self, all: &CrossEntropyPartial) -> Vec<u64> {
        self.found.iter().zip(&all.found).map(|(found, all)| found.second_key(all)).collect()
    }

    /// Stores the second-largest logits. `keys` holds the keys that a max-reduction over all ranks returned.
    pub(crate) fn take_seconds(&mut self, keys: &[u64]) {
        self.found.iter_mut().zip(keys).for_each(|(found, key)| found.take_second(*key));
    }
}

/// Sums over a shard of the columns, for the cross-entropy. They are relative to the merged maxima; see
/// [`CrossEntropyPartial`].
#[derive(Clone, Debug)]
pub struct CrossEntropySums {
    partial: CrossEntropyPartial,
    columns: Columns,
    sums: Vec<Sums>,
}

impl CrossEntropySums {
    /// Merges the sums of other columns of the same rows into these sums.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] if the sums are not relative to the same maxima; [`Error::InvalidArgument`] if `other`
    /// has columns that are already merged. After an error `self` is unchanged.
    pub fn merge(&mut self, other: CrossEntropySums) -> Result<()> {
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
        in_default(|| self.sums.iter_mut().zip(other.sums).for_each(|(sums, other)| sums.merge(other)));
        Ok(())
    }

    /// Computes the loss, with the same bits as [`cross_entropy`](crate::cross_entropy()).
    ///
    /// # Errors
    /// The errors of [`cross_entropy`](crate::cross_entropy()) for targets and options; [`Error::InvalidArgument`] if
    /// columns are missing, or if a row's target is a class now but was ignored when the sums were computed;
    /// [`Error::ShapeMismatch`] if the softcap or the label smoothing has changed. Other changes of the targets are not
    /// detected.
    pub fn loss(&self, targets: &[i64], options: &CrossEntropy<'_>) -> Result<Loss> {
        let (loss, counts) = self.unreported_loss(targets, options)?;
        report::record(OP, counts);
        Ok(loss)
    }

    /// Computes [`CrossEntropySums::loss`], but returns the guard counts of the rows instead of reporting them. A
    /// caller that also computes the gradient reports only the counts of the gradient.
    pub(crate) fn unreported_loss(&self, targets: &[i64], options: &CrossEntropy<'_>) -> Result<(Loss, Counts)> {
        let CrossEntropyPartial { frame, found, .. } = &self.partial;
        let resolved = frame.resolve(OP, targets, options)?;
        let CrossEntropy { softcap, label_smoothing, .. } = *options;
        frame.check("partial", &Frame { softcap, label_smoothing, ..frame.clone() })?;
        self.columns.check_all(OP, frame.all)?;
        let mut guards = GuardCounts::default();
        guards.counts.rows = found.len() as u64;
        let losses = match frame.dtype {
            DType::F64 => self.losses::<f64>(targets, options, &resolved, &mut guards),
            // Exponentials of f16 and bf16 logits are computed as for f32.
            _ => self.losses::<f32>(targets, options, &resolved, &mut guards),
        }?;
        Ok((options.reduce(&losses, &resolved), guards.counts))
    }

    /// Computes the gradient for the shard `logits` that begins at column `first`.
    ///
    /// The result has the same bits as the shard's columns in the result of
    /// [`cross_entropy_backward`](crate::cross_entropy_backward()).
    ///
    /// # Errors
    /// The errors of [`CrossEntropySums::loss`]; [`Error::ShapeMismatch`] if the number of rows has changed, or if
    /// `dloss` has the wrong length. Unlike `loss`, this function does not detect a row whose target is a class now but
    /// was ignored when the sums were computed.
    pub fn backward<E: Element>(
        &self,
        logits: Rows<'_, E>,
        first: usize,
        targets: &[i64],
        dloss: &[f64],
        options: &CrossEntropy<'_>,
    ) -> Result<Vec<E>> {
        let (rows, cols) = (logits.rows(), logits.cols());
        let resolved = self.resolve::<E>((rows, cols), first, targets, dloss, options)?;
        new_vec(BACKWARD, rows * cols, |out| {
            let out = RowsMut::new(out, rows, cols)?;
            let gradients = self.gradients(first, targets, dloss, options, &resolved);
            let (written, guards) = E::cross_entropy_gradients(logits, out, gradients)?;
            report::record(BACKWARD, guards.counts);
            Ok::<_, Error>(written)
        })
    }

    /// Computes [`CrossEntropySums::backward`], and overwrites the logits of the shard with the gradient.
    ///
    /// # Errors
    /// The errors of [`CrossEntropySums::backward`]. After an error the logits are unchanged.
    pub fn backward_in_place<E: Element>(
        &self,
        logits: RowsMut<'_, E>,
        first: usize,
        targets: &[i64],
        dloss: &[f64],
        options: &CrossEntropy<'_>,
    ) -> Result<()> {
        let counts = self.unreported_in_place(logits, first, targets, dloss, options)?;
        report::record(BACKWARD, counts);
        Ok(())
    }

    /// Computes [`CrossEntropySums::backward_in_place`], but returns the guard counts of the rows instead of reporting
    /// them. A caller with several shards of the same rows reports the counts of one shard only.
    pub(crate) fn unreported_in_place<E: Element>(
        &self,
        logits: RowsMut<'_, E>,
        first: usize,
        targets: &[i64],
        dloss: &[f64],
        options: &CrossEntropy<'_>,
    ) -> Result<Counts> {
        let resolved = self.resolve::<E>((logits.rows(), logits.cols()), first, targets, dloss, options)?;
        let gradients = self.gradients(first, targets, dloss, options, &resolved);
        Ok(E::cross_entropy_gradients_in_place(BACKWARD, logits, gradients)?.counts)
    }

    fn losses<E: Element>(
        &self,
        targets: &[i64],
        options: &CrossEntropy<'_>,
        resolved: &Resolved,
        guards: &mut GuardCounts,
    ) -> Result<Vec<RowLoss>> {
        let CrossEntropyPartial { frame: Frame { all, .. }, found, .. } = &self.partial;
        let logs = E::cross_entropy_logs(*all, found, &self.sums)?;
        let kernel = options.kernel(resolved, targets);
        let rows = found.iter().zip(&self.sums).zip(logs).enumerate();
        let losses = rows.map(|(row, ((found, sums), log))| {
            let loss = kernel.loss_of_parts::<E>((row, *all), found, sums, log, guards);
            let expected = "the target for which the sums were computed";
            loss.ok_or_else(|| Error::invalid_in_row(OP, "target", row, targets[row], expected))
        });
        in_default(|| losses.collect())
    }

    fn resolve<E: Element>(
        &self,
        (rows, cols): (usize, usize),
        first: usize,
        targets: &[i64],
        dloss: &[f64],
        options: &CrossEntropy<'_>,
    ) -> Result<Resolved> {
        let CrossEntropyPartial { frame, .. } = &self.partial;
        let resolved = resolve(options, frame.rows, frame.all, targets, dloss)?;
        frame.columns::<E>(BACKWARD, (rows, cols), first, options)?;
        self.columns.check_all(BACKWARD, frame.all)?;
        Ok(resolved)
    }

    fn gradients<'k>(
        &'k self,
        first: usize,
        targets: &'k [i64],
        dloss: &'k [f64],
        options: &CrossEntropy<'_>,
        resolved: &'k Resolved,
    ) -> Gradients<'k> {
        let CrossEntropyPartial { frame, found, .. } = &self.partial;
        let gradient = gradient(options, resolved, targets, dloss);
        Gradients { gradient, part: frame.part(first, targets, options, resolved), found, sums: &self.sums }
    }
}

/// Conversions from and to the data that ranks exchange.
#[cfg(feature = "sharded")]
impl CrossEntropySums {
    /// Returns the integers for a sum-reduction over ranks. For each row they are the sum of exponentials, and the key
    /// of the target's logit. The key is 0 on ranks that do not hold the target.
    pub(crate) fn units<E: Element>(&self) -> Vec<u64> {
        let all = self.partial.frame.all;
        self.sums.iter().flat_map(|sums| sums.units::<E>(all).into_iter().take(units_for::<E>(all))).collect()
    }

    /// Replaces the integer sums of this rank by `units`, the sums over all ranks. Removes the binned sums of this rank
    /// and returns them as words. [`CrossEntropySums::add_bins`] must then add the words of every rank.
    pub(crate) fn take_units<E: Element>(&mut self, units: &[u64]) -> Result<Vec<u64>> {
        let CrossEntropyPartial { frame, found, .. } = &self.partial;
        self.columns = Columns::new(OP, 0, frame.all, frame.all)?;
        let in_bins = frame.in_bins();
        let mut words = Vec::new();
        for ((sums, found), units) in self.sums.iter_mut().zip(found).zip(units.chunks(units_for::<E>(frame.all))) {
            let bins = sums.bins().into_iter().zip(in_bins);
            words.extend(bins.filter(|(_, is_in_bins)| *is_in_bins).flat_map(|(bins, _)| bins.to_words()));
            let units = std::array::from_fn(|i| units.get(i).copied().unwrap_or(0));
            *sums = Sums::of_units::<E>(units, found, frame.all);
        }
        Ok(words)
    }

    /// Adds the binned sums of one rank, which are given as words.
    pub(crate) fn add_bins(&mut self, words: &[u64]) {
        let in_bins = self.partial.frame.in_bins();
        let mut bins = words.as_chunks().0.iter().copied().map(Bins::of_words);
        for sums in &mut self.sums {
            let next = |is_in_bins: bool| is_in_bins.then(|| bins.next()).flatten().unwrap_or_default();
            sums.add_bins(in_bins.map(next));
        }
    }
}
