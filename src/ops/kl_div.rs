//! The Kullback-Leibler divergence of the softmax of logits from target probabilities, and its gradient.

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
    /// Whether targets are logarithms of probabilities; not by default.
    pub log_target: bool,
    /// What the logits are multiplied with, 1 over the temperature. Finite; 1 by default.
    pub scale: f64,
    /// What becomes of the rows' losses; their mean by default, which is PyTorch's `batchmean`.
    pub reduction: Reduction,
}

impl Default for KlDiv {
    fn default() -> Self {
        KlDiv { log_target: false, scale: 1.0, reduction: Reduction::Mean }
    }
}

impl KlDiv {
    /// Sets [`KlDiv::log_target`].
    pub fn log_target(self, log_target: bool) -> Self {
        Self { log_target, ..self }
    }

    /// Sets [`KlDiv::scale`].
    pub fn scale(self, scale: f64) -> Self {
        Self { scale, ..self }
    }

    /// Sets [`KlDiv::reduction`].
    pub fn reduction(self, reduction: Reduction) -> Self {
        Self { reduction, ..self }
    }

    /// Checks options and targets against the logits' shape.
    fn check(&self, op: &'static str, shape: (usize, usize), targets: Floats<'_>) -> Result<()> {
        if !is_finite(self.scale) {
            return Err(Error::invalid(op, "scale", self.scale, "finite"));
        }
        let (expected, most) = if self.log_target { ("not above 0", 0.0) } else { ("in 0 ..= 1", 1.0) };
        let least = if self.log_target { f64::NEG_INFINITY } else { 0.0 };
        one_a_logit(op, "target", targets, shape, expected, |target| (least..=most).contains(&target))
    }

    fn kernel<'k>(&self, targets: Floats<'k>, rows: usize, dloss: &'k [f64]) -> (LossOp<'k>, f64) {
        let divisor = self.reduction.divisor(rows);
        let KlDiv { log_target, scale, .. } = *self;
        let upstream = Upstream { dloss, divisor };
        (LossOp::KlDiv(cpu::kl_div::KlDiv { targets, log_target, scale, upstream }), divisor)
    }
}

const OP: &str = "kl_div";
const BACKWARD: &str = "kl_div_backward";

/// The divergence of the softmax of logits from target probabilities, computed in f64: what a student's logits lack of a
/// teacher's probabilities.
///
/// # Formula
/// ```text
/// row = sum_j p_j (ln p_j - ln q_j),   ln q_j = z_j - max - ln(sum_k e^(z_k - max)),   z = scale logits
///
/// none : each row;   sum : their sum;   mean : their sum divided by how many rows there are
/// ```
/// with p the targets, or what they are the logarithms of. It is PyTorch's `kl_div(log_softmax(z), p)`, whose `batchmean`
/// is `Mean` here; its `mean` divides by the number of columns, too. Targets need not sum to 1.
///
/// # Shapes
/// `logits` is `[N, V]` ([`Rows`]); `targets` has N V numbers of any float type. The [`Loss`] is one number, or N of
/// them; it is not rounded to the type of the logits.
///
/// # Special values
/// | what | loss of the row |
/// |---|---|
/// | a target of 0, or the logarithm -inf of one | its term is 0, also where its logit is masked |
/// | a logit of -inf | masked: probability 0 |
/// | a target above 0 masked | +inf, as in PyTorch |
/// | all masked | +inf if a target is above 0, else 0 (PyTorch: NaN) |
/// | a NaN, or a logit of +inf | NaN; under `None` in this row only |
/// | no rows, or no columns | 0 |
/// | finite logits of any size | finite, unless the loss itself is beyond f64 |
///
/// # Accuracy
/// Rounded to f32 (f64 of f64 logits) at most 0.501 ULP off (f64: 24), of the larger of the sums of the magnitudes
/// of p ln p and p ln q, which cancel where both distributions are near each other; rows beyond 16,384 columns as rule O
/// ([`math::sum`](crate::math::sum)) says. With a scale, of logits as multiplied and rounded to f64. A row as confident
/// as its target keeps its digits.
///
/// # Errors
/// [`Error::ShapeMismatch`]; [`Error::InvalidArgument`] for a target that is not in 0 ..= 1, or whose logarithm is above
/// 0, with its row and column, and for a scale that is not finite; [`Error::Backend`].
///
/// # Panics
/// Never.
///
/// # Example
/// ```
/// use evenkeel::{KlDiv, Rows, kl_div};
/// let logits = Rows::new(&[0.0f32, 0.0, 40.0, 0.0], 2, 2)?;
/// let loss = kl_div(logits, &[0.5f32, 0.5, 1.0, 0.0], &KlDiv::default())?;
/// assert_eq!(loss.value() as f32, 2.124177e-18); // by way of log_softmax: 0
/// # Ok::<(), evenkeel::Error>(())
/// ```
pub fn kl_div<'t, E: Element>(logits: Rows<'_, E>, targets: impl Into<Floats<'t>>, options: &KlDiv) -> Result<Loss> {
    let targets = targets.into();
    options.check(OP, (logits.rows(), logits.cols()), targets)?;
    let mut losses = filled(OP, LOSSES, logits.rows(), 0.0)?;
    let (kernel, divisor) = options.kernel(targets, logits.rows(), &[]);
    report::record(OP, E::losses(logits, &mut losses, 1, kernel)?);
    Ok(options.reduction.reduce(losses, divisor))
}

