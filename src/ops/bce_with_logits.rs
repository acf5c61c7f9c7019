//! The binary cross-entropy of logits, and its gradient.

use super::loss::{LOSSES, Loss, Reduction, one_a_logit, one_a_loss};
use super::{one_a_column, same_lanes};
use crate::cpu::bce_with_logits::Bce;
use crate::cpu::row_loss::{LossOp, Upstream};
use crate::element::Element;
use crate::error::{Error, Result};
use crate::floats::Floats;
use crate::report;
use crate::rows::{Rows, RowsMut};
use crate::simd::{filled, new_vec};

/// Options of [`bce_with_logits`] and [`bce_with_logits_backward`].
///
/// ```
/// use evenkeel::{BceWithLogits, Reduction};
/// let detector = BceWithLogits::default().pos_weight(&[3.0f32, 1.0, 10.0]).reduction(Reduction::Sum);
/// # let _ = detector;
/// ```
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct BceWithLogits<'a> {
    /// A weight for each element, of any float type, finite and not negative; 1 each by default. An element of weight 0
    /// counts for nothing, whatever its logit is.
    pub weight: Option<Floats<'a>>,
    /// What the target's share of each column is multiplied with, finite and not negative; 1 each by default.
    pub pos_weight: Option<Floats<'a>>,
    /// What becomes of the elements' losses; their mean by default.
    pub reduction: Reduction,
}

impl<'a> BceWithLogits<'a> {
    /// Sets [`BceWithLogits::weight`].
    pub fn weight(self, weight: impl Into<Floats<'a>>) -> Self {
        Self { weight: Some(weight.into()), ..self }
    }

    /// Sets [`BceWithLogits::pos_weight`].
    pub fn pos_weight(self, weight: impl Into<Floats<'a>>) -> Self {
        Self { pos_weight: Some(weight.into()), ..self }
    }

    /// Sets [`BceWithLogits::reduction`].
    pub fn reduction(self, reduction: Reduction) -> Self {
        Self { reduction, ..self }
    }

    /// Checks options and targets against the logits' shape.
    fn check(&self, op: &'static str, (rows, cols): (usize, usize), targets: Floats<'_>) -> Result<()> {
        const WEIGHT: &str = "finite and not negative";
        let is_weight = |weight: f64| weight.is_finite() && weight >= 0.0;
        one_a_column(op, "pos_weight", self.pos_weight, cols)?;
        if let Some(weight) = self.pos_weight {
            one_a_logit(op, "pos_weight", weight, (1, cols), WEIGHT, is_weight)?;
        }
        if let Some(weight) = self.weight {
            one_a_logit(op, "weight", weight, (rows, cols), WEIGHT, is_weight)?;
        }
        one_a_logit(op, "target", targets, (rows, cols), "in 0 ..= 1", |target| (0.0..=1.0).contains(&target))
    }

    /// How many losses a row has, and all rows.
    fn losses(&self, rows: usize, cols: usize) -> (usize, usize) {
        let each = if self.reduction == Reduction::None { cols } else { 1 };
        (each, rows * each)
    }

    fn kernel<'k>(&'k self, targets: Floats<'k>, count: usize, dloss: &'k [f64]) -> (LossOp<'k>, f64) {
        let divisor = self.reduction.divisor(count);
        let BceWithLogits { weight, pos_weight, .. } = *self;
        (LossOp::Bce(Bce { targets, weight, pos_weight, upstream: Upstream { dloss, divisor } }), divisor)
    }
}

const OP: &str = "bce_with_logits";
const BACKWARD: &str = "bce_with_logits_backward";

/// The binary cross-entropy of logits against targets from 0 to 1, computed in f64.
///
/// # Formula
/// ```text
/// element = w (pos y softplus(-x) + (1 - y) softplus(x))
///         = w (s |x| + (pos y + 1 - y) ln(1 + e^-|x|)),   s = 1 - y where x > 0, else pos y
///
/// none : each element;   sum : their sum;   mean : their sum divided by how many there are
/// ```
/// with y the target, w its weight, pos the `pos_weight` of its column. It is PyTorch's
/// `binary_cross_entropy_with_logits`, but for what the next table says. In the second line, which is what is computed,
/// no term is negative: nothing cancels.
///
/// # Shapes
/// `logits` is `[N, C]` ([`Rows`]); `targets` and `weight` have N C numbers, `pos_weight` C. The [`Loss`] is one number,
/// or N C of them under [`Reduction::None`]; it is not rounded to the type of the logits.
///
/// # Special values
/// | what | loss |
/// |---|---|
/// | a weight of 0 | 0, also of a logit that is not finite (PyTorch: NaN) |
/// | +inf, target 1 | 0 (PyTorch: NaN) |
/// | -inf, target 0 | 0 (PyTorch: NaN) |
/// | +inf, target below 1 | +inf |
/// | -inf, target above 0 | +inf, but 0 where its `pos_weight` is 0 |
/// | NaN | NaN; under `None` of this element only |
/// | no elements | 0 (PyTorch's mean: NaN) |
/// | finite logits of any size | finite, unless the sum of the losses is beyond f64 |
///
/// # Accuracy
/// An element, rounded to f32 (f64 of f64 logits), is at most 0.501 ULP off (f64: 8). Elements are added in f64 by rule
/// O ([`math::sum`](crate::math::sum)), those of a row and then rows, which each add its own error.
///
/// # Errors
/// [`Error::ShapeMismatch`]; [`Error::InvalidArgument`] for a target that is not in 0 ..= 1 and for a weight that is
/// negative or not finite, with its row and column; [`Error::Backend`].
///
/// # Panics
/// Never.
///
/// # Example
/// ```
/// use evenkeel::{BceWithLogits, Rows, bce_with_logits};
/// let logits = Rows::new(&[200.0f32, -200.0, 40.0], 1, 3)?;
/// let loss = bce_with_logits(logits, &[1.0f32, 0.0, 1.0], &BceWithLogits::default())?;
/// assert_eq!(loss.value() as f32, 1.4161181e-18); // by way of a sigmoid: 0, or NaN
/// # Ok::<(), evenkeel::Error>(())
/// ```
pub fn bce_with_logits<'t, E: Element>(
    logits: Rows<'_, E>,
    targets: impl Into<Floats<'t>>,
    options: &BceWithLogits<'_>,
) -> Result<Loss> {
    let (targets, rows, cols) = (targets.into(), logits.rows(), logits.cols());
    options.check(OP, (rows, cols), targets)?;
    let (each, count) = options.losses(rows, cols);
    let mut losses = filled(OP, LOSSES, count, 0.0)?;
    let (kernel, divisor) = options.kernel(targets, rows * cols, &[]);
    report::record(OP, E::losses(logits, &mut losses, each, kernel)?);
    Ok(options.reduction.reduce(losses, divisor))
}

