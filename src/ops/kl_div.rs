//! Kullback-Leibler divergence KL(targets || probabilities), and its gradient. The probabilities are the softmax of
//! logits, or are given by their logarithms.

use super::loss::{LOSSES, Loss, Reduction, one_a_logit, one_a_loss};
use super::{is_finite, same_lanes};
use crate::cpu;
use crate::cpu::row_loss::{LossOp, Upstream};
use crate::element::Element;
use crate::error::{Error, Result};
use crate::floats::Floats;
use crate::report;
use crate::rows::{Rows, RowsMut};
use crate::simd::{filled, new_vec};

/// Options of [`kl_div`] and [`kl_div_backward`].
///
/// ```
/// use evenkeel::KlDiv;
/// let distillation = KlDiv::default().log_target(true).scale(0.5); // a temperature of 2
/// # let _ = distillation;
/// ```
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct KlDiv {
    /// Whether targets are logarithms of probabilities; false by default.
    pub log_target: bool,
    /// Whether `logits` holds log-probabilities, as in PyTorch's `kl_div`; false by default. If true, there is a loss
    /// for each element, not for each row.
    pub log_probs: bool,
    /// Factor of the logits, the reciprocal of the temperature. Finite; 1 by default. Must be 1 if `log_probs` is set.
    pub scale: f64,
    /// Reduction of the losses; their mean by default. Without `log_probs`, the mean is PyTorch's `batchmean`.
    pub reduction: Reduction,
}

impl Default for KlDiv {
    fn default() -> Self {
        KlDiv { log_target: false, log_probs: false, scale: 1.0, reduction: Reduction::Mean }
    }
}

impl KlDiv {
    /// Sets [`KlDiv::log_target`].
    pub fn log_target(self, log_target: bool) -> Self {
        Self { log_target, ..self }
    }

    /// Sets [`KlDiv::log_probs`].
    pub fn log_probs(self, log_probs: bool) -> Self {
        Self { log_probs, ..self }
    }

    /// Sets [`KlDiv::scale`].
    pub fn scale(self, scale: f64) -> Self {
        Self { scale, ..self }
    }

    /// Sets [`KlDiv::reduction`].
    pub fn reduction(self, reduction: Reduction) -> Self {
        Self { reduction, ..self }
    }

    /// Checks options and targets against the shape of the logits.
    fn check(&self, op: &'static str, shape: (usize, usize), targets: Floats<'_>) -> Result<()> {
        if !is_finite(self.scale) {
            return Err(Error::invalid(op, "scale", self.scale, "finite"));
        }
        if self.log_probs && self.scale != 1.0 {
            return Err(Error::invalid(op, "scale", self.scale, "1 if log_probs is set"));
        }
        let (expected, most) = if self.log_target { ("not above 0", 0.0) } else { ("in 0 ..= 1", 1.0) };
        let least = if self.log_target { f64::NEG_INFINITY } else { 0.0 };
        one_a_logit(op, "target", targets, shape, expected, |target| (least..=most).contains(&target))
    }

    /// Returns how many losses are stored for each row, and how many in total.
    fn losses(&self, rows: usize, cols: usize) -> (usize, usize) {
        let each = if self.log_probs && self.reduction == Reduction::None { cols } else { 1 };
        (each, rows * each)
    }

    fn kernel<'k>(&self, targets: Floats<'k>, shape: (usize, usize), dloss: &'k [f64]) -> (LossOp<'k>, f64) {
        let divisor = self.reduction.divisor(if self.log_probs { shape.0 * shape.1 } else { shape.0 });
        let KlDiv { log_target, log_probs, scale, .. } = *self;
        let upstream = Upstream { dloss, divisor };
        (LossOp::KlDiv(cpu::kl_div::KlDiv { targets, log_target, log_probs, scale, upstream }), divisor)
    }
}

const OP: &str = "kl_div";
const BACKWARD: &str = "kl_div_backward";

