//! Kullback-Leibler divergence KL(targets || softmax(logits)) of tensors.

#![forbid(unsafe_code)]

use super::row_loss::{self, RowLoss};
use crate::candle::composition;
use crate::candle::support::on_cpu;
use crate::element::Element;
use crate::floats::Floats;
use crate::ops::kl_div::KlDiv;
use crate::ops::loss::{Loss, Reduction};
use crate::rows::Rows;
use candle_core::{Result, Tensor};

/// Computes the divergence along the last axis of logits and targets of the same shape.
pub fn kl_div(logits: &Tensor, targets: &Tensor, options: &KlDiv) -> Result<Tensor> {
    if !on_cpu(logits, KlDiv::NAME)? {
        return composition::kl_div(logits, targets, options);
    }
    row_loss::apply(logits, targets, *options)
}

impl RowLoss for KlDiv {
    const NAME: &'static str = "kl_div";
    const BACKWARD: &'static str = "kl_div_backward";

    fn is_of_elements(&self) -> bool {
        self.log_probs
    }

    fn reduction(&self) -> Reduction {
        self.reduction
    }

    fn loss<E: Element>(&self, x: Rows<'_, E>, targets: Floats<'_>) -> crate::Result<Loss> {
        crate::kl_div(x, targets, self)
    }

    fn gradient<E: Element>(&self, x: Rows<'_, E>, targets: Floats<'_>, dloss: &[f64]) -> crate::Result<Vec<E>> {
        Ok(crate::kl_div_backward(x, targets, dloss, self)?.1)
    }
}
