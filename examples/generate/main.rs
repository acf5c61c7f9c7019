//! Text from a decoder-only transformer on candle tensors, whose norms, rotary embedding, softmax, activation and
//! sampler are Evenkeel's.
//!
//! With `--model FILE.gguf` it runs a checkpoint. Without arguments it needs nothing but this repository, and plays
//! failures that were met in the field: the arithmetic that fails, beside Evenkeel's that does not.

#![forbid(unsafe_code)]

mod arguments;
mod chat;
mod checkpoint;
mod model;
mod ops;
#[path = "../support/progress.rs"]
mod progress;
mod scenes;
mod text;
mod tokenizer;
mod verify;

use arguments::Arguments;
use clap::Parser;
use std::process::ExitCode;

/// `--verify` found a token that must not have been drawn.
const WRONG: u8 = 1;
/// Something that was given can't be used.
const UNUSABLE: u8 = 2;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = match &arguments.model {
        Some(model) => text::run(model, &arguments),
        None => scenes::play(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("generate: {error:#}");
            ExitCode::from(if error.is::<verify::Wrong>() { WRONG } else { UNUSABLE })
        }
    }
}
