//! Binary cross-entropy of logits and its gradient.

use super::loss::{LOSSES, Loss, Reduction, one_a_logit, one_a_loss};
use super::{one_a_column, same_lanes};
use crate::cpu::bce_with_logits::{Bce, Focal};
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
    /// Weight of each element, of any float type; 1 by default. Finite and not negative. An element with weight 0 has
    /// loss 0 for any logit.
    pub weight: Option<Floats<'a>>,
    /// Factor of the positive class for each column, called `pos` in the formula of [`bce_with_logits`]; 1 by default.
    /// Finite and not negative.
    pub pos_weight: Option<Floats<'a>>,
    /// Exponent gamma of a focal loss, which lowers the loss of elements that are already classified well. In
    /// 0 ..= 1000. The default is 0, which leaves the loss unchanged.
    pub focal_gamma: f64,
    /// Weight alpha of the positive class, in 0 ..= 1. The negative class has the weight 1 - alpha. If alpha is not
    /// set, both weights are 1. These weights apply in addition to `pos_weight`. For a focal loss, usually only alpha
    /// is set.
    pub alpha: Option<f64>,
    /// Reduction of the elements' losses; their mean by default.
    pub reduction: Reduction,
}

/// Largest [`BceWithLogits::focal_gamma`].
const MOST_GAMMA: f64 = 1000.0;

impl<'a> BceWithLogits<'a> {
    /// Sets [`BceWithLogits::weight`].
    pub fn weight(self, weight: impl Into<Floats<'a>>) -> Self {
        Self { weight: Some(weight.into()), ..self }
    }

    /// Sets [`BceWithLogits::pos_weight`].
    pub fn pos_weight(self, weight: impl Into<Floats<'a>>) -> Self {
        Self { pos_weight: Some(weight.into()), ..self }
    }

    /// Sets [`BceWithLogits::focal_gamma`], which makes the loss a focal loss.
    #[doc(alias = "focal_loss")]
    #[doc(alias = "sigmoid_focal_loss")]
    pub fn focal_gamma(self, gamma: f64) -> Self {
        Self { focal_gamma: gamma, ..self }
    }

    /// Sets [`BceWithLogits::alpha`].
    pub fn alpha(self, alpha: f64) -> Self {
        Self { alpha: Some(alpha), ..self }
    }

    /// Sets [`BceWithLogits::reduction`].
    pub fn reduction(self, reduction: Reduction) -> Self {
        Self { reduction, ..self }
    }

    /// Checks options and targets against the shape of the logits.
    fn check(&self, op: &'static str, (rows, cols): (usize, usize), targets: Floats<'_>) -> Result<()> {
        const WEIGHT: &str = "finite and not negative";
        let is_weight = |weight: f64| weight.is_finite() && weight >= 0.0;
        if !(0.0..=MOST_GAMMA).contains(&self.focal_gamma) {
            return Err(Error::invalid(op, "focal_gamma", self.focal_gamma, format!("in 0 ..= {MOST_GAMMA}")));
        }
        if let Some(alpha) = self.alpha.filter(|alpha| !(0.0..=1.0).contains(alpha)) {
            return Err(Error::invalid(op, "alpha", alpha, "in 0 ..= 1"));
        }
        one_a_column(op, "pos_weight", self.pos_weight, cols)?;
        if let Some(weight) = self.pos_weight {
            one_a_logit(op, "pos_weight", weight, (1, cols), WEIGHT, is_weight)?;
        }
        if let Some(weight) = self.weight {
            one_a_logit(op, "weight", weight, (rows, cols), WEIGHT, is_weight)?;
        }
        one_a_logit(op, "target", targets, (rows, cols), "in 0 ..= 1", |target| (0.0..=1.0).contains(&target))
    }

    /// Returns how many losses are stored for each row, and how many in total.
    fn losses(&self, rows: usize, cols: usize) -> (usize, usize) {
        let each = if self.reduction == Reduction::None { cols } else { 1 };
        (each, rows * each)
    }

    fn kernel<'k>(&'k self, targets: Floats<'k>, count: usize, dloss: &'k [f64]) -> (LossOp<'k>, f64) {
        let divisor = self.reduction.divisor(count);
        let BceWithLogits { weight, pos_weight, focal_gamma: gamma, alpha, .. } = *self;
        let focal = (gamma > 0.0 || alpha.is_some()).then_some(Focal { gamma, alpha });
        (LossOp::Bce(Bce { targets, weight, pos_weight, focal, upstream: Upstream { dloss, divisor } }), divisor)
    }
}

const OP: &str = "bce_with_logits";
const BACKWARD: &str = "bce_with_logits_backward";

