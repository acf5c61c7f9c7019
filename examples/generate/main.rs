//! Generates text with a decoder-only transformer on candle tensors. Norms, rotary embedding, softmax, activation and
//! sampler are Evenkeel's.
//!
//! With `--model FILE.gguf` it runs a checkpoint. Without arguments it needs only this repository: it replays numerical
//! failures reported in the field, next to Evenkeel's results, and writes a text with a tiny built-in model. `--prompt`
//! makes that model continue another text.

#![forbid(unsafe_code)]

mod arguments;
mod chat;
mod checkpoint;
mod model;
mod ops;
mod place;
mod pretrained;
#[path = "../support/progress.rs"]
mod progress;
mod scenes;
mod text;
#[path = "../support/tiny.rs"]
mod tiny;
mod tokenizer;
mod trained;
mod verify;

use anyhow::Result;
use arguments::Arguments;
use checkpoint::Checkpoint;
use clap::Parser;
use std::process::ExitCode;
use text::Text;
use trained::Trained;

/// Default prompt for the built-in model.
const PROMPT: &str = "A row";

/// Exit status if `--verify` found a token that the filters do not keep.
const WRONG: u8 = 1;
/// Exit status if an argument or a file can't be used.
const UNUSABLE: u8 = 2;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("generate: {error:#}");
            ExitCode::from(if error.is::<verify::Wrong>() { WRONG } else { UNUSABLE })
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    let prompt = arguments.prompt.as_deref();
    match &arguments.model {
        Some(path) if path.extension().is_some_and(|extension| extension == "safetensors") => {
            Text::new(Trained::open(path)?, prompt.unwrap_or_default(), arguments)?.write()
        }
        Some(path) => Text::new(Checkpoint::open(path)?, prompt.unwrap_or_default(), arguments)?.write(),
        None => {
            let text = Text::new(Trained::built_in()?, prompt.unwrap_or(PROMPT), arguments)?;
            if prompt.is_none() {
                scenes::play(PROMPT)?;
            }
            text.write()
        }
    }
}
