//! Mirostat and adaptive-p of llama.cpp.

use super::tokens::{self, Tokens, sort_descending};
use crate::ops::sample::SamplerConfig;

/// Keeps the tokens that mirostat selects. The logits must already be divided by the temperature.
pub fn mirostat(mut tokens: Tokens, config: &SamplerConfig, feedback: Option<f64>, vocabulary: usize) -> Tokens {
    let mu = feedback.unwrap_or(2.0 * config.mirostat_tau);
    sort_descending(&mut tokens);
    let count = match config.mirostat {
        1 => {
            let (mut products, mut squares) = (0.0, 0.0);
            for i in 0..tokens.len().min(100) - 1 {
                let t = ((i + 2) as f64 / (i + 1) as f64).ln();
                let [a, b] = [tokens[i].1, tokens[i + 1].1].map(|z| z.max(f64::MIN));
                products += t * (a - b).min(f64::MAX);
                squares += t * t;
            }
            if tokens.len() < 2 { 1 } else { k((products / squares).min(1e100), mu, vocabulary as f64) }
        }
        _ => {
            let probs = tokens::softmax(&tokens);
            probs.iter().position(|p| -p.log2() > mu).unwrap_or(tokens.len())
        }
    };
    tokens.truncate(count.max(1));
    tokens
}

/// Computes the number of tokens that mirostat keeps: `k = (epsilon * 2^mu / (1 - n^-epsilon))^(1 / s)`. Here,
/// `s = 1 + epsilon` is the estimated Zipf exponent, and `n` is the size of the vocabulary. If `s` is 0 or 1, returns
/// the limit of this formula.
fn k(s: f64, mu: f64, n: f64) -> usize {
    let epsilon = s - 1.0;
    let of_power_law = if epsilon == 0.0 { n.ln() } else { -(-epsilon * n.ln()).exp_m1() / epsilon };
    // The quotient is computed as a difference of logarithms, which does not overflow.
    let k = ((mu * std::f64::consts::LN_2 - of_power_law.ln()) / s).exp();
    if k.is_nan() { usize::MAX } else { k as usize }
}

/// Applies adaptive-p to the probabilities of the tokens that the filters kept.
pub fn adaptive_p(probs: &[f64], config: &SamplerConfig, feedback: Option<f64>) -> Vec<f64> {
    let Some(target) = config.adaptive_target.filter(|target| *target >= 0.0) else { return probs.to_vec() };
    let mean = feedback.unwrap_or(target);
    let adapted = (2.0 * target.clamp(0.0, 1.0) - mean).clamp(0.0, 1.0);
    let logit = |p: &f64| {
        let d = ((p - adapted) / 0.3).abs();
        5.0 - 10.0 * d * d / (1.0 + d)
    };
    tokens::softmax(&probs.iter().map(logit).enumerate().collect())
}

/// Returns one number for each token: the feedback for the next step if this token is drawn. `probs` holds the
/// probabilities with which the tokens are drawn. `before` holds the probabilities before adaptive-p changed them.
pub fn next(config: &SamplerConfig, feedback: Option<f64>, probs: &[f64], before: &[f64]) -> Vec<f64> {
    if config.mirostat != 0 {
        let mu = feedback.unwrap_or(2.0 * config.mirostat_tau);
        return probs.iter().map(|p| mu - config.mirostat_eta * (-p.log2() - config.mirostat_tau)).collect();
    }
    let Some(target) = config.adaptive_target.filter(|target| *target >= 0.0) else { return vec![0.0; probs.len()] };
    let (mean, decay) = (feedback.unwrap_or(target), config.adaptive_decay.clamp(0.0, 0.99));
    // llama.cpp divides a decayed sum by the sum of its weights. The weights always add up to 1 / (1 - decay), so only
    // the quotient is kept here.
    before.iter().map(|p| (1.0 - decay) * p + decay * mean).collect()
}
