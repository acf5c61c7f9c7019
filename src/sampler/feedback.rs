//! Feedback of the drawn tokens on later steps: mirostat and adaptive-p.

use super::{OP, Step};
use crate::error::{Error, Result};
use std::f64::consts::LOG2_E;

/// Filter that depends on previously drawn tokens. It runs after all other filters.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Feedback {
    /// Top-k, with a k estimated from the largest logits: version 1 of mirostat.
    MirostatTopK { tau: f64, eta: f64 },
    /// Removal of tokens whose surprise exceeds a limit: version 2 of mirostat.
    MirostatSurprise { tau: f64, eta: f64 },
    /// Preference for tokens whose probability is near a target.
    AdaptiveP { target: f64, decay: f64 },
}

impl Feedback {
    /// Returns the feedback value for the first step.
    pub fn first(self) -> f64 {
        match self {
            Feedback::MirostatTopK { tau, .. } | Feedback::MirostatSurprise { tau, .. } => limited(2.0 * tau),
            Feedback::AdaptiveP { target, .. } => target,
        }
    }

    /// Returns the parameter that turns the filter on, and its value.
    #[cfg(any(feature = "cuda", feature = "sharded"))]
    pub fn parameter(self) -> (&'static str, String) {
        match self {
            Feedback::MirostatTopK { .. } => ("mirostat", "1".into()),
            Feedback::MirostatSurprise { .. } => ("mirostat", "2".into()),
            Feedback::AdaptiveP { target, .. } => ("adaptive_target", target.to_string()),
        }
    }
}

/// Filter of a step, with the feedback value from previous tokens. For mirostat, the value is mu in bits. For
/// adaptive-p, the value is the running mean of probabilities.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Controller {
    pub feedback: Feedback,
    pub value: f64,
}

impl Controller {
    /// Returns the filter with its value for this step, or `None` if `feedback` is `None`.
    pub fn new(feedback: Option<Feedback>, row: usize, step: Step<'_>) -> Result<Option<Self>> {
        let Some(feedback) = feedback else { return Ok(None) };
        let value = step.feedback.unwrap_or_else(|| feedback.first());
        if !value.is_finite() {
            return Err(Error::invalid_in_row(OP, "feedback", row, value, "finite"));
        }
        Ok(Some(Controller { feedback, value }))
    }

    /// Returns the feedback value for the next step, or 0 if `controller` is `None`. `logprob` is the log-probability of
    /// the drawn token. `prob` is the probability that this token had before adaptive-p changed the probabilities.
    pub fn next(controller: Option<Self>, logprob: f64, prob: Option<&f64>) -> f64 {
        let Some(Controller { feedback, value }) = controller else { return 0.0 };
        match feedback {
            Feedback::MirostatTopK { tau, eta } | Feedback::MirostatSurprise { tau, eta } => {
                limited(value - eta * (-logprob * LOG2_E - tau))
            }
            Feedback::AdaptiveP { decay, .. } => limited((1.0 - decay) * prob.copied().unwrap_or(0.0) + decay * value),
        }
    }
}

fn limited(value: f64) -> f64 {
    value.clamp(f64::MIN, f64::MAX)
}
