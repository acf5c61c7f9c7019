//! Training loop for the weights that the repository contains.

use crate::decoder::Decoder;
use crate::generated::Generator;
use crate::merges;
use crate::ops;
use crate::progress::Progress;
use crate::tiny::{Description, KEY};
use anyhow::{Context, Result, anyhow, ensure};
use candle_core::{DType, Device, Tensor, Var};
use candle_nn::{AdamW, Optimizer, ParamsAdamW};
use evenkeel::ClipGradNorm;
use evenkeel::candle::{guarded, loss};
use half::bf16;
use safetensors::tensor::{Dtype, TensorView, serialize};
use std::collections::HashMap;
use std::time::Instant;

const LAYERS: usize = 4;
const HIDDEN: usize = 128;
const HEADS: usize = 4;
const FEED_FORWARD: usize = 256;
const MERGES: usize = 1792;
/// Number of tokens in a training text.
const WINDOW: usize = 64;
/// Percentage of input tokens that are replaced by random ones. This prepares the model for the errors in its own text.
const WRONG: usize = 10;
/// Number of texts per step.
const BATCH: usize = 32;

/// Peak learning rate. The rate grows during the warm-up, then falls to zero.
const LEARNING_RATE: f64 = 4e-3;
const WARM_UP: u32 = 30;
const MAX_NORM: f64 = 1.0;
/// Number of steps between printed lines about the loss.
const REPORT: u32 = 50;

/// Trains a model from this seed, and returns the file of its weights.
pub fn train(text: &str, seed: u64, steps: u32) -> Result<Vec<u8>> {
    let command = format!(
        "cargo run --release -p generate --bin train --features train -- --out FILE --seed {seed} --steps {steps}"
    );
    let description = Description {
        layers: LAYERS,
        hidden: HIDDEN,
        heads: HEADS,
        feed_forward: FEED_FORWARD,
        window: WINDOW,
        eps: 1e-5,
        theta: 10_000.0,
        command,
        seed,
        steps,
        merges: merges::learn(text, MERGES)?,
    };
    let tokens = description
        .tokenizer()?
        .encode(text, false)
        .map_err(|e| anyhow!("the tokenizer can't encode the text: {e}"))?;
    let tokens = tokens.get_ids();
    ensure!(tokens.len() > WINDOW, "the text has {} tokens; more than {WINDOW} are needed", tokens.len());
    let mut generator = Generator::new(seed);
    let decoder = Decoder::new(&description, &mut generator, (DType::F32, &ops::GUARDED))?;
    let vars: Vec<Var> = decoder.weights().values().cloned().collect();
    let numbers: usize = vars.iter().map(|var| var.elem_count()).sum();
    eprintln!("training {numbers} weights on {} tokens of text for {steps} steps", tokens.len());

    let params = ParamsAdamW { beta2: 0.99, weight_decay: 0.1, ..ParamsAdamW::default() };
    let mut optimizer = AdamW::new(vars.clone(), params)?;
    let (start, progress) = (Instant::now(), Progress::new(steps as usize, "steps"));
    let mut losses = 0.0;
    for step in 0..steps {
        let (texts, next) = batch(tokens, description.vocabulary(), &mut generator)?;
        let loss = loss::cross_entropy(&decoder.forward(&texts)?, &next)?;
        let mut grads = loss.backward()?;
        let norm = guarded::clip_grad_norm(&mut grads, &vars, &ClipGradNorm::new(MAX_NORM));
        let norm = norm.with_context(|| format!("step {step}"))?;
        optimizer.set_learning_rate(learning_rate(step, steps));
        optimizer.step(&grads)?;
        losses += f64::from(loss.to_scalar::<f32>()?);
        progress.step();
        if (step + 1) % REPORT == 0 || step + 1 == steps {
            let averaged = losses / f64::from(step % REPORT + 1);
            let seconds = start.elapsed().as_secs_f64();
            progress.say(&format!("step {}: loss {averaged:.3}, gradients' norm {norm:.2}, {seconds:.0} s", step + 1));
            losses = 0.0;
        }
    }
    drop(progress);
    file(&description, &decoder)
}

/// Returns texts from random positions, and the next token for each of their tokens.
fn batch(tokens: &[u32], vocabulary: usize, generator: &mut Generator) -> Result<(Tensor, Tensor)> {
    let mut below = |count: usize| (generator.uniform() * count as f64) as usize;
    let (mut texts, mut next): (Vec<u32>, Vec<u32>) = Default::default();
    for _ in 0..BATCH {
        let start = below(tokens.len() - WINDOW);
        texts.extend(&tokens[start..start + WINDOW]);
        next.extend(&tokens[start + 1..start + 1 + WINDOW]);
    }
    for token in &mut texts {
        if below(100) < WRONG {
            *token = below(vocabulary) as u32;
        }
    }
    let texts = Tensor::from_vec(texts, (BATCH, WINDOW), &Device::Cpu)?;
    Ok((texts, Tensor::from_vec(next, BATCH * WINDOW, &Device::Cpu)?))
}

/// Returns the learning rate: linear warm-up, then linear decay.
fn learning_rate(step: u32, steps: u32) -> f64 {
    let up = f64::from(step + 1) / f64::from(WARM_UP);
    let down = f64::from(steps - step) / f64::from(steps);
    LEARNING_RATE * up.min(down)
}

fn file(description: &Description, decoder: &Decoder<'_>) -> Result<Vec<u8>> {
    let mut weights = Vec::new();
    for (name, var) in decoder.weights() {
        let values = var.to_dtype(DType::BF16)?.flatten_all()?.to_vec1::<bf16>()?;
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        weights.push((name, var.dims().to_vec(), bytes));
    }
    let views =
        weights.iter().map(|(name, shape, bytes)| Ok((*name, TensorView::new(Dtype::BF16, shape.clone(), bytes)?)));
    // The metadata must have a single entry. A hash map would order several entries differently in each run.
    let metadata = HashMap::from([(KEY.to_string(), serde_json::to_string(description)?)]);
    Ok(serialize(views.collect::<Result<Vec<_>>>()?, Some(metadata))?)
}
