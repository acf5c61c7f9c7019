//! Candidates of a sampler, computed by sorting the whole vocabulary. Each inference engine that a [`Profile`] names
//! has a module here, which implements the engine's filters step by step in f64.

mod candle;
mod evenkeel;
mod feedback;
mod hugging_face;
mod llama_cpp;
mod tokens;
mod vllm;

use crate::element::Element;
use crate::error::{Error, Result};
use crate::ops::sample::{Profile, SamplerConfig};
use tokens::{Tokens, greedy, heat, softmax};

/// The tokens that the filters keep, and their probabilities.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Support {
    /// Tokens in increasing order.
    pub tokens: Vec<u32>,
    /// Probabilities of the tokens, whose sum is 1.
    pub probs: Vec<f64>,
}

/// Returns the tokens that [`Sampler`](crate::Sampler) may draw from a row, with their probabilities in f64, by the
/// definitions of the configuration's [`Profile`].
///
/// In the default profile, tokens are ordered by logit, the largest first, and equal logits by index. Top-k keeps the
/// first k tokens that are not masked. Of the remaining tokens, top-p keeps the shortest prefix whose total probability
/// is at least p times the total of all remaining tokens. Min-p keeps the tokens that are at least min_p times as
/// probable as the first token.
///
/// The configuration is not checked. In profiles with XTC, an `xtc_probability` above 0 counts as 1, so XTC is applied
/// without a random draw. Penalties are not applied, because they depend on the previous tokens of a sequence. Mirostat
/// and adaptive-p start from the state of a sequence's first step; [`sample_with_feedback`] takes the state of a later
/// step.
///
/// # Errors
/// [`Error::EmptyInput`] for no logits, [`Error::NonFiniteInput`] for a NaN, [`Error::EmptySupport`] if all logits are
/// -inf. The row in the error is 0.
///
/// ```
/// use evenkeel::{Profile, SamplerConfig, reference};
/// let config = SamplerConfig::default().top_k(3);
/// let logits = [1.0f32, 3.0, 1.0, 2.0];
/// assert_eq!(reference::sample(&logits, &config)?.tokens, [0, 1, 3]);
/// assert_eq!(reference::sample(&logits, &config.profile(Profile::HuggingFace))?.tokens, [0, 1, 2, 3]);
/// # Ok::<(), evenkeel::Error>(())
/// ```
pub fn sample<E: Element>(logits: &[E], config: &SamplerConfig) -> Result<Support> {
    sample_with_feedback(logits, config, None).map(|(support, _)| support)
}

/// Computes [`sample`] for a given [`Step::feedback`](crate::Step::feedback). Also returns, for each token that may be
/// drawn, the feedback for the next step. Without mirostat and adaptive-p, the feedback is 0.
///
/// # Errors
/// Returns the same errors as [`sample`].
///
/// # Source
/// Mirostat: Basu et al., "Mirostat: a neural text decoding algorithm that directly controls perplexity", 2021, as
/// implemented in llama.cpp's `llama-sampler.cpp`. The same file defines mirostat version 2 and adaptive-p.
pub fn sample_with_feedback<E: Element>(
    logits: &[E],
    config: &SamplerConfig,
    feedback: Option<f64>,
) -> Result<(Support, Vec<f64>)> {
    const OP: &str = "sample";
    let logits: Vec<f64> = logits.iter().map(|z| z.widen()).collect();
    if logits.is_empty() {
        return Err(Error::EmptyInput { op: OP });
    }
    if let Some(index) = logits.iter().position(|z| z.is_nan()) {
        return Err(Error::non_finite_input(OP, 0, index, f64::NAN));
    }
    let max = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if max == f64::NEG_INFINITY {
        return Err(Error::EmptySupport { op: OP, row: 0, vocabulary: logits.len() });
    }
    if max == f64::INFINITY {
        let infinite = logits.iter().enumerate().filter(|(_, z)| **z == max);
        let support = support(infinite.map(|(i, _)| (i, 0.0)).collect());
        let next = feedback::next(config, feedback, &support.probs, &support.probs);
        return Ok((support, next));
    }
    let vocabulary = logits.len();
    let present: Tokens = logits.into_iter().enumerate().filter(|(_, z)| *z > f64::NEG_INFINITY).collect();
    if config.mirostat != 0 {
        let kept = match config.temperature {
            t if t <= 0.0 => greedy(present),
            t => {
                let mut kept = present;
                heat(&mut kept, t);
                kept
            }
        };
        let support = support(feedback::mirostat(kept, config, feedback, vocabulary));
        let next = feedback::next(config, feedback, &support.probs, &support.probs);
        return Ok((support, next));
    }
    let support = support(match config.profile {
        Profile::Evenkeel => evenkeel::keep(present, config),
        Profile::HuggingFace => hugging_face::keep(present, config),
        Profile::Vllm => vllm::keep(present, config),
        Profile::LlamaCpp => llama_cpp::keep(present, config),
        Profile::Candle => candle::keep(present, config),
    });
    let probs = feedback::adaptive_p(&support.probs, config, feedback);
    let next = feedback::next(config, feedback, &probs, &support.probs);
    Ok((Support { tokens: support.tokens, probs }, next))
}

/// Returns the kept tokens sorted by index, with the softmax of their logits as probabilities.
fn support(mut kept: Tokens) -> Support {
    kept.sort_unstable_by_key(|(i, _)| *i);
    Support { tokens: kept.iter().map(|(i, _)| *i as u32).collect(), probs: softmax(&kept) }
}
