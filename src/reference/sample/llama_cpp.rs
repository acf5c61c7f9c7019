//! The default sampler chain of llama.cpp. Each filter shortens the list of candidates. A filter that uses
//! probabilities computes them over the remaining candidates. The temperature is applied last.

use super::tokens::{self, Tokens, dynamic_temperature, entropy, greedy, heat, softmax, sort_descending};
use crate::ops::sample::SamplerConfig;

pub fn keep(mut tokens: Tokens, config: &SamplerConfig) -> Tokens {
    let least = config.min_keep.max(1);
    if let Some(n) = config.top_n_sigma.filter(|n| *n > 0.0) {
        let count = tokens.len() as f64;
        let mean = tokens.iter().map(|(_, z)| z).sum::<f64>() / count;
        let sigma = (tokens.iter().map(|(_, z)| (z - mean).powi(2)).sum::<f64>() / count).sqrt();
        let best = tokens::largest(&tokens);
        sort_descending(&mut tokens);
        let reached = tokens.iter().filter(|(_, z)| *z >= best - n * sigma).count();
        tokens.truncate(reached.max(least));
    }
    sort_descending(&mut tokens);
    if let Some(k) = config.top_k.filter(|k| *k > 0) {
        tokens.truncate(k.max(least));
    }
    if let Some(p) = config.typical_p.filter(|p| *p < 1.0) {
        let probs = softmax(&tokens);
        let h = entropy(&probs);
        let max = tokens::largest(&tokens);
        let log_total = tokens.iter().map(|(_, z)| (z - max).exp()).sum::<f64>().ln();
        let keys: Vec<f64> = tokens.iter().map(|(_, z)| ((log_total - (z - max)) - h).abs()).collect();
        let mut order: Vec<usize> = (0..tokens.len()).collect();
        // llama.cpp does not define the order of tokens with equal sort keys. Here the lowest index comes first.
        order.sort_by(|&a, &b| keys[a].total_cmp(&keys[b]).then(tokens[a].0.cmp(&tokens[b].0)));
        let mut sum = 0.0;
        let mut kept = Vec::new();
        for (count, i) in order.into_iter().enumerate() {
            sum += probs[i];
            kept.push(tokens[i]);
            if sum > p && count + 1 >= least {
                break;
            }
        }
        tokens = kept;
        tokens.sort_by_key(|(i, _)| *i);
        sort_descending(&mut tokens);
    }
    if let Some(p) = config.top_p.filter(|p| *p < 1.0) {
        let probs = softmax(&tokens);
        let mut sum = 0.0;
        let reached = (0..tokens.len()).position(|i| {
            sum += probs[i];
            sum >= p && i + 1 >= least
        });
        tokens.truncate(reached.map_or(tokens.len(), |last| last + 1));
    }
    if let Some(p) = config.min_p.filter(|p| *p > 0.0) {
        let bound = tokens[0].1 + p.ln();
        let reached = tokens.iter().filter(|(_, z)| *z >= bound).count();
        tokens.truncate(reached.max(least));
    }
    if config.xtc_probability > 0.0 && config.xtc_threshold <= 0.5 && tokens.len() > 1 {
        let choices = softmax(&tokens).iter().filter(|p| **p >= config.xtc_threshold).count();
        if choices > 1 && tokens.len() - (choices - 1) >= least {
            tokens.drain(..choices - 1);
        }
    }
    let mut temperature = config.temperature;
    if config.dynamic_temperature > 0.0 {
        temperature = if tokens.len() > 1 { dynamic_temperature(&tokens, config) } else { 1.0 };
    }
    if temperature <= 0.0 {
        return greedy(tokens);
    }
    heat(&mut tokens, temperature);
    tokens
}
