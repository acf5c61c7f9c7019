//! The cross-entropy of logits against class numbers.

use super::loss::{Loss, Reduction};
use super::softmax::Softmax;
use super::{is_in_zero_to, one_a_column};
use crate::cpu;
use crate::cpu::cross_entropy::RowLoss;
use crate::element::Element;
use crate::error::{Error, Result};
use crate::floats::Floats;
use crate::math::sum::{MAX_TERMS, rule_o};
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
    /// A weight for each class, of any float type; 1 each by default.
    pub weight: Option<Floats<'a>>,
    /// Rows with this target do not count, and are not read; -100 by default. It may be the number of a class.
    pub ignore_index: i64,
    /// The share of each target that goes to all classes alike. In 0 ..= 1; 0 by default.
    pub label_smoothing: f64,
    /// Adds this times the square of a row's log-sum-exp. Finite and not negative; 0 by default.
    pub z_loss: f64,
    /// Bounds the logits smoothly first, `cap * tanh(logit / cap)`. Finite and above zero; none by default.
    pub softcap: Option<f64>,
    /// What becomes of the rows' losses; their mean by default.
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

    /// Checks what does not depend on the operands.
    pub(crate) fn check(&self, op: &'static str) -> Result<()> {
        if !is_in_zero_to(self.label_smoothing, 1.0) {
            return Err(Error::invalid(op, "label_smoothing", self.label_smoothing, "in 0 ..= 1"));
        }
        if !is_in_zero_to(self.z_loss, f64::MAX) {
            return Err(Error::invalid(op, "z_loss", self.z_loss, "finite and not negative"));
        }
        self.scores().check(op)
    }

    /// What makes scores of the logits: the softcap.
    pub(crate) fn scores(&self) -> Softmax<'static> {
        Softmax { softcap: self.softcap, ..Softmax::default() }
    }

    /// Checks options and targets against the logits' shape.
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
        // By rule O over all rows, those that do not count adding nothing.
        let of_targets = if weight.is_some() {
            let mut terms = vec![0.0; rows];
            weights.into_iter().for_each(|(row, weight)| terms[row] = weight);
            rule_o(&terms)
        } else {
            counted as f64
        };
        Ok(Resolved { weight_sum: weight.as_deref().map_or(cols as f64, rule_o), weight, counted, of_targets })
    }

    /// Of a target that is neither one of so many classes nor ignored.
    pub(crate) fn no_class(&self, op: &'static str, row: usize, target: i64, classes: usize) -> Error {
        let expected = format!("in 0 .. {classes}, or {} to be ignored", self.ignore_index);
        Error::invalid_in_row(op, "target", row, target, expected)
    }

    /// What kernels take.
    pub(crate) fn kernel<'k>(
        &self,
        resolved: &'k Resolved,
        targets: &'k [i64],
    ) -> cpu::cross_entropy::CrossEntropy<'k> {
        let Softmax { scale, softcap, fully_masked, .. } = self.scores();
        cpu::cross_entropy::CrossEntropy {
            scores: cpu::scores::Scores { mask: None, scale, softcap, fully_masked },
            targets,
            ignore_index: self.ignore_index,
            weight: resolved.weight.as_deref(),
            weight_sum: resolved.weight_sum,
            label_smoothing: self.label_smoothing,
            z_loss: self.z_loss,
        }
    }

    /// The loss of the rows' losses, all of them or one reduced.
    pub(crate) fn reduce(&self, rows: &[RowLoss], resolved: &Resolved) -> Loss {
        in_default(|| {
            if self.reduction == Reduction::None {
                return Loss::Rows(rows.iter().map(|row| row.entropy + row.z).collect());
            }
            let sum = |part: fn(&RowLoss) -> f64| rule_o(&rows.iter().map(part).collect::<Vec<f64>>());
            let entropy = sum(|row| row.entropy);
            let z = if self.z_loss == 0.0 { 0.0 } else { sum(|row| row.z) };
            let [of_entropy, of_z] = self.divisors(resolved);
            let part = |sum: f64, divisor: f64| if divisor == 0.0 { 0.0 } else { sum / divisor };
            Loss::Value(part(entropy, of_entropy) + part(z, of_z))
        })
    }

    /// What the sums of the rows' two parts are divided by.
    pub(crate) fn divisors(&self, resolved: &Resolved) -> [f64; 2] {
        match self.reduction {
            Reduction::Mean => [resolved.of_targets, resolved.counted as f64],
            Reduction::None | Reduction::Sum => [1.0, 1.0],
        }
    }
}