/// The gradient of [`kl_div`] by the logits, and the loss, which costs nothing more.
///
/// `dloss` is the gradient of what follows by the loss: one number, or one for each row under [`Reduction::None`].
///
/// # Formula
/// ```text
/// dlogits_j = dloss / D scale (q_j sum(p) - p_j),   q = softmax(z)
/// ```
/// with the names of [`kl_div`]; D is the number of rows under `Mean`, 1 otherwise. Of the largest logit it is computed
/// from what is left to the others, so that a confident row has a gradient yet.
///
/// # Special values
/// A target above 0 that is masked has a finite gradient, though the loss is not; all masked give 0; a NaN, or a logit of
/// +inf, gives NaN in its row.
///
/// # Accuracy
/// f32, f16, bf16: at most 0.501 ULP; f64: 24; of the larger of both terms.
///
/// # Errors
/// As [`kl_div`], and [`Error::ShapeMismatch`] for `dloss` or an output of another shape; nothing was written then.
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

/// [`kl_div_backward`] into `dlogits`, which has the shape of `logits`; returns its memory beside the loss.
pub fn kl_div_backward_into<'a, 't, E: Element>(
    logits: Rows<'_, E>,
    targets: impl Into<Floats<'t>>,
    dloss: &[f64],
    dlogits: RowsMut<'a, E>,
    options: &KlDiv,
) -> Result<(Loss, &'a mut [E])> {
    let (targets, rows) = (targets.into(), logits.rows());
    same_lanes(BACKWARD, "dlogits", &dlogits.geometry, &logits.geometry)?;
    let mut losses = options.backward((rows, logits.cols()), targets, dloss)?;
    let (kernel, divisor) = options.kernel(targets, rows, dloss);
    let (written, counts) = E::loss_gradients(logits, dlogits, &mut losses, 1, kernel)?;
    report::record(BACKWARD, counts);
    Ok((options.reduction.reduce(losses, divisor), written))
}

/// [`kl_div_backward`] in place of the logits.
pub fn kl_div_backward_in_place<'t, E: Element>(
    logits: RowsMut<'_, E>,
    targets: impl Into<Floats<'t>>,
    dloss: &[f64],
    options: &KlDiv,
) -> Result<Loss> {
    let (targets, rows) = (targets.into(), logits.rows());
    let mut losses = options.backward((rows, logits.cols()), targets, dloss)?;
    let (kernel, divisor) = options.kernel(targets, rows, dloss);
    report::record(BACKWARD, E::loss_gradients_in_place(BACKWARD, logits, &mut losses, 1, kernel)?);
    Ok(options.reduction.reduce(losses, divisor))
}

impl KlDiv {
    /// Checks a call of the gradient; room for the losses.
    fn backward(&self, shape: (usize, usize), targets: Floats<'_>, dloss: &[f64]) -> Result<Vec<f64>> {
        one_a_loss(BACKWARD, dloss, if self.reduction == Reduction::None { shape.0 } else { 1 })?;
        self.check(BACKWARD, shape, targets)?;
        filled(BACKWARD, LOSSES, shape.0, 0.0)
    }
}
