//! Cross-entropy and its gradient of rows that are not all in one place.

use super::columns::Columns;
use super::cross_entropy::{CrossEntropy, Resolved};
use super::cross_entropy_backward::{gradient, resolve};
use super::loss::Loss;
use crate::cpu::cross_entropy::RowLoss;
#[cfg(feature = "sharded")]
use crate::cpu::cross_entropy_partial::units_for;
use crate::cpu::cross_entropy_partial::{Gradients, Part, Sums};
use crate::cpu::lanes::Met;
use crate::cpu::softmax_partial::Found;
use crate::element::{DType, Element};
use crate::error::{Error, Result};
#[cfg(feature = "sharded")]
use crate::math::bins::Bins;
use crate::report::{self, Counts};
use crate::rows::{Rows, RowsMut};
use crate::simd::{in_default, new_vec};

const OP: &str = "cross_entropy";
pub(crate) const BACKWARD: &str = "cross_entropy_backward";

/// What some classes' logits say of their maximum: what machines that have a part of the vocabulary each send one
/// another first.
///
/// As for [`SoftmaxPartial`](crate::SoftmaxPartial) there are two exchanges, and in both no order shows:
///
/// 1. `CrossEntropyPartial`: for each row the two largest logits, and how they are to be read. Merged, it is that of the
///    whole row.
/// 2. [`CrossEntropySums`], against the merged maximum: for each row two integers of 64 bits, of f64 three, and the
///    target's logit from the part that has it. Of f64, and with label smoothing, also four numbers and where they stand
///    ([rule B](crate::math::sum)).
///
/// Then each machine has the loss, and the gradient of its own columns. Both have the bits of
/// [`cross_entropy`](crate::cross_entropy()) and [`cross_entropy_backward`](crate::cross_entropy_backward()) over whole
/// rows, wherever they are cut and in whatever order parts are merged; their pages say what becomes of rows that are not
/// plain numbers. Targets are numbers of classes among all, weights those of all classes. A part's rows, the number of
/// its first column, the targets and the options are asked for at each step, and are to be the same.
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
    /// The larger, and what holds of either, is that of both.
    found: Vec<Found>,
}

/// What parts have in common.
#[derive(Clone, Debug, PartialEq)]
struct Frame {
    dtype: DType,
    rows: usize,
    /// Columns in all.
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

    /// The columns of a part from `first` on, of so many rows and columns.
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

    /// Whether rows have something in bins: the exponentials, and what smoothing adds.
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
    ) -> Part<'k> {
        Part { forward: options.kernel(resolved, targets), first, all: self.all }
    }
}

impl CrossEntropyPartial {
    /// What logits say of classes that are `columns.0` and those behind it, of `columns.1` in all.
    ///
    /// # Errors
    /// Those of [`cross_entropy`](crate::cross_entropy()) for rows of `columns.1` columns; [`Error::InvalidArgument`]
    /// where the columns reach beyond that.
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

    /// Takes up what other columns of the same rows say.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] for other rows, another type, or another softcap or label smoothing;
    /// [`Error::InvalidArgument`] for columns that are there already. `self` is as it was then.
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

    /// The sums of the columns from `first` on.
    ///
    /// # Errors
    /// Those of [`CrossEntropyPartial::new`]; [`Error::InvalidArgument`] where `self` is not of all columns, and
    /// [`Error::ShapeMismatch`] where it is of others than these.
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

/// What goes from rank to rank.
#[cfg(feature = "sharded")]
impl CrossEntropyPartial {
    /// Integers whose maxima those of all columns are made of.
    pub(crate) fn keys(&self) -> Vec<u64> {
        self.found.iter().flat_map(Found::plain_keys).collect()
    }

    /// What all columns say, of whose keys these are the maxima.
    pub(crate) fn take_keys(&mut self, keys: &[u64]) -> Result<()> {
        self.columns = Columns::new(OP, 0, self.frame.all, self.frame.all)?;
        self.found = keys.as_chunks().0.iter().copied().map(Found::of_plain_keys).collect();
        Ok(())
    }

    /// Keys whose maxima are those of the second largest logits of all columns; `all` is what these say.
    pub(crate) fn second_keys(&self, all: &CrossEntropyPartial) -> Vec<u64> {
        self.found.iter().zip(&all.found).map(|(found, all)| found.second_key(all)).collect()
    }

