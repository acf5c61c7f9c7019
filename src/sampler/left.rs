//! Tokens that the filters kept.

use super::{Controller, Sampled};

/// Tokens of one row that the filters kept. There is at least one token. The slices borrow the buffers of the kernel.
///
/// If the result does not need [`Left::log_sum`], `tokens` and `logits` may have the drawn token alone, and `weights`
/// values of another row.
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
    /// Logarithm of the sum of e^((logit - max) / temperature) over the kept tokens. NaN if it was not
    /// computed.
    pub log_sum: f64,
    /// Value of [`SamplerConfig::logprob`](super::SamplerConfig::logprob).
    pub has_logprob: bool,
    /// Position of the drawn token in `tokens`.
    pub drawn: usize,
    /// Number of tokens that the filters kept.
    pub kept: usize,
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

/// Result for a row, made from the tokens that the filters kept.
pub trait FromLeft: Send {
    /// Whether the result needs [`Left::log_sum`] and all kept tokens, even if
    /// [`SamplerConfig::logprob`](super::SamplerConfig::logprob) is false.
    const NEEDS_LOG_SUM: bool;

    fn from_left(left: Left<'_>) -> Self;
}

impl FromLeft for Sampled {
    const NEEDS_LOG_SUM: bool = false;

    fn from_left(left: Left<'_>) -> Self {
        let logit = match left.logits {
            LeftLogits::F32(logits) => f64::from(logits[left.drawn]),
            LeftLogits::F64(logits) => logits[left.drawn],
        };
        let logprob = distance(logit, left.max, left.inverse) - left.log_sum;
        let feedback = Controller::next(left.controller, logprob, left.probs.get(left.drawn));
        let logprob = if left.has_logprob { logprob } else { f64::NAN };
        Sampled { token: left.tokens[left.drawn], logprob, kept: left.kept, feedback }
    }
}