/// Computes the Kullback-Leibler divergence KL(targets || softmax(logits)), in f64.
///
/// In distillation, the logits are the student's and the targets are the teacher's probabilities.
///
/// # Formula
/// ```text
/// row = sum_j p_j (ln p_j - ln q_j),   ln q_j = z_j - max - ln(sum_k e^(z_k - max)),   z = scale logits
///
/// none : the loss of each row;   sum : sum over rows;   mean : sum over rows, divided by the number of rows
/// ```
/// Here p_j is the target of column j. With `log_target`, p_j is e^target. The loss is PyTorch's
/// `kl_div(log_softmax(z), p)`. `Mean` is PyTorch's `batchmean`; PyTorch's `mean` would also divide by the number of
/// columns. The sum of the targets may differ from 1.
///
/// With [`KlDiv::log_probs`], the loss is PyTorch's `kl_div(x, p)` of x = ln q, and `Mean` is PyTorch's `mean`:
/// ```text
/// element = p (ln p - x)
///
/// none : each element;   sum : sum over elements;   mean : sum over elements, divided by the number of elements
/// ```
///
/// # Shapes
/// `logits` is `[N, V]` ([`Rows`]). `targets` has N V numbers of any float type. The [`Loss`] is one number, or N
/// numbers under [`Reduction::None`] (with `log_probs`, N V). The loss is f64, and is not rounded to the type of the
/// logits.
///
/// # Special values
/// | input | loss of the row |
/// |---|---|
/// | a target p of 0 (with `log_target`, -inf) | its term is 0, even if its logit is masked |
/// | a logit of -inf | masked: probability 0 |
/// | a masked logit with a target p above 0 | +inf, as in PyTorch |
/// | a fully masked row | +inf if a target p is above 0, otherwise 0 (PyTorch: NaN) |
/// | a NaN, or a logit of +inf | NaN; with `Reduction::None` in this row only |
/// | no rows, or no columns | 0 |
/// | finite logits of any magnitude | finite, unless the loss itself exceeds the range of f64 |
/// | with `log_probs`: x infinite, target p above 0 | -x p, as in PyTorch |
/// | with `log_probs`: x infinite, target p of 0 | 0 (PyTorch: NaN) |
/// | with `log_probs`: x NaN | NaN; with `Reduction::None` for this element only |
///
/// # Accuracy
/// The loss of a row has an error of at most 0.501 ULP after rounding to f32. For f64 logits, the error is at most 24
/// ULP of f64. The unit is the ULP of the larger of sum |p ln p| and sum |p ln q|, because the two sums cancel if the
/// distributions are close. Beyond 16,384 columns, the error of a [tiled sum](crate::math::sum) is added. The bounds do
/// not include the rounding of scaled logits to f64. The bounds also hold for rows in which p and q are almost 1 for
/// the same class. With `log_probs`, an element's loss has the same bounds, in ULP of the larger of |p ln p| and |p x|.
///
/// # Errors
/// [`Error::ShapeMismatch`] if targets have the wrong number of elements; [`Error::InvalidArgument`] if the scale is
/// not finite, or not 1 with `log_probs`; [`Error::InvalidArgument`], with row and column, if a target is outside of
/// 0 ..= 1 (with `log_target`, above 0); [`Error::Unavailable`] if the requested instruction set is unavailable.
///
/// # Panics
/// Never.
///
/// # Example
/// ```
/// use evenkeel::{KlDiv, Rows, kl_div};
/// let logits = Rows::new(&[0.0f32, 0.0, 40.0, 0.0], 2, 2)?;
/// let loss = kl_div(logits, &[0.5f32, 0.5, 1.0, 0.0], &KlDiv::default())?;
/// assert_eq!(loss.value() as f32, 2.124177e-18); // 0 if a rounded log_softmax is used
/// # Ok::<(), evenkeel::Error>(())
/// ```
pub fn kl_div<'t, E: Element>(logits: Rows<'_, E>, targets: impl Into<Floats<'t>>, options: &KlDiv) -> Result<Loss> {
    let (targets, shape) = (targets.into(), (logits.rows(), logits.cols()));
    options.check(OP, shape, targets)?;
    let (each, count) = options.losses(shape.0, shape.1);
    let mut losses = filled(OP, LOSSES, count, 0.0)?;
    let (kernel, divisor) = options.kernel(targets, shape, &[]);
    report::record(OP, E::losses(logits, &mut losses, each, kernel)?);
    Ok(options.reduction.reduce(losses, divisor))
}