/// What is known of a call's targets and weights before any logit is read.
pub(crate) struct Resolved {
    weight: Option<Vec<f64>>,
    /// Of all classes.
    weight_sum: f64,
    /// Rows that count.
    counted: usize,
    /// The sum of their targets' weights.
    of_targets: f64,
}

const OP: &str = "cross_entropy";

/// The cross-entropy of logits against class numbers.
///
/// # Formula
/// ```text
/// nll_j = (max - z_j) + ln(sum_k e^(z_k - max)),   z = cap tanh(logits / cap), or the logits without a softcap
/// row   = (1 - s) w_t nll_t  +  s/V sum_k w_k nll_k  +  z_loss (max + ln(sum))^2
///
/// none  : each row;   sum : their sum
/// mean  : the first two terms divided by the sum of w_t, the third by the number of rows, over rows that count
/// ```
/// with t the row's target, w the weights, s the label smoothing, V the number of classes. It is PyTorch's loss, but
/// for what the next table says.
///
/// # Shapes
/// `logits` is `[N, V]` ([`Rows`]), at most 2^21 columns; `targets` has N numbers, `weight` V. The [`Loss`] is one
/// number, or N of them; it is not rounded to the type of the logits, in which a mean over rows has no place.
///
/// # Special values
/// | what | loss |
/// |---|---|
/// | a target that is `ignore_index` | 0, its row is not read |
/// | every row ignored, or the weights of those that count sum to 0, under `Mean` | 0 (PyTorch: NaN) |
/// | no rows | 0 |
/// | a logit of -inf | masked: probability 0 |
/// | the target masked | +inf, as in PyTorch, but 0 where its weight is 0 |
/// | label smoothing, and a class of weight above 0 masked | +inf, as in PyTorch |
/// | all masked | +inf (PyTorch: NaN), because the target is; it is counted as wholly masked |
/// | a NaN, or a logit of +inf | NaN; under `None` in this row only |
/// | one class | 0, exactly |
/// | logits of any size | finite, unless the loss itself is beyond f64 |
///
/// # Accuracy
/// Each row's loss, rounded to f32 (f64 of f64 logits), is at most 2.5 ULP off (f64: 10), in ULP of
/// ```text
/// T = (1 - s) |w_t| nll_t  +  s/V sum_k |w_k| nll_k  +  2 z_loss (|max| + ln(sum)) max(|max|, ln(sum))
/// ```
/// which is the loss itself unless there is a `z_loss` or a negative weight. `docs/accuracy/losses.md` derives this. Logits
/// of ±1e30 cost nothing: the distance of the target from the maximum is taken before the logarithm is added. Exponentials
/// are added by rule Q, and the distances that label smoothing sums by rule B. Rule O adds rows, the weights of their targets
/// and those of all classes, with an error of its own ([`math::sum`](crate::math::sum)); a bf16 count of 257 rows is 257. In
/// f64, label smoothing with class weights adds 15 ULP and one for each 16,384 classes, of the sum of the weights'
/// magnitudes. With a softcap, the bound is against the logits as rounded to f64. A ln(sum) below n 2^-126, of n classes, may
/// also be off by 2^-150 for each class (f64: below n 2^-1022 by 2^-1075).
///
/// # Errors
/// [`Error::ShapeMismatch`], [`Error::InvalidArgument`] for options out of their range and for a target that is neither
/// a class nor `ignore_index`, with its row; [`Error::Backend`].
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
/// // A confident row, one whose logits are far from zero, and padding.
/// let logits = [40.0f32, 0.0, -1e30, 1e30, f32::NAN, f32::NAN];
/// let loss = cross_entropy(Rows::new(&logits, 3, 2)?, &[0, 1, -100], &CrossEntropy::default())?;
/// assert_eq!(loss.value() as f32, 2.124177e-18); // by way of a softmax: 0, or NaN
/// # Ok::<(), evenkeel::Error>(())
/// ```
pub fn cross_entropy<E: Element>(logits: Rows<'_, E>, targets: &[i64], options: &CrossEntropy<'_>) -> Result<Loss> {
    let resolved = options.resolve(OP, logits.rows(), logits.cols(), targets)?;
    let mut losses = vec![RowLoss::default(); logits.rows()];
    let counts = E::cross_entropy(logits, &mut losses, options.kernel(&resolved, targets))?;
    report::record(OP, counts);
    Ok(options.reduce(&losses, &resolved))
}
