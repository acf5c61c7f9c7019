//! Stochastic gradient descent.

use super::adamw::check_rates;
use super::init::Stream;
use super::optimizer::sealed::Advance;
use super::optimizer::{ParameterState, Rule};
use crate::cpu::optimizer::{Descent, Formula, Momentum};
use crate::error::{Error, Result};
use crate::floats::{Floats, FloatsMut};
use crate::simd::in_default;

const OP: &str = "sgd";

/// Settings of gradient descent, for an [`Optimizer`](super::Optimizer). All settings except the learning rate are 0 or
/// false by default.
///
/// # Formula
/// The formula of PyTorch:
/// ```text
/// g = g + weight_decay * w
/// b = momentum * b + (1 - dampening) * g, or g in the first step;   d = b, or g + momentum * b with nesterov
/// w = w - lr * d
/// ```
/// Without momentum, d is g and there is no state.
///
/// # Special values
/// | gradient | effect on a weight |
/// |---|---|
/// | finite, but b or w exceeds the range of its type | b or w becomes infinite |
/// | NaN or an infinity | an error, and nothing is changed |
///
/// # Accuracy
/// The state b is f64 for f64 weights and f32 otherwise. Given the values before a step, each new value of b and w is
/// within 0.501 ULP of its formula in f32, and within 8 ULP in f64. The ULP is taken at the largest term of the
/// formula. In f16 and bf16, a weight is the rounded master weight.
///
/// # Source
/// Sutskever, Martens, Dahl and Hinton, "On the importance of initialization and momentum in deep learning", 2013.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(default, deny_unknown_fields))]
#[non_exhaustive]
pub struct Sgd {
    /// Learning rate; 1e-3 by default.
    pub lr: f64,
    /// Factor by which each step multiplies the state b of the formula; 0 by default.
    pub momentum: f64,
    /// Fraction of the gradient that is not added to the state b of the formula; 0 by default.
    pub dampening: f64,
    /// Weight decay: this factor times the weight is added to the gradient; 0 by default.
    pub weight_decay: f64,
    /// Whether to use Nesterov momentum; false by default.
    pub nesterov: bool,
}

impl Default for Sgd {
    fn default() -> Self {
        Sgd { lr: 1e-3, momentum: 0.0, dampening: 0.0, weight_decay: 0.0, nesterov: false }
    }
}

impl Sgd {
    /// Sets [`Sgd::lr`].
    pub fn lr(self, lr: f64) -> Self {
        Self { lr, ..self }
    }

    /// Sets [`Sgd::momentum`].
    pub fn momentum(self, momentum: f64) -> Self {
        Self { momentum, ..self }
    }

    /// Sets [`Sgd::dampening`].
    pub fn dampening(self, dampening: f64) -> Self {
        Self { dampening, ..self }
    }

    /// Sets [`Sgd::weight_decay`].
    pub fn weight_decay(self, weight_decay: f64) -> Self {
        Self { weight_decay, ..self }
    }

    /// Sets [`Sgd::nesterov`].
    pub fn nesterov(self, nesterov: bool) -> Self {
        Self { nesterov, ..self }
    }
}

impl Rule for Sgd {
    fn kept(&self) -> &'static [&'static str] {
        if in_default(|| self.momentum > 0.0) { &["momentum"] } else { &[] }
    }

    fn learning_rate(&self) -> f64 {
        self.lr
    }

    fn with_learning_rate(self, lr: f64) -> Self {
        self.lr(lr)
    }
}

impl Advance for Sgd {
    const OP: &'static str = OP;

    fn check_settings(&self) -> Result<()> {
        if !(0.0..1.0).contains(&self.momentum) {
            return Err(Error::invalid(OP, "momentum", self.momentum, "in [0, 1)"));
        }
        if !(0.0..=1.0).contains(&self.dampening) {
            return Err(Error::invalid(OP, "dampening", self.dampening, "in [0, 1]"));
        }
        if self.nesterov && (self.momentum == 0.0 || self.dampening > 0.0) {
            return Err(Error::invalid(OP, "nesterov", true, "false if momentum is 0 or dampening is above 0"));
        }
        check_rates(OP, self.lr, self.weight_decay)
    }

    fn update(
        &self,
        state: &mut ParameterState,
        param: FloatsMut<'_>,
        gradient: Floats<'_>,
        stream: Option<Stream>,
    ) -> Result<()> {
        let descent = Descent { lr: self.lr, weight_decay: self.weight_decay };
        if self.momentum == 0.0 {
            state.advance(param, gradient, stream, Formula::Descent(descent))?;
        } else {
            let fresh = if state.steps == 0 { 1.0 } else { 1.0 - self.dampening };
            let formula = Momentum { descent, momentum: self.momentum, fresh, nesterov: self.nesterov };
            state.advance(param, gradient, stream, Formula::Momentum(formula))?;
        }
        state.steps = state.steps.saturating_add(1);
        Ok(())
    }
}
