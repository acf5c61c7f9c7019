//! Tokens that the filters kept.

use super::{Controller, Sampled};

/// Tokens of one row that the filters kept. There is at least one token. The slices borrow the buffers of the kernel.
#[derive(Clone, Copy)]
pub struct Left<'a> {
    pub vocabulary: usize,
    /// Kept tokens in increasing order.
    pub tokens: &'a [u32],
    pub logits: LeftLogits<'a>,
    /// For each kept token, e^((logit - max) / temperature) in f32. A draw rounds the exponentials to fixed-point
    /// integers, which are the probability masses.
    pub weights: &'a [f32],
    /// Largest logit.
    pub max: f64,
    /// 1 / temperature.
    pub inverse: f64,
    pub log_sum: f64,
    /// Position of the drawn token in `tokens`.
    pub drawn: usize,
    pub controller: Option<Controller>,
    /// Probabilities of the kept tokens before adaptive-p, if the row was sampled with adaptive-p.
    pub probs: &'a [f64],
}

/// Logits of the kept tokens.
#[derive(Clone, Copy)]
pub enum LeftLogits<'a> {
    F32(&'a [f32]),
    F64(&'a [f64]),
}

/// Returns (logit - max) / temperature. `inverse` is 1 / temperature. A result of 0 is always +0, even if `logit` or
/// `max` is -0.
pub fn distance(logit: f64, max: f64, inverse: f64) -> f64 {
    (logit - max) * inverse + 0.0
}

impl Left<'_> {
    /// Returns the drawn token, and the feedback for the next step.
    pub fn sampled(self) -> Sampled {
        let logit = match self.logits {
            LeftLogits::F32(logits) => f64::from(logits[self.drawn]),
            LeftLogits::F64(logits) => logits[self.drawn],
        };
        let logprob = distance(logit, self.max, self.inverse) - self.log_sum;
        let feedback = Controller::next(self.controller, logprob, self.probs.get(self.drawn));
        Sampled { token: self.tokens[self.drawn], logprob, kept: self.tokens.len(), feedback }
    }
}
