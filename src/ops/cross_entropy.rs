//! Cross-entropy of logits and targets, where a target is a class number.

use super::loss::{Loss, Reduction};
use super::softmax::Softmax;
use super::{is_in_zero_to, one_a_column};
use crate::cpu;
use crate::cpu::cross_entropy::RowLoss;
use crate::element::Element;
use crate::error::{Error, Result};
use crate::floats::Floats;
use crate::math::sum::{MAX_TERMS, tiled_sum};
use crate::report;
use crate::rows::Rows;
use crate::simd::in_default;

/// Options of [`cross_entropy`] and [`cross_entropy_backward`](crate::cross_entropy_backward).
///
/// ```
/// use evenkeel::{CrossEntropy, Reduction};
/// let language_model = CrossEntropy::default().z_loss(1e-4).softcap(30.0);
/// let classifier = CrossEntropy::default().weight(&[0.2f32, 1.0, 3.0]).label_smoothing(0.1).reduction(Reduction::Sum);
/// # let _ = (language_model, classifier);
/// ```
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct CrossEntropy<'a> {
    /// Weight of each class, of any float type; 1 by default. Weights may be negative. A NaN weight makes all
    /// gradients NaN, and each loss in which it occurs. An infinite weight gives results that are NaN or infinite.
    pub weight: Option<Floats<'a>>,
    /// Target that marks a row to be ignored; -100 by default. It may be a valid class number. The logits of ignored
    /// rows are not read.
    pub ignore_index: i64,
    /// Fraction of each target's probability that is distributed equally over all classes. In 0 ..= 1; 0 by default.
    pub label_smoothing: f64,
    /// Coefficient of the z-loss. The z-loss of a row is this coefficient times the square of the log-sum-exp of the
    /// row's softcapped logits, and is added to the row's loss. The mean of the z-losses is not weighted. Finite and
    /// not negative; 0 by default.
    pub z_loss: f64,
    /// Smooth bound of the logits, `cap * tanh(logit / cap)`. Finite and above zero; none by default.
    pub softcap: Option<f64>,
    /// Reduction of the rows' losses; their mean by default.
    pub reduction: Reduction,
}

impl Default for CrossEntropy<'_> {
    fn default() -> Self {
        CrossEntropy {
            weight: None,
            ignore_index: -100,
            label_smoothing: 0.0,
            z_loss: 0.0,
            softcap: None,
            reduction: Reduction::Mean,
        }
    }
}

impl<'a> CrossEntropy<'a> {
    /// Sets [`CrossEntropy::weight`].
    pub fn weight(self, weight: impl Into<Floats<'a>>) -> Self {
        Self { weight: Some(weight.into()), ..self }
    }

    /// Sets [`CrossEntropy::ignore_index`].
    pub fn ignore_index(self, index: i64) -> Self {
        Self { ignore_index: index, ..self }
    }

    /// Sets [`CrossEntropy::label_smoothing`].
    pub fn label_smoothing(self, share: f64) -> Self {
        Self { label_smoothing: share, ..self }
    }

    /// Sets [`CrossEntropy::z_loss`].
    pub fn z_loss(self, factor: f64) -> Self {
        Self { z_loss: factor, ..self }
    }

    /// Sets [`CrossEntropy::softcap`].
    pub fn softcap(self, softcap: f64) -> Self {
        Self { softcap: Some(softcap), ..self }
    }

    /// Sets [`CrossEntropy::reduction`].
    pub fn reduction(self, reduction: Reduction) -> Self {
        Self { reduction, ..self }
    }

    /// Checks the options that can be checked without the operands.
    pub(crate) fn check(&self, op: &'static str) -> Result<()> {
        if !is_in_zero_to(self.label_smoothing, 1.0) {
            return Err(Error::invalid(op, "label_smoothing", self.label_smoothing, "in 0 ..= 1"));
        }
        if !is_in_zero_to(self.z_loss, f64::MAX) {
            return Err(Error::invalid(op, "z_loss", self.z_loss, "finite and not negative"));
        }
        self.scores().check(op)
    }

