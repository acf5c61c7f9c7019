//! Failure reported in the field: a bf16 sampler that rejects its own probabilities.

use super::generated::Generator;
use super::naive;
use super::stage::Stage;
use anyhow::Result;
use evenkeel::{Draw, Mask, Rows, SamplerConfig, reference};
use half::bf16;

/// Vocabulary size of Mistral-7B.
const VOCABULARY: usize = 32_000;

/// Error message of PyTorch's `multinomial` for invalid probabilities.
const REFUSED: &str = "probability tensor contains either inf, nan or element < 0";

pub fn play(stage: &mut Stage) -> Result<()> {
    stage.title("1. The sampler that rejects its own probabilities")?;
    stage.say(&format!(
        "Reported for a 7B model in bf16, at temperature 0.7, top_p 0.9 and top_k 50:
\"{REFUSED}\".
A bf16 sum stops growing once a term is less than half its last bit: a sum of ones stops at 256.
A mask of f32's lowest number is -inf in bf16. If it masks every candidate, the row is NaN.
Rows of {VOCABULARY} logits:"
    ))?;
    let request = SamplerConfig::default().temperature(0.7).top_p(0.9);
    let (all, nothing) = (vec![1; VOCABULARY], vec![0; VOCABULARY]);
    let flat = vec![bf16::ONE; VOCABULARY];
    let usual = row(&mut Generator::new(1), 2.5);
    let grammar = flags(&order(&usual)[400..403]);
    let mut broken = usual.clone();
    broken[17_123] = bf16::NAN;
    let cases = [
        ("All logits equal, no top_k.", &flat, &all, request),
        ("A grammar allows 3 tokens, none of the 50 likeliest.", &usual, &grammar, request.top_k(50)),
        ("One logit is NaN.", &broken, &all, request.top_k(50)),
        ("A grammar allows no token.", &usual, &nothing, request.top_k(50)),
    ];
    for (case, logits, keep, config) in cases {
        let naive = match naive_support(logits, keep, &config) {
            Ok(Support { sum, tokens }) => {
                format!("probabilities sum to {sum:.1}; one of {} tokens is drawn", tokens.len())
            }
            Err(refused) => refused.to_string(),
        };
        let guarded = match stage.guarded(|| draw(logits, keep, &config, 0))? {
            Ok(sampled) => format!("token {} is drawn from {} tokens", sampled.token, sampled.kept),
            Err(error) => format!("{}: {error}", error.name()),
        };
        stage.compare(case, &naive, &guarded)?;
    }
    every_request(stage)
}

/// Tests all combinations of common sampling parameters, on rows with different spreads.
fn every_request(stage: &mut Stage) -> Result<()> {
    let mut generator = Generator::new(2);
    let (mut calls, mut refused, mut other, mut right) = (0, 0, 0, 0);
    for spread in [0.0, 0.5, 2.5, 10.0] {
        let logits = row(&mut generator, spread);
        let grammar = flags(&order(&logits)[60..80]);
        for keep in [&vec![1; VOCABULARY], &grammar] {
            for temperature in [0.3, 0.7, 1.5] {
                for (top_k, top_p) in [(None, 0.5), (None, 0.9), (Some(50), 0.9), (Some(50), 1.0)] {
                    let mut config = SamplerConfig::default().temperature(temperature).top_p(top_p);
                    config.top_k = top_k;
                    let defined = definition(&logits, keep, &config);
                    match naive_support(&logits, keep, &config) {
                        Err(_) => refused += 1,
                        Ok(support) => other += u64::from(support.tokens != defined),
                    }
                    let drawn = stage.guarded(|| draw(&logits, keep, &config, calls))?;
                    right += u64::from(drawn.is_ok_and(|sampled| defined.contains(&sampled.token)));
                    calls += 1;
                }
            }
        }
    }
    stage.say(&format!(
        "Of {calls} requests with common parameters, bf16 refuses {refused}. In {other} it draws from tokens other than those that
the filters keep. Evenkeel draws a token that the filters keep in {right} of {calls}."
    ))
}

