//! Logits warpers of Hugging Face transformers, in the order in which `generate` applies them. Each warper masks the
//! tokens that it removes.

use super::tokens::{self, Tokens, entropy, heat, softmax};
use crate::ops::sample::SamplerConfig;
use std::cmp::Ordering;

pub fn keep(mut tokens: Tokens, config: &SamplerConfig) -> Tokens {
    let least = config.min_keep;
    heat(&mut tokens, config.temperature);
    if let Some(k) = config.top_k.filter(|k| *k > 0) {
        let bound = nth_largest(tokens.iter().map(|(_, z)| *z), k.max(least));
        tokens.retain(|(_, z)| *z >= bound);
    }
    if let Some(p) = config.top_p.filter(|p| *p < 1.0) {
        top_p(&mut tokens, f64::from((1.0 - p) as f32), least);
    }
    if let Some(p) = config.min_p {
        let probs = softmax(&tokens);
        let best = probs.iter().copied().fold(0.0, f64::max);
        let first = first(&tokens, least);
        filter(&mut tokens, |i| probs[i] >= p * best || first.contains(&i));
    }
    if let Some(mass) = config.typical_p.filter(|p| *p < 1.0) {
        let probs = softmax(&tokens);
        let h = entropy(&probs);
        let max = tokens::largest(&tokens);
        let log_total = tokens.iter().map(|(_, z)| (z - max).exp()).sum::<f64>().ln();
        let keys: Vec<f64> = tokens.iter().map(|(_, z)| (-((z - max) - log_total) - h).abs()).collect();
        let mut order: Vec<usize> = (0..keys.len()).collect();
        order.sort_by(|&a, &b| keys[a].total_cmp(&keys[b]));
        let mut sum = 0.0;
        let below = order.iter().filter(|&&i| {
            sum += probs[i];
            sum < mass
        });
        let last = keys[order[below.count().min(keys.len() - 1)]];
        let first: Vec<usize> = order.iter().copied().take(least).collect();
        filter(&mut tokens, |i| keys[i] <= last || first.contains(&i));
    }
    if let Some(epsilon) = config.epsilon_cutoff.filter(|e| *e > 0.0) {
        cut_off(&mut tokens, epsilon, least);
    }
    if let Some(epsilon) = config.eta_cutoff.filter(|e| *e > 0.0) {
        let h = entropy(&softmax(&tokens));
        cut_off(&mut tokens, epsilon.min(epsilon.sqrt() * (-h).exp()), least);
    }
    tokens
}

/// Removes tokens, the least probable first, as long as the total probability of the removed tokens is at most the
/// threshold. `least` is the minimum number of tokens to keep.
pub fn top_p(tokens: &mut Tokens, threshold: f64, least: usize) {
    let probs = softmax(tokens);
    let mut order: Vec<usize> = (0..tokens.len()).collect();
    order.sort_by(|&a, &b| tokens[a].1.partial_cmp(&tokens[b].1).unwrap_or(Ordering::Equal));
    let mut sum = 0.0;
    let mut removed = vec![false; tokens.len()];
    for &i in &order[..tokens.len().saturating_sub(least)] {
        sum += probs[i];
        removed[i] = sum <= threshold;
    }
    filter(tokens, |i| !removed[i]);
}

fn cut_off(tokens: &mut Tokens, epsilon: f64, least: usize) {
    let probs = softmax(tokens);
    let bound = nth_largest(tokens.iter().map(|(_, z)| *z), least);
    let stays: Vec<bool> = tokens.iter().zip(&probs).map(|((_, z), p)| *p >= epsilon || *z >= bound).collect();
    filter(tokens, |i| stays[i]);
}

pub fn nth_largest(values: impl Iterator<Item = f64>, n: usize) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(|a, b| b.total_cmp(a));
    values[n.min(values.len()) - 1]
}

/// Returns the indices of the `n` most probable tokens, the most probable first. Logits are compared, because small
/// probabilities may all be 0 in f64.
fn first(tokens: &Tokens, n: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..tokens.len()).collect();
    order.sort_by(|&a, &b| tokens[b].1.total_cmp(&tokens[a].1));
    order.truncate(n);
    order
}

/// Keeps the tokens whose position in the list satisfies the condition.
pub fn filter(tokens: &mut Tokens, such: impl Fn(usize) -> bool) {
    let mut i = 0;
    tokens.retain(|_| {
        i += 1;
        such(i - 1)
    });
}