    /// Returns the softmax options that transform the logits. Only the softcap differs from the defaults.
    pub(crate) fn scores(&self) -> Softmax<'static> {
        Softmax { softcap: self.softcap, ..Softmax::default() }
    }

    /// Checks options and targets against the shape of the logits, and sums the weights.
    pub(crate) fn resolve(&self, op: &'static str, rows: usize, cols: usize, targets: &[i64]) -> Result<Resolved> {
        if targets.len() != rows {
            let got = format!("{} elements", targets.len());
            return Err(Error::shape(op, "target", got, format!("one for each of {rows} rows")));
        }
        one_a_column(op, "weight", self.weight, cols)?;
        if cols > MAX_TERMS {
            return Err(Error::invalid(op, "columns", cols, format!("at most {MAX_TERMS}")));
        }
        self.check(op)?;
        let weight: Option<Vec<f64>> =
            self.weight.map(|w| in_default(|| (0..cols).map(|i| w.get(i).unwrap_or(f64::NAN)).collect()));
        let (mut counted, mut weights) = (0usize, Vec::new());
        for (row, &target) in targets.iter().enumerate().filter(|(_, target)| **target != self.ignore_index) {
            let class = usize::try_from(target).ok().filter(|class| *class < cols);
            let class = class.ok_or_else(|| self.no_class(op, row, target, cols))?;
            counted += 1;
            if let Some(weight) = &weight {
                weights.push((row, weight[class]));
            }
        }
        // The tiled sum has one term for each row: the weight of the row's target, or 0 if the row is ignored.
        let of_targets = if weight.is_some() {
            let mut terms = vec![0.0; rows];
            weights.into_iter().for_each(|(row, weight)| terms[row] = weight);
            sum_of_weights(&terms)
        } else {
            counted as f64
        };
        Ok(Resolved { weight_sum: weight.as_deref().map_or(cols as f64, sum_of_weights), weight, counted, of_targets })
    }

    /// Returns the error for a target that is neither a valid class nor `ignore_index`.
    pub(crate) fn no_class(&self, op: &'static str, row: usize, target: i64, classes: usize) -> Error {
        let expected = format!("in 0 .. {classes}, or {} to be ignored", self.ignore_index);
        Error::invalid_in_row(op, "target", row, target, expected)
    }

    pub(crate) fn kernel<'k>(
        &self,
        resolved: &'k Resolved,
        targets: &'k [i64],
    ) -> cpu::cross_entropy::CrossEntropy<'k> {
        let Softmax { scale, softcap, fully_masked, .. } = self.scores();
        cpu::cross_entropy::CrossEntropy {
            scores: cpu::scores::LogitTransform { mask: None, scale, softcap, fully_masked },
            targets,
            ignore_index: self.ignore_index,
            weight: resolved.weight.as_deref(),
            weight_sum: resolved.weight_sum,
            label_smoothing: self.label_smoothing,
            z_loss: self.z_loss,
        }
    }

    /// Applies the reduction to the losses of the rows.
    pub(crate) fn reduce(&self, rows: &[RowLoss], resolved: &Resolved) -> Loss {
        in_default(|| {
            if self.reduction == Reduction::None {
                return Loss::Rows(rows.iter().map(|row| row.entropy + row.z).collect());
            }
            let sum = |part: fn(&RowLoss) -> f64| tiled_sum(&rows.iter().map(part).collect::<Vec<f64>>());
            let entropy = sum(|row| row.entropy);
            let z = if self.z_loss == 0.0 { 0.0 } else { sum(|row| row.z) };
            let [of_entropy, of_z] = self.divisors(resolved);
            let part = |sum: f64, by: f64| if by == 0.0 && !sum.is_nan() { 0.0 } else { sum / by };
            Loss::Value(part(entropy, of_entropy) + part(z, of_z))
        })
    }

    /// Returns two divisors: one for the sum of the entropies, and one for the sum of the z-losses.
    pub(crate) fn divisors(&self, resolved: &Resolved) -> [f64; 2] {
        match self.reduction {
            Reduction::Mean => [resolved.of_targets, resolved.counted as f64],
            Reduction::None | Reduction::Sum => [1.0, 1.0],
        }
    }
}

/// Returns the tiled sum of weights. If the weights are finite and their sum is not, clamps it to the range of f64.
fn sum_of_weights(weights: &[f64]) -> f64 {
    const UP: f64 = (1u64 << 32) as f64;
    let sum = tiled_sum(weights);
    if sum.is_finite() || !weights.iter().all(|weight| weight.is_finite()) {
        return sum;
    }
    // The sum above may be NaN, because parts of it may be infinities of both signs. The sum of the weights over 2^32
    // is finite for fewer than 2^32 weights.
    let down: Vec<f64> = weights.iter().map(|weight| weight / UP).collect();
    (tiled_sum(&down) * UP).clamp(f64::MIN, f64::MAX)
}

/// Checked weights of a call, and their sums.
pub(crate) struct Resolved {
    weight: Option<Vec<f64>>,
    /// Sum of the weights of all classes.
    weight_sum: f64,
    /// Number of rows that are not ignored.
    counted: usize,
    /// Sum of the targets' weights over the rows that are not ignored. Without weights, the number of rows that are not
    /// ignored.
    of_targets: f64,
}

const OP: &str = "cross_entropy";

