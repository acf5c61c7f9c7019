//! Trains the tiny model that `generate` has built in: a decoder of under a million weights on candle's autograd and
//! AdamW, whose norms, rotary embedding, softmax, activation, loss and clipping are Evenkeel's.
//!
//! With `--run` another, smaller one, which is watched: in f32, bf16 or f16, with guards or without.
//!
//! It learns this repository's documentation, as `examples/train/corpus.txt` keeps it, and nothing else. The
//! committed weights, `examples/generate/tiny.safetensors`, are what the defaults make:
//!
//! ```sh
//! cargo run --release -p generate --bin train --features train -- --out examples/generate/tiny.safetensors
//! cargo run --release -p generate --bin train --features train -- --check # the same bits again?
//! ```

#![forbid(unsafe_code)]

mod arguments;
mod corpus;
mod cost;
mod decoder;
#[path = "../support/generated.rs"]
mod generated;
mod merges;
mod ops;
#[path = "../support/out.rs"]
mod out;
mod picture;
#[path = "../support/progress.rs"]
mod progress;
mod run;
#[path = "../support/tiny.rs"]
mod tiny;
mod training;

use anyhow::{Context, Result};
use arguments::{Arguments, SEED, STEPS};
use clap::Parser;
use out::Out;
use std::path::Path;
use std::process::ExitCode;

/// `--check` found a difference.
const DIFFERENT: u8 = 1;
/// A run came to a loss that is not finite.
const BROKEN: u8 = 1;
/// Something that was given can't be used.
const UNUSABLE: u8 = 2;

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("train: {error:#}");
            ExitCode::from(UNUSABLE)
        }
    }
}

fn run(arguments: &Arguments) -> Result<ExitCode> {
    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."));
    if arguments.collect {
        print!("{}", corpus::collect(root)?);
        return Ok(ExitCode::SUCCESS);
    }
    if arguments.check {
        return check(&root.join("examples/generate/tiny.safetensors"));
    }
    if let Some(folder) = &arguments.watched.run {
        return Ok(if run::run(arguments, folder)? { ExitCode::SUCCESS } else { ExitCode::from(BROKEN) });
    }
    let out = arguments.out.as_deref().context("there is no --out")?;
    // Refuses what can't be written before minutes are spent.
    let place = Out::new(out)?;
    let weights = training::train(corpus::COMMITTED, arguments.seed, arguments.steps)?;
    place.write(&weights)?.rename()?;
    eprintln!("{}: {} bytes", out.display(), weights.len());
    Ok(ExitCode::SUCCESS)
}

/// Makes the committed weights again.
fn check(path: &Path) -> Result<ExitCode> {
    let shown = path.display();
    let committed = std::fs::read(path).with_context(|| format!("can't read {shown}"))?;
    let again = training::train(corpus::COMMITTED, SEED, STEPS)?;
    if again == committed {
        println!("{shown}: the same {} bytes", again.len());
        return Ok(ExitCode::SUCCESS);
    }
    let first = again.iter().zip(&committed).position(|(a, b)| a != b).unwrap_or(again.len().min(committed.len()));
    println!("{shown}: of {} bytes, {} now, byte {first} is the first that differs", committed.len(), again.len());
    Ok(ExitCode::from(DIFFERENT))
}