/// Computes the binary cross-entropy of logits and targets, in f64. Targets are numbers from 0 to 1.
///
/// # Formula
/// ```text
/// element = f w (pos y softplus(-x) + (1 - y) softplus(x))
///         = f w (s |x| + (pos y + 1 - y) ln(1 + e^-|x|)),   s = 1 - y where x > 0, else pos y
/// f       = (alpha y + (1 - alpha) (1 - y)) q^gamma,   q = y (1 - p) + (1 - y) p,   p = 1 / (1 + e^-x)
///
/// none : each element;   sum : their sum;   mean : their sum divided by the number of elements
/// ```
/// Here y is the target, w the element's weight, and pos the `pos_weight` of its column. The loss is PyTorch's
/// `binary_cross_entropy_with_logits`, except for the differences in the table below. The code evaluates the second
/// line of the formula. Its terms are never negative, so they do not cancel.
///
/// The factor f is 1 by default. With `focal_gamma` and `alpha`, the loss is torchvision's `sigmoid_focal_loss`.
/// torchvision's defaults (gamma 2, alpha 0.25 and no reduction) are not applied here. ln q is computed from logits, so
/// f keeps its relative accuracy for confident elements.
///
/// # Shapes
/// `logits` is `[N, C]` ([`Rows`]). `targets` and `weight` have `N * C` numbers, and `pos_weight` has C. The [`Loss`]
/// is one number, or `N * C` numbers under [`Reduction::None`]. It is f64, and is not rounded to the type of the
/// logits.
///
/// # Special values
/// | input | loss |
/// |---|---|
/// | a weight of 0, or an `alpha` that gives the target's class the weight 0 | 0, even if the logit is not finite (PyTorch: NaN) |
/// | logit +inf, target 1 | 0 (PyTorch: NaN) |
/// | logit -inf, target 0 | 0 (PyTorch: NaN) |
/// | logit +inf, target below 1 | +inf, or 0 if `alpha` is 1 and the target is 0 |
/// | logit -inf, target above 0 | +inf, or 0 if `pos_weight` is 0, or if `alpha` is 0 and the target is 1 |
/// | logit NaN | NaN; with `Reduction::None` for this element only |
/// | no elements | 0 (PyTorch's mean: NaN) |
/// | finite logits of any magnitude | finite, unless the sum of the losses exceeds the range of f64 |
///
/// # Accuracy
/// The loss of an element has an error of at most 0.501 ULP after rounding to f32. For f64 logits, the error is at most
/// 8 ULP of f64. The elements of each row, and then the rows, are added in f64 by a [tiled sum](crate::math::sum). Each
/// of these two steps adds the error of a tiled sum. For f64 logits, a focal loss adds `2 * gamma * (2 + |ln q|)` ULP.
/// For other logits, a focal loss adds 2^-28 times this number of ULP if gamma is above 10, and nothing otherwise.
///
/// # Source
/// Focal loss: Lin et al., "Focal loss for dense object detection", 2017.
///
/// # Errors
/// [`Error::ShapeMismatch`] if an operand has the wrong number of elements; [`Error::InvalidArgument`], with row and
/// column, if a target is outside of 0 ..= 1 or a weight is negative or not finite; [`Error::InvalidArgument`] for
/// `focal_gamma` or `alpha` outside its range; [`Error::Unavailable`] if the requested instruction set is unavailable.
///
/// # Panics
/// Never.
///
/// # Example
/// ```
/// use evenkeel::{BceWithLogits, Rows, bce_with_logits};
/// let logits = Rows::new(&[200.0f32, -200.0, 40.0], 1, 3)?;
/// let loss = bce_with_logits(logits, &[1.0f32, 0.0, 1.0], &BceWithLogits::default())?;
/// assert_eq!(loss.value() as f32, 1.4161181e-18); // 0 or NaN if a rounded sigmoid is used
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

/// Computes the gradient of [`bce_with_logits`] with respect to the logits, and the loss.
///
/// Returning the loss takes no additional time. `dloss` is the upstream gradient: the derivative of the final result
/// with respect to the loss. It is one number, or one for each element under [`Reduction::None`].
///
/// # Formula
/// ```text
/// dlogits = (dloss / D) (f w ((1 - y) p - pos y (1 - p)) + element gamma (1 - 2 y) p (1 - p) / q)
/// ```
/// Names are as in [`bce_with_logits`]. D is the number of elements under `Mean`, and 1 otherwise. The last term is 0
/// if gamma is 0. 1 - p is computed as 1 / (1 + e^x), without the subtraction, so that a confident element keeps its
/// gradient.
///
/// # Special values
/// If the weight of the element is 0, or if `alpha` gives its class the weight 0, the gradient is 0 for any logit.
/// Otherwise, an infinite logit has the limit of the formula as its gradient, and a NaN logit has a gradient of NaN.
///
/// # Accuracy
/// f32, f16 and bf16: 0.501 ULP. f64: 12 ULP. The unit is the ULP of the largest of the three terms in the formula,
/// because the terms cancel if p is near the target. A focal loss adds the number of ULP that [`bce_with_logits`]
/// states.
///
/// # Errors
/// The errors of [`bce_with_logits`], and [`Error::ShapeMismatch`] if the shape of `dloss` or of an output is wrong.
/// After an error no output has been written.
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

/// Computes [`bce_with_logits_backward`], and writes the gradient to `dlogits`, which has the shape of `logits`.
/// Returns the loss, and `dlogits` as an initialised slice.
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

/// Computes [`bce_with_logits_backward`], and overwrites the logits with the gradient. Returns the loss.
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
    /// Checks the gradient's arguments. Returns a vector to store the losses in, and the number of losses of each row.
    fn backward(&self, shape: (usize, usize), targets: Floats<'_>, dloss: &[f64]) -> Result<(Vec<f64>, usize)> {
        let (each, count) = self.losses(shape.0, shape.1);
        one_a_loss(BACKWARD, dloss, if self.reduction == Reduction::None { count } else { 1 })?;
        self.check(BACKWARD, shape, targets)?;
        Ok((filled(BACKWARD, LOSSES, count, 0.0)?, each))
    }
}