/// Computes the gradient of [`kl_div`] with respect to the logits, and the loss.
///
/// Returning the loss takes no additional time. `dloss` is the upstream gradient: the derivative of the final result
/// with respect to the loss. It is one number, or one for each loss under [`Reduction::None`].
///
/// # Formula
/// ```text
/// dlogits_j = (dloss / D) scale (q_j sum(p) - p_j),   q = softmax(z)
/// with log_probs: dx = -(dloss / D) p
/// ```
/// Names are as in [`kl_div`]. Under `Mean`, D is the number of rows, or with `log_probs` the number of elements.
/// Otherwise D is 1. At the largest logit, the gradient is computed from the probabilities of the other columns, so
/// that a confident row keeps its gradient.
///
/// # Special values
/// A masked logit with a target above 0 has a finite gradient, although the loss is not finite. A fully masked row has
/// gradients of 0. A NaN, or a logit of +inf, gives NaN in its row. With `log_probs`, a NaN gives NaN for its element
/// only.
///
/// # Accuracy
/// f32, f16 and bf16: 0.501 ULP. f64: 24 ULP. The unit is the ULP of the larger of the two terms in the formula.
///
/// # Errors
/// The errors of [`kl_div`], and [`Error::ShapeMismatch`] if the shape of `dloss` or of an output is wrong. After an
/// error no output has been written.
///
/// ```
/// use evenkeel::{KlDiv, Rows, kl_div_backward};
/// let (_, dlogits) = kl_div_backward(Rows::new(&[40.0f32, 0.0], 1, 2)?, &[1.0f32, 0.0], &[1.0], &KlDiv::default())?;
/// assert_eq!(dlogits, [-4.248354e-18, 4.248354e-18]);
/// # Ok::<(), evenkeel::Error>(())
/// ```
pub fn kl_div_backward<'t, E: Element>(
    logits: Rows<'_, E>,
    targets: impl Into<Floats<'t>>,
    dloss: &[f64],
    options: &KlDiv,
) -> Result<(Loss, Vec<E>)> {
    let (targets, rows, cols) = (targets.into(), logits.rows(), logits.cols());
    let mut loss = Loss::Rows(Vec::new());
    let dlogits = new_vec(BACKWARD, rows * cols, |out| {
        let out = RowsMut::new(out, rows, cols)?;
        let (value, written) = kl_div_backward_into(logits, targets, dloss, out, options)?;
        loss = value;
        Ok::<_, Error>(written)
    })?;
    Ok((loss, dlogits))
}

/// Computes [`kl_div_backward`], and writes the gradient to `dlogits`, which has the shape of `logits`. Returns the
/// loss, and `dlogits` as an initialised slice.
pub fn kl_div_backward_into<'a, 't, E: Element>(
    logits: Rows<'_, E>,
    targets: impl Into<Floats<'t>>,
    dloss: &[f64],
    dlogits: RowsMut<'a, E>,
    options: &KlDiv,
) -> Result<(Loss, &'a mut [E])> {
    let (targets, shape) = (targets.into(), (logits.rows(), logits.cols()));
    same_lanes(BACKWARD, "dlogits", &dlogits.geometry, &logits.geometry)?;
    let (mut losses, each) = options.backward(shape, targets, dloss)?;
    let (kernel, divisor) = options.kernel(targets, shape, dloss);
    let (written, counts) = E::loss_gradients(logits, dlogits, &mut losses, each, kernel)?;
    report::record(BACKWARD, counts);
    Ok((options.reduction.reduce(losses, divisor), written))
}

/// Computes [`kl_div_backward`], and overwrites the logits with the gradient. Returns the loss.
pub fn kl_div_backward_in_place<'t, E: Element>(
    logits: RowsMut<'_, E>,
    targets: impl Into<Floats<'t>>,
    dloss: &[f64],
    options: &KlDiv,
) -> Result<Loss> {
    let (targets, shape) = (targets.into(), (logits.rows(), logits.cols()));
    let (mut losses, each) = options.backward(shape, targets, dloss)?;
    let (kernel, divisor) = options.kernel(targets, shape, dloss);
    report::record(BACKWARD, E::loss_gradients_in_place(BACKWARD, logits, &mut losses, each, kernel)?);
    Ok(options.reduction.reduce(losses, divisor))
}

impl KlDiv {
    /// Checks the gradient's arguments. Returns a vector to store the losses in, and the number of losses of each row.
    fn backward(&self, shape: (usize, usize), targets: Floats<'_>, dloss: &[f64]) -> Result<(Vec<f64>, usize)> {
        let (each, count) = self.losses(shape.0, shape.1);
        one_a_loss(BACKWARD, dloss, if self.reduction == Reduction::None { count } else { 1 })?;
        self.check(BACKWARD, shape, targets)?;
        Ok((filled(BACKWARD, LOSSES, count, 0.0)?, each))
    }
}
