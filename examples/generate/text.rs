//! Text from a checkpoint: the prompt is read, then token after token is drawn and shown.

use crate::arguments::Arguments;
use crate::chat;
use crate::checkpoint::Checkpoint;
use crate::model::Model;
use crate::ops::Evenkeel;
use crate::progress::Progress;
use crate::tokenizer;
use crate::verify;
use anyhow::{Context, Result, anyhow, ensure};
use candle_core::{Device, Tensor};
use evenkeel::{Draw, Sampler, report};
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};
use tokenizers::Tokenizer;

/// Positions of a prompt that are read at once: scores are this times the prompt's length, a head.
const CHUNK: usize = 256;

/// Writes what the checkpoint at `path` makes of the prompt.
pub fn run(path: &Path, arguments: &Arguments) -> Result<()> {
    let prompt = arguments.prompt.as_deref().unwrap_or_default();
    ensure!(!prompt.is_empty(), "the prompt is empty; the model needs at least one token to go on from");
    let sampler = arguments.sampling.config().validate()?;
    let mut checkpoint = Checkpoint::open(path)?;
    let config = checkpoint.config()?;
    let tokenizer = tokenizer::read(&checkpoint)?;
    let tokens = if arguments.chat {
        encode(&tokenizer, &chat::prompt(&checkpoint, prompt)?, false)?
    } else {
        encode(&tokenizer, prompt, true)?
    };
    let (read, most) = (tokens.len(), arguments.tokens as usize);
    ensure!(
        read + most <= config.context,
        "a prompt of {read} tokens and {most} more are {}; the model's context has {}",
        read + most,
        config.context
    );
    let ends = ends(&checkpoint, &tokenizer)?;
    let progress = Progress::new(config.layers, "layers");
    let mut model = Model::<Evenkeel>::new(config, &mut checkpoint, || progress.step())?;
    drop(progress);
    let writer = Writer { tokenizer: &tokenizer, ends, sampler, arguments };
    let (outcome, met) = report::scope(|| writer.write(&mut model, &tokens));
    eprintln!("{}\nguards met: {met}", outcome?);
    Ok(())
}

fn encode(tokenizer: &Tokenizer, text: &str, add_special_tokens: bool) -> Result<Vec<u32>> {
    let encoding = tokenizer.encode(text, add_special_tokens).map_err(|e| anyhow!("the tokenizer: {e}"))?;
    ensure!(!encoding.is_empty(), "the prompt has no tokens");
    Ok(encoding.get_ids().to_vec())
}

/// The tokens after which there is nothing more to say. A chat model's own is the end of a message; texts end too.
fn ends(checkpoint: &Checkpoint, tokenizer: &Tokenizer) -> Result<Vec<u32>> {
    let of_message = checkpoint.token("tokenizer.ggml.eos_token_id")?;
    let of_turn = checkpoint.token("tokenizer.ggml.eot_token_id")?;
    let of_text = tokenizer.token_to_id("<|endoftext|>");
    Ok([of_message, of_turn, of_text].into_iter().flatten().collect())
}

struct Writer<'a> {
    tokenizer: &'a Tokenizer,
    ends: Vec<u32>,
    sampler: Sampler,
    arguments: &'a Arguments,
}

impl Writer<'_> {
    fn write(&self, model: &mut Model<Evenkeel>, prompt: &[u32]) -> Result<String> {
        let start = Instant::now();
        let mut logits = self.read(model, prompt)?;
        let reading = start.elapsed();

        let start = Instant::now();
        let mut stdout = std::io::stdout().lock();
        // Holds back the bytes of a character until it is whole.
        let mut text = self.tokenizer.decode_stream(true);
        let mut written = 0;
        while written < self.arguments.tokens as usize {
            if self.arguments.verify {
                verify::logits(written, &logits)?;
            }
            let draw = Draw { seed: self.arguments.sampling.seed, row: 0, draw: written as u64 };
            let sampled = self.sampler.sample(&logits, draw).with_context(|| format!("step {written}"))?;
            if self.arguments.verify {
                verify::token(written, &logits, self.sampler.config(), sampled.token)?;
            }
            if self.ends.contains(&sampled.token) {
                break;
            }
            written += 1;
            if let Some(piece) = text.step(sampled.token).map_err(|e| anyhow!("the tokenizer: {e}"))? {
                stdout.write_all(piece.as_bytes()).and_then(|()| stdout.flush()).context("can't write to stdout")?;
            }
            if written < self.arguments.tokens as usize {
                logits = self.read(model, &[sampled.token])?;
            }
        }
        stdout.write_all(b"\n").context("can't write to stdout")?;
        let writing = start.elapsed();
        let verified = if self.arguments.verify { ", each verified" } else { "" };
        Ok(format!("read {}; wrote {}{verified}", speed(prompt.len(), reading), speed(written, writing)))
    }

    /// Reads tokens; the logits of what follows.
    fn read(&self, model: &mut Model<Evenkeel>, tokens: &[u32]) -> Result<Vec<f32>> {
        let chunks = tokens.chunks(CHUNK);
        let progress = Progress::new(chunks.len(), "parts of the prompt");
        let mut logits = Vec::new();
        for chunk in chunks {
            let tokens = Tensor::new(chunk, &Device::Cpu)?.unsqueeze(0)?;
            logits = model.forward(&tokens, None)?.squeeze(0)?.to_vec1()?;
            progress.step();
        }
        Ok(logits)
    }
}

fn speed(tokens: usize, time: Duration) -> String {
    format!("{tokens} tokens in {:.2} s ({:.1} a second)", time.as_secs_f64(), tokens as f64 / time.as_secs_f64())
}
