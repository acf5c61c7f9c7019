//! Text from a decoder-only transformer on candle tensors, whose norms, rotary embedding, softmax, activation and
//! sampler are Evenkeel's.
//!
//! With `--model FILE.gguf` it runs a checkpoint. Without arguments it needs nothing but this repository: it plays
//! failures that were met in the field, the arithmetic that fails beside Evenkeel's that does not, and writes a text with
//! a tiny model that is built in. `--prompt` has that model go on from another text.

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

/// What the built-in model goes on from unless something else is asked for.
const PROMPT: &str = "A row";

/// `--verify` found a token that must not have been drawn.
const WRONG: u8 = 1;
/// Something that was given can't be used.
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
