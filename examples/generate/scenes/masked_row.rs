//! Failure reported in the field: attention rows without an unmasked key.

use super::memorised::{BEGIN, Memorised, text};
use super::naive;
use super::stage::Stage;
use crate::model::Model;
use crate::ops::{Evenkeel, Ops, Visible};
use crate::progress::Progress;
use anyhow::Result;
use candle_core::{Device, Tensor};

/// Prompts of different lengths. The shortest prompt is a single token, which begins a text.
const PROMPTS: [&[u32]; 3] = [&[BEGIN], &[BEGIN, 2, 3, 4], &[BEGIN, 2, 3, 4, 5, 6, 7]];

/// Number of tokens to write after each prompt.
const WRITTEN: usize = 128;

pub fn play(stage: &mut Stage) -> Result<()> {
    stage.title("5. The attention row without an unmasked key")?;
    stage.say(
        "Reported: causal and padding masks leave rows without an unmasked key. Their softmax is exp(-inf - -inf) = NaN, and one
layer later every value is NaN. Prompts of different lengths in one batch, the shorter ones padded on the left:",
    )?;
    let mut weights = Memorised::new(256, 3);
    let naively = batch(&mut weights.model::<Unguarded>()?, &PROMPTS)?;
    let guarded = stage.guarded(|| batch(&mut weights.model::<Evenkeel>()?, &PROMPTS))?;
    let mut alike = 0;
    for (i, prompt) in PROMPTS.iter().enumerate() {
        let alone = stage.guarded(|| batch(&mut weights.model::<Evenkeel>()?, &[prompt]))?;
        alike += usize::from(alone.tokens[0] == guarded.tokens[i]);
        let case = match prompt.len() {
            1 => "Only the token that begins a text.".to_string(),
            _ => format!("\"{}\"", text(prompt)),
        };
        let begin = |written: &Written| text(&written.tokens[i][..18]);
        stage.compare(&case, &begin(&naively), &begin(&guarded))?;
    }
    stage.say(&format!(
        "NaN among the {} logits for {WRITTEN} tokens per text: naive {}, Evenkeel {}.
Texts in the batch that equal the text from the prompt alone: {alike} of {}.",
        guarded.logits,
        naively.nan,
        guarded.nan,
        PROMPTS.len()
    ))
}

/// Tokens written for a batch, the number of logits computed for it, and how many of these logits are NaN.
struct Written {
    tokens: Vec<Vec<u32>>,
    logits: usize,
    nan: usize,
}

/// Continues each prompt. The shorter ones are padded on the left.
fn batch<O: Ops>(model: &mut Model<O>, prompts: &[&[u32]]) -> Result<Written> {
    let longest = prompts.iter().map(|prompt| prompt.len()).max().unwrap_or(0);
    let mut keep: Vec<Vec<u8>> = Vec::new();
    let mut next = Vec::new();
    for prompt in prompts {
        let padding = longest - prompt.len();
        keep.push([vec![0; padding], vec![1; prompt.len()]].concat());
        next.push([&vec![BEGIN; padding], *prompt].concat());
    }
    let mut written = Written { tokens: vec![Vec::new(); prompts.len()], logits: 0, nan: 0 };
    let progress = Progress::new(WRITTEN, "tokens");
    for _ in 0..WRITTEN {
        let logits = model.forward(&Tensor::new(next, &Device::Cpu)?, Some(&keep.concat()))?.to_vec2::<f32>()?;
        next = Vec::new();
        for (i, logits) in logits.iter().enumerate() {
            written.logits += logits.len();
            written.nan += logits.iter().filter(|logit| logit.is_nan()).count();
            let token = naive::largest(logits);
            written.tokens[i].push(token);
            next.push(vec![token]);
            keep[i].push(1);
        }
        progress.step();
    }
    Ok(written)
}

/// Ops whose softmax fails on rows in which every key is masked.
struct Unguarded;

impl Ops for Unguarded {
    fn attention(query: &Tensor, keys: &Tensor, values: &Tensor, visible: Visible<'_>) -> Result<Tensor> {
        let (batches, heads, queries, features) = query.dims4()?;
        let (_, of_keys, count, _) = keys.dims4()?;
        let scale = 1.0 / (features as f32).sqrt();
        // Heads that share keys become additional rows of one matrix product.
        let shared = heads / of_keys * queries;
        let scores = query.reshape((batches, of_keys, shared, features))?.matmul(&keys.t()?)?;
        let mut weights = Vec::new();
        for (row, scores) in scores.flatten_all()?.to_vec1::<f32>()?.chunks(count).enumerate() {
            let (batch, query) = (row / queries / heads, row % queries);
            let masked = scores.iter().enumerate().map(|(key, score)| {
                let padding = visible.keep.is_some_and(|keep| keep[batch * count + key] == 0);
                let later = key > count - queries + query;
                score * scale + if padding || later { f32::NEG_INFINITY } else { 0.0 }
            });
            weights.extend(naive::softmax(&masked.collect::<Vec<_>>()));
        }
        let attended = Tensor::from_vec(weights, scores.dims(), scores.device())?.matmul(values)?;
        Ok(attended.reshape((batches, heads, queries, features))?)
    }

    fn rms_norm(x: &Tensor, weight: &Tensor, eps: f64) -> Result<Tensor> {
        Evenkeel::rms_norm(x, weight, eps)
    }
}