/// The gradient of [`bce_with_logits`] by the logits, and the loss, which costs nothing more.
///
/// `dloss` is the gradient of what follows by the loss: one number, or one for each element under [`Reduction::None`].
///
/// # Formula
/// ```text
/// dlogits = dloss / D w ((1 - y) p - pos y (1 - p)),   p = 1 / (1 + e^-x)
/// ```
/// with the names of [`bce_with_logits`]; D is how many elements there are under `Mean`, 1 otherwise. 1 - p is computed
/// without the 1, so that a confident element has a gradient yet.
///
/// # Special values
/// The gradient is that of the formula where a logit is infinite, NaN where it is NaN, and 0 of an element of weight 0.
///
/// # Accuracy
/// f32, f16, bf16: at most 0.501 ULP; f64: 12; of the larger of both terms, which cancel where p comes near the target.
///
/// # Errors
/// As [`bce_with_logits`], and [`Error::ShapeMismatch`] for `dloss` or an output of another shape; nothing was written
/// then.
///
/// ```
/// use evenkeel::{BceWithLogits, Rows, bce_with_logits_backward};
/// let logits = Rows::new(&[40.0f32, 0.0], 1, 2)?;
/// let (_, dlogits) = bce_with_logits_backward(logits, &[1.0f32, 0.5], &[2.0], &BceWithLogits::default())?;
/// assert_eq!(dlogits, [-4.248354e-18, 0.0]);
/// # Ok::<(), evenkeel::Error>(())
/// ```
pub fn bce_with_logits_backward<'t, E: Element>(
    logits: Rows<'_, E>,
    targets: impl Into<Floats<'t>>,
    dloss: &[f64],
    options: &BceWithLogits<'_>,
) -> Result<(Loss, Vec<E>)> {
    let (targets, rows, cols) = (targets.into(), logits.rows(), logits.cols());
    let mut loss = Loss::Rows(Vec::new());
    let dlogits = new_vec(BACKWARD, rows * cols, |out| {
        let out = RowsMut::new(out, rows, cols)?;
        let (value, written) = bce_with_logits_backward_into(logits, targets, dloss, out, options)?;
        loss = value;
        Ok::<_, Error>(written)
    })?;
    Ok((loss, dlogits))
}

/// [`bce_with_logits_backward`] into `dlogits`, which has the shape of `logits`; returns its memory beside the loss.
pub fn bce_with_logits_backward_into<'a, 't, E: Element>(
    logits: Rows<'_, E>,
    targets: impl Into<Floats<'t>>,
    dloss: &[f64],
    dlogits: RowsMut<'a, E>,
    options: &BceWithLogits<'_>,
) -> Result<(Loss, &'a mut [E])> {
    let (targets, rows, cols) = (targets.into(), logits.rows(), logits.cols());
    same_lanes(BACKWARD, "dlogits", &dlogits.geometry, &logits.geometry)?;
    let (mut losses, each) = options.backward((rows, cols), targets, dloss)?;
    let (kernel, divisor) = options.kernel(targets, rows * cols, dloss);
    let (written, counts) = E::loss_gradients(logits, dlogits, &mut losses, each, kernel)?;
    report::record(BACKWARD, counts);
    Ok((options.reduction.reduce(losses, divisor), written))
}

/// [`bce_with_logits_backward`] in place of the logits.
pub fn bce_with_logits_backward_in_place<'t, E: Element>(
    logits: RowsMut<'_, E>,
    targets: impl Into<Floats<'t>>,
    dloss: &[f64],
    options: &BceWithLogits<'_>,
) -> Result<Loss> {
    let (targets, rows, cols) = (targets.into(), logits.rows(), logits.cols());
    let (mut losses, each) = options.backward((rows, cols), targets, dloss)?;
    let (kernel, divisor) = options.kernel(targets, rows * cols, dloss);
    report::record(BACKWARD, E::loss_gradients_in_place(BACKWARD, logits, &mut losses, each, kernel)?);
    Ok(options.reduction.reduce(losses, divisor))
}

impl BceWithLogits<'_> {
    /// Checks a call of the gradient; room for the losses, and how many a row has.
    fn backward(&self, shape: (usize, usize), targets: Floats<'_>, dloss: &[f64]) -> Result<(Vec<f64>, usize)> {
        let (each, count) = self.losses(shape.0, shape.1);
        one_a_loss(BACKWARD, dloss, if self.reduction == Reduction::None { count } else { 1 })?;
        self.check(BACKWARD, shape, targets)?;
        Ok((filled(BACKWARD, LOSSES, count, 0.0)?, each))
    }
}
