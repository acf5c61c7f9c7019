//! Filters of the default profile, as this crate defines them.

use super::tokens::{self, Tokens, dynamic_temperature, entropy, greedy, heat, softmax, sort_descending};
use crate::ops::sample::SamplerConfig;

pub fn keep(mut tokens: Tokens, config: &SamplerConfig) -> Tokens {
    // Top-n-sigma uses the standard deviation of the logits before the temperature is applied.
    let sigma = config.top_n_sigma.map(|n| {
        let (mean, count) = (tokens.iter().map(|(_, z)| z).sum::<f64>() / tokens.len() as f64, tokens.len() as f64);
        n * (tokens.iter().map(|(_, z)| (z - mean).powi(2)).sum::<f64>() / count).sqrt()
    });
    let best = tokens::largest(&tokens);
    let reaches: Vec<bool> = tokens.iter().map(|(_, z)| sigma.is_none_or(|sigma| *z >= best - sigma)).collect();

    let mut temperature = config.temperature;
    if config.dynamic_temperature > 0.0 && tokens.len() > 1 {
        temperature = dynamic_temperature(&tokens, config);
    } else if config.dynamic_temperature > 0.0 {
        temperature = 1.0;
    }
    if temperature == 0.0 {
        return greedy(tokens);
    }
    heat(&mut tokens, temperature);
    sort_with(&mut tokens, reaches, config.min_keep);
    if let Some(k) = config.top_k {
        tokens.truncate(k.max(config.min_keep));
    }
    if let Some(p) = config.typical_p.filter(|p| *p < 1.0) {
        tokens = typical(tokens, p, config.min_keep);
    }
    // With p = 1 the filter must keep all tokens. The filter is skipped, because the f64 sum could round up to 1 before
    // the last token.
    if let Some(p) = config.top_p.filter(|p| *p < 1.0) {
        let probs = softmax(&tokens);
        let mut sum = 0.0;
        let reached = probs.iter().position(|q| {
            sum += q;
            sum >= p
        });
        tokens.truncate(reached.map_or(tokens.len(), |last| last + 1).max(config.min_keep));
    }
    if let Some(p) = config.min_p {
        let best = tokens[0].1;
        let reached = tokens.iter().filter(|(_, z)| (z - best).exp() >= p).count();
        tokens.truncate(reached.max(config.min_keep));
    }
    if let Some(epsilon) = config.epsilon_cutoff {
        cut_off(&mut tokens, epsilon, config.min_keep);
    }
    if let Some(eta) = config.eta_cutoff {
        let bound = eta.min(eta.sqrt() * (-entropy(&softmax(&tokens))).exp());
        cut_off(&mut tokens, bound, config.min_keep);
    }
    if config.xtc_probability > 0.0 {
        let choices = softmax(&tokens).iter().filter(|p| **p >= config.xtc_threshold).count();
        if choices > 1 && tokens.len() + 1 - choices >= config.min_keep {
            tokens.drain(..choices - 1);
        }
    }
    tokens
}

/// Sorts the tokens by logit, and removes the tokens that top-n-sigma rejects. `reaches` is false for a rejected token.
/// Keeps at least `min_keep` tokens.
fn sort_with(tokens: &mut Tokens, reaches: Vec<bool>, min_keep: usize) {
    let kept = reaches.iter().filter(|r| **r).count();
    sort_descending(tokens);
    tokens.truncate(kept.max(min_keep));
}

fn cut_off(tokens: &mut Tokens, bound: f64, min_keep: usize) {
    let last = tokens[min_keep.min(tokens.len()) - 1].1;
    let probs = softmax(tokens);
    let reached = tokens.iter().zip(probs).filter(|((_, z), p)| *p >= bound || *z >= last).count();
    tokens.truncate(reached);
}

/// Applies the typical-p filter: keeps the tokens whose surprisal is closest to the entropy, until their probabilities
/// add up to at least p. Also keeps the tokens that tie with the last of these tokens. Keeps at least `min_keep`
/// tokens, and does not reorder them.
fn typical(tokens: Tokens, p: f64, min_keep: usize) -> Tokens {
    let probs = softmax(&tokens);
    let h = entropy(&probs);
    let max = tokens[0].1;
    let log_total = tokens.iter().map(|(_, z)| (z - max).exp()).sum::<f64>().ln();
    let off: Vec<f64> = tokens.iter().map(|(_, z)| ((log_total - (z - max)) - h).abs()).collect();
    let mut order: Vec<usize> = (0..tokens.len()).collect();
    order.sort_by(|&a, &b| off[a].total_cmp(&off[b]));
    let mut sum = 0.0;
    let last = order.iter().position(|&i| {
        sum += probs[i];
        sum >= p
    });
    let bound = off[order[last.unwrap_or(order.len() - 1)]];
    let first: Vec<usize> = order.into_iter().take(min_keep).collect();
    let stays = |i: usize| off[i] <= bound || first.contains(&i);
    tokens.into_iter().enumerate().filter(|(i, _)| stays(*i)).map(|(_, token)| token).collect()
}
