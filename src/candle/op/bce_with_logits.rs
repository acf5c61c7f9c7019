//! Binary cross-entropy of a tensor of logits.

#![forbid(unsafe_code)]

use super::row_loss::{self, RowLoss};
use crate::candle::composition;
use crate::candle::support::on_cpu;
use crate::element::Element;
use crate::floats::Floats;
use crate::ops::bce_with_logits::BceWithLogits as Options;
use crate::ops::loss::{Loss, Reduction};
use crate::rows::Rows;
use candle_core::{Result, Tensor};

/// Computes the loss of logits and targets of the same shape. Columns are along the last axis.
pub fn bce_with_logits(logits: &Tensor, targets: &Tensor, options: &Options<'_>) -> Result<Tensor> {
    if !on_cpu(logits, BceWithLogits::NAME)? {
        return composition::bce_with_logits(logits, targets, options);
    }
    row_loss::apply(logits, targets, BceWithLogits::new(options))
}

/// Owned options, which candle keeps for the backward pass.
struct BceWithLogits {
    /// Weights of the elements, converted exactly to f64.
    weight: Option<Vec<f64>>,
    pos_weight: Option<Vec<f64>>,
    focal_gamma: f64,
    alpha: Option<f64>,
    reduction: Reduction,
}

impl BceWithLogits {
    fn new(options: &Options<'_>) -> Self {
        let widened = |weight: Floats<'_>| (0..weight.len()).filter_map(|i| weight.get(i)).collect();
        let Options { weight, pos_weight, focal_gamma, alpha, reduction } = *options;
        let (weight, pos_weight) = (weight.map(widened), pos_weight.map(widened));
        BceWithLogits { weight, pos_weight, focal_gamma, alpha, reduction }
    }

    fn options(&self) -> Options<'_> {
        let [weight, pos_weight] = [&self.weight, &self.pos_weight].map(|weight| weight.as_ref().map(Floats::from));
        Options { weight, pos_weight, focal_gamma: self.focal_gamma, alpha: self.alpha, reduction: self.reduction }
    }
}

impl RowLoss for BceWithLogits {
    const NAME: &'static str = "bce_with_logits";
    const BACKWARD: &'static str = "bce_with_logits_backward";

    fn is_of_elements(&self) -> bool {
        true
    }

    fn reduction(&self) -> Reduction {
        self.reduction
    }

    fn loss<E: Element>(&self, x: Rows<'_, E>, targets: Floats<'_>) -> crate::Result<Loss> {
        crate::bce_with_logits(x, targets, &self.options())
    }

    fn gradient<E: Element>(&self, x: Rows<'_, E>, targets: Floats<'_>, dloss: &[f64]) -> crate::Result<Vec<E>> {
        Ok(crate::bce_with_logits_backward(x, targets, dloss, &self.options())?.1)
    }
}