    /// Takes the maxima of those keys.
    pub(crate) fn take_seconds(&mut self, keys: &[u64]) {
        self.found.iter_mut().zip(keys).for_each(|(found, key)| found.take_second(*key));
    }
}

/// What some columns add to a cross-entropy, against merged maxima: see [`CrossEntropyPartial`].
#[derive(Clone, Debug)]
pub struct CrossEntropySums {
    partial: CrossEntropyPartial,
    columns: Columns,
    sums: Vec<Sums>,
}

impl CrossEntropySums {
    /// Takes up what other columns add.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] where they were not summed against the same maxima, [`Error::InvalidArgument`] for
    /// columns that are there already. `self` is as it was then.
    pub fn merge(&mut self, other: CrossEntropySums) -> Result<()> {
        self.partial.frame.check("sums", &other.partial.frame)?;
        if in_default(|| self.partial.found != other.partial.found) {
            return Err(Error::shape(OP, "sums", "other maxima", "sums against the same ones"));
        }
        self.columns.check_new(OP, &other.columns)?;
        self.columns.merge(other.columns);
        in_default(|| self.sums.iter_mut().zip(other.sums).for_each(|(sums, other)| sums.merge(other)));
        Ok(())
    }

    /// The loss, as [`cross_entropy`](crate::cross_entropy()) gives it.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] where columns are missing, and for targets and options as
    /// [`cross_entropy`](crate::cross_entropy()), also for a target that is not the one that sums were made with.
    /// [`Error::ShapeMismatch`] for another softcap or label smoothing.
    pub fn loss(&self, targets: &[i64], options: &CrossEntropy<'_>) -> Result<Loss> {
        let (loss, counts) = self.unreported_loss(targets, options)?;
        report::record(OP, counts);
        Ok(loss)
    }

    /// [`CrossEntropySums::loss`], where it is the gradient that is to be in the report.
    pub(crate) fn unreported_loss(&self, targets: &[i64], options: &CrossEntropy<'_>) -> Result<(Loss, Counts)> {
        let CrossEntropyPartial { frame, found, .. } = &self.partial;
        let resolved = frame.resolve(OP, targets, options)?;
        let CrossEntropy { softcap, label_smoothing, .. } = *options;
        frame.check("partial", &Frame { softcap, label_smoothing, ..frame.clone() })?;
        self.columns.check_all(OP, frame.all)?;
        let mut met = Met::default();
        met.counts.rows = found.len() as u64;
        let losses = match frame.dtype {
            DType::F64 => self.losses::<f64>(targets, options, &resolved, &mut met),
            // The others' exponentials are f32.
            _ => self.losses::<f32>(targets, options, &resolved, &mut met),
        }?;
        Ok((options.reduce(&losses, &resolved), met.counts))
    }

    /// The gradient by the columns from `first` on, as [`cross_entropy_backward`](crate::cross_entropy_backward()) gives
    /// it.
    ///
    /// # Errors
    /// Those of [`CrossEntropySums::loss`], but for targets that were others; [`Error::ShapeMismatch`] for other rows, or
    /// a `dloss` of another shape.
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
            let (written, met) = E::cross_entropy_gradients(logits, out, gradients)?;
            report::record(BACKWARD, met.counts);
            Ok::<_, Error>(written)
        })
    }

    /// [`CrossEntropySums::backward`] in place of the logits.
    ///
    /// # Errors
    /// The same; nothing was written then.
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

    /// [`CrossEntropySums::backward_in_place`], for parts of which only one is to be in the report.
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
        met: &mut Met,
    ) -> Result<Vec<RowLoss>> {
        let CrossEntropyPartial { frame: Frame { all, .. }, found, .. } = &self.partial;
        let logs = E::cross_entropy_logs(*all, found, &self.sums)?;
        let kernel = options.kernel(resolved, targets);
        let rows = found.iter().zip(&self.sums).zip(logs).enumerate();
        let losses = rows.map(|(row, ((found, sums), log))| {
            let loss = kernel.loss_of_parts::<E>((row, *all), found, sums, log, met);
            let expected = "the target that the sums were made with";
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

/// What goes from rank to rank.
#[cfg(feature = "sharded")]
impl CrossEntropySums {
    /// Integers whose sums are those of all columns.
    pub(crate) fn units<E: Element>(&self) -> Vec<u64> {
        let all = self.partial.frame.all;
        self.sums.iter().flat_map(|sums| sums.units::<E>(all).into_iter().take(units_for::<E>(all))).collect()
    }

    /// Takes the sums of all columns, but for what is in bins; gives these.
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

    /// Takes the bins of a rank.
    pub(crate) fn add_bins(&mut self, words: &[u64]) {
        let in_bins = self.partial.frame.in_bins();
        let mut bins = words.as_chunks().0.iter().copied().map(Bins::of_words);
        for sums in &mut self.sums {
            let next = |is_in_bins: bool| is_in_bins.then(|| bins.next()).flatten().unwrap_or_default();
            sums.add_bins(in_bins.map(next));
        }
    }
}
