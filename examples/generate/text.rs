//! Text generation: the prompt is read, then one token after the other is drawn and printed.

use crate::arguments::Arguments;
use crate::model::Model;
use crate::ops::Evenkeel;
use crate::place::Place;
use crate::pretrained::Pretrained;
use crate::progress::Progress;
use crate::verify;
use anyhow::{Context, Result, anyhow, ensure};
use candle_core::{Device, Tensor};
use evenkeel::{Sampler, report, trace};
use std::io::Write;
use std::time::{Duration, Instant};
use tokenizers::Tokenizer;

/// Number of prompt tokens that are read at once. It limits the memory of attention: each head has at most this number
/// of logits per key.
const CHUNK: usize = 256;

/// Model, prompt and settings with which a text is generated. All arguments and files have been checked.
pub struct Text<'a> {
    model: Model<Evenkeel>,
    place: Place,
    prompt: Vec<u32>,
    tokenizer: Tokenizer,
    ends: Vec<u32>,
    sampler: Sampler,
    arguments: &'a Arguments,
}

impl<'a> Text<'a> {
    /// Prepares the text that this model writes after a prompt.
    pub fn new<P: Pretrained>(mut pretrained: P, prompt: &str, arguments: &'a Arguments) -> Result<Self> {
        let sampler = arguments.sampling.config(P::TEMPERATURE).validate()?;
        let (config, tokenizer) = (pretrained.config()?, pretrained.tokenizer()?);
        let prompt = pretrained.prompt(&tokenizer, prompt, arguments.chat)?;
        let (read, most) = (prompt.len(), arguments.tokens as usize);
        ensure!(
            read + most <= config.context,
            "the prompt has {read} tokens and `--tokens` is {most}, {} tokens in all; the model's context is {} tokens",
            read + most,
            config.context
        );
        let ends = pretrained.ends(&tokenizer)?;
        let progress = Progress::new(config.layers, "layers");
        let place = arguments.backend.set_up(&sampler, config.vocabulary)?;
        pretrained.place(place.device());
        let model = Model::new(config, &mut pretrained, || progress.step())?;
        Ok(Text { model, place, prompt, tokenizer, ends, sampler, arguments })
    }

    /// Writes the text to stdout, and the speed to stderr.
    pub fn write(mut self) -> Result<()> {
        let ((outcome, report), found) = if self.arguments.trace {
            let (result, found) = trace::scope(|| report::scope(|| self.draw()));
            (result, Some(found))
        } else {
            (report::scope(|| self.draw()), None)
        };
        if let Some(found) = found {
            eprintln!("trace: {found}");
        }
        eprintln!("{}\nguards reported: {report}", outcome?);
        Ok(())
    }

    fn draw(&mut self) -> Result<String> {
        let start = Instant::now();
        let mut logits = read(&mut self.model, self.place.device(), &self.prompt)?;
        let reading = start.elapsed();

        let start = Instant::now();
        let mut stdout = std::io::stdout().lock();
        // The stream holds back the bytes of an incomplete character.
        let mut text = self.tokenizer.decode_stream(true);
        let mut sequence = self.sampler.sequence(self.arguments.sampling.seed, &self.prompt);
        let mut written = 0;
        while written < self.arguments.tokens as usize {
            if self.arguments.verify {
                verify::logits(written, &logits)?;
            }
            let before = self.arguments.verify.then(|| sequence.clone());
            let sampled = self.place.sample(&mut sequence, &self.sampler, &logits);
            let sampled = sampled.with_context(|| format!("step {written}"))?;
            if let Some(before) = before {
                verify::token(&before, &logits, self.sampler.config(), sampled.token)?;
            }
            if self.ends.contains(&sampled.token) {
                break;
            }
            written += 1;
            if let Some(piece) =
                text.step(sampled.token).map_err(|e| anyhow!("the tokenizer can't decode a token: {e}"))?
            {
                stdout.write_all(piece.as_bytes()).and_then(|()| stdout.flush()).context("can't write to stdout")?;
            }
            if written < self.arguments.tokens as usize {
                logits = read(&mut self.model, self.place.device(), &[sampled.token])?;
            }
        }
        stdout.write_all(b"\n").context("can't write to stdout")?;
        let writing = start.elapsed();
        let verified = if self.arguments.verify { ", each verified" } else { "" };
        Ok(format!("read {}; wrote {}{verified}", speed(self.prompt.len(), reading), speed(written, writing)))
    }
}

/// Reads tokens, and returns the logits of the next token.
fn read(model: &mut Model<Evenkeel>, device: &Device, tokens: &[u32]) -> Result<Vec<f32>> {
    let chunks = tokens.chunks(CHUNK);
    let progress = Progress::new(chunks.len(), "parts of the prompt");
    let mut logits = Vec::new();
    for chunk in chunks {
        let tokens = Tensor::new(chunk, device)?.unsqueeze(0)?;
        logits = model.forward(&tokens, None)?.squeeze(0)?.to_vec1()?;
        progress.step();
    }
    Ok(logits)
}

fn speed(tokens: usize, time: Duration) -> String {
    format!("{tokens} tokens in {:.2} s ({:.1} per second)", time.as_secs_f64(), tokens as f64 / time.as_secs_f64())
}