/// Computes the cross-entropy of logits and targets, in f64. A target is a class number.
///
/// # Formula
/// ```text
/// nll_j = (max - z_j) + ln(Z),   Z = sum_k e^(z_k - max),   z = cap tanh(logits / cap), or the logits
/// row   = (1 - s) w_t nll_t  +  s/V sum_k w_k nll_k  +  z_loss (max + ln(Z))^2
///
/// none  : the loss of each row;   sum : the sum of these losses
/// mean  : (sum of the first two terms) / (sum of w_t)  +  (sum of the third term) / (number of rows);
///         the sums and the number of rows leave out ignored rows
/// ```
/// Here t is the row's target, w the weights, s the label smoothing, and V the number of classes. Indices j and k are
/// classes, from 0 to V - 1. `max` is the row's largest z_k. Without z-loss and softcap, the loss is PyTorch's, except
/// for the differences in the table below.
///
/// # Shapes
/// `logits` is `[N, V]` ([`Rows`]) with at most 2^21 columns. `targets` has N numbers, and `weight` has V. The [`Loss`]
/// is one number, or N numbers under [`Reduction::None`]. The loss is f64, and is not rounded to the type of the
/// logits, which may be too narrow for a mean over rows.
///
/// # Special values
/// In each table, the first line that matches applies. A row:
///
/// | row | loss of the row |
/// |---|---|
/// | a target equal to `ignore_index` | 0; the row is not read |
/// | a NaN, or a logit of +inf without a softcap | NaN |
/// | a fully masked row | +inf, or 0 if w_t is 0 without label smoothing and `z_loss`; reported as fully masked |
/// | a masked target of weight above 0; with label smoothing, any masked class of weight above 0 | +inf |
/// | one class | exactly 0, except for the term of `z_loss` |
/// | other finite logits of any magnitude | finite, unless the loss itself exceeds the range of f64 |
///
/// A class is masked if its logit is -inf, with or without a softcap. A softcap turns +inf into `cap`. If the weight of
/// a masked class is 0, its term is 0. If the weight is below 0, the term is -inf. Infinities of both signs add up to
/// NaN, in a row and in a reduction.
///
/// | reduction | loss |
/// |---|---|
/// | `None` | the losses of the rows |
/// | `Mean` and `Sum`, with a NaN row | NaN |
/// | `Mean`, if the w_t sum to 0 or all rows are ignored | 0, plus the mean of the z-losses (PyTorch: NaN) |
/// | no rows | 0 |
///
/// # Accuracy
/// For f32, f16 and bf16 logits, a row's loss has an error of at most 2.5 ULP in f32 if the caller rounds it to f32.
/// For f64 logits, the error is at most 10 ULP in f64. The unit is the ULP of
/// ```text
/// T = (1 - s) |w_t| nll_t  +  s/V sum_k |w_k| nll_k  +  2 z_loss (|max| + ln(Z)) max(|max|, ln(Z))
/// ```
/// T equals the loss itself unless there is a `z_loss` or a negative weight. `docs/accuracy/losses.md` derives the
/// bound. The bound does not include the rounding of softcapped logits to f64.
///
/// The error does not grow with the magnitude of the logits, even at ±1e30, because max - z_t is computed before the
/// logarithm is added.
///
/// The sums are defined in [`math::sum`](crate::math::sum). Exponentials are added by a fixed-point sum (for f64
/// logits, a binned sum), and the terms max - z_k of label smoothing by a binned sum. Tiled sums add the losses of the
/// rows, the weights of their targets and the weights of all classes. The errors of these tiled sums are not part of
/// the bound. The number of rows is exact for every type of logits.
///
/// For f64 logits, label smoothing with class weights increases the bound. The increase is 15 ULP of the sum of the
/// weights' magnitudes, and 1 ULP for each 16,384 classes. If ln(Z) is below V 2^-126, the error of ln(Z) may be larger
/// by V 2^-150. For f64 logits, replace 2^-126 by 2^-1022 and 2^-150 by 2^-1075.
///
/// # Errors
/// [`Error::ShapeMismatch`] if an operand has the wrong number of elements; [`Error::InvalidArgument`] if an option is
/// out of range, if there are more than 2^21 columns, or if a target is neither a class nor `ignore_index` (the error
/// contains the row);
/// [`Error::Unavailable`] if the requested instruction set is unavailable.
///
/// # Panics
/// Never.
///
/// # Source
/// Label smoothing: Szegedy et al., "Rethinking the Inception Architecture for Computer Vision", 2016. z-loss:
/// Chowdhery et al., "PaLM", 2022. Softcap: Gemma Team, "Gemma 2", 2024.
///
/// # Example
/// ```
/// use evenkeel::{CrossEntropy, Rows, cross_entropy};
/// // A confident row, a row with huge logits, and an ignored row.
/// let logits = [40.0f32, 0.0, -1e30, 1e30, f32::NAN, f32::NAN];
/// let loss = cross_entropy(Rows::new(&logits, 3, 2)?, &[0, 1, -100], &CrossEntropy::default())?;
/// assert_eq!(loss.value() as f32, 2.124177e-18); // 0 or NaN if a rounded softmax is used
/// # Ok::<(), evenkeel::Error>(())
/// ```
pub fn cross_entropy<E: Element>(logits: Rows<'_, E>, targets: &[i64], options: &CrossEntropy<'_>) -> Result<Loss> {
    let resolved = options.resolve(OP, logits.rows(), logits.cols(), targets)?;
    let mut losses = vec![RowLoss::default(); logits.rows()];
    let counts = E::cross_entropy(logits, &mut losses, options.kernel(&resolved, targets))?;
    report::record(OP, counts);
    Ok(options.reduce(&losses, &resolved))
}