/// Returns logits with this standard deviation.
fn row(generator: &mut Generator, spread: f64) -> Vec<bf16> {
    generator.normals(VOCABULARY, spread).into_iter().map(bf16::from_f32).collect()
}

/// Returns all tokens in order of decreasing logits.
fn order(logits: &[bf16]) -> Vec<u32> {
    let mut order: Vec<u32> = (0..logits.len() as u32).collect();
    // Adding 0 turns -0 into +0, so that `total_cmp` treats both zeros as equal.
    let logit = |token: &u32| logits[*token as usize] + bf16::ZERO;
    order.sort_by(|a, b| logit(b).total_cmp(&logit(a)));
    order
}

/// Returns keep flags that are set only for these tokens.
fn flags(tokens: &[u32]) -> Vec<u8> {
    let mut keep = vec![0; VOCABULARY];
    for token in tokens {
        keep[*token as usize] = 1;
    }
    keep
}

/// Tokens that may be drawn, in ascending order. `sum` is the sum of all probabilities before top-p is applied.
struct Support {
    sum: f64,
    tokens: Vec<u32>,
}

/// Computes the tokens that may be drawn. All numbers are bf16, as in the failing engine. Temperature, top-k, top-p and
/// a mask are applied in this order.
fn naive_support(logits: &[bf16], keep: &[u8], config: &SamplerConfig) -> Result<Support, &'static str> {
    let temperature = bf16::from_f64(config.temperature);
    let mut scores: Vec<bf16> = logits.iter().map(|&logit| logit / temperature).collect();
    let order = order(&scores);
    for &token in &order[config.top_k.unwrap_or(VOCABULARY)..] {
        scores[token as usize] = bf16::NEG_INFINITY;
    }
    let probabilities = naive::softmax(&scores);
    let top_p = bf16::from_f64(config.top_p.unwrap_or(1.0));
    let mut reached = bf16::ZERO;
    for &token in &order {
        if reached >= top_p {
            scores[token as usize] = bf16::NEG_INFINITY;
        }
        reached += probabilities[token as usize];
    }
    let masked = bf16::from_f32(f32::MIN);
    let scores = scores.iter().zip(keep).map(|(&score, &keep)| if keep == 0 { score + masked } else { score });
    let drawable = naive::softmax(&scores.collect::<Vec<_>>());
    if drawable.iter().any(|p| !(p.is_finite() && *p >= bf16::ZERO)) {
        return Err(REFUSED);
    }
    let tokens = (0..).zip(drawable).filter(|(_, p)| *p > bf16::ZERO).map(|(token, _)| token);
    Ok(Support { sum: probabilities.iter().map(|p| p.to_f64()).sum(), tokens: tokens.collect() })
}

fn draw(
    logits: &[bf16],
    keep: &[u8],
    config: &SamplerConfig,
    draw: u64,
) -> Result<evenkeel::Result<evenkeel::Sampled>> {
    let mask = Mask::keep(keep, &[VOCABULARY]);
    let row = Rows::new(logits, 1, VOCABULARY)?;
    let sampled = config.validate()?.sample_rows(row, Some(&mask), &[Draw { seed: 1, row: 0, draw }])?;
    Ok(sampled.into_iter().next().unwrap_or(Err(evenkeel::Error::empty_input("sample"))))
}

/// Returns the tokens that the reference sampler keeps. The list is empty for a rejected row.
fn definition(logits: &[bf16], keep: &[u8], config: &SamplerConfig) -> Vec<u32> {
    let allowed =
        logits.iter().zip(keep).map(|(logit, &keep)| if keep == 0 { f32::NEG_INFINITY } else { logit.to_f32() });
    reference::sample(&allowed.collect::<Vec<_>>(), config).map_or(Vec::new(), |support| support.tokens)
}
