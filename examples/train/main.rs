//! Trains the tiny model that is built into `generate`. It is a decoder with under a million weights, on candle's
//! autograd and AdamW. Norms, rotary embedding, softmax, activation, loss and clipping are Evenkeel's.
//!
//! With `--run`, it trains and monitors a smaller model in f32, bf16 or f16, with or without guards.
//!
//! The training text is this repository's documentation, as stored in `examples/train/corpus.txt`. The committed
//! weights, `examples/generate/tiny.safetensors`, are the result of the default options:
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

/// Exit status if `--check` finds a difference.
const DIFFERENT: u8 = 1;
/// Exit status if the loss of a run becomes non-finite.
const BROKEN: u8 = 1;
/// Exit status if an argument or a file can't be used.
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
    let out = arguments.out.as_deref().context("the option `--out` is missing")?;
    // If the file can't be written, the program fails here, and not after minutes of training.
    let place = Out::new(out)?;
    let weights = training::train(corpus::COMMITTED, arguments.seed, arguments.steps)?;
    place.write(&weights)?.rename()?;
    eprintln!("{}: {} bytes", out.display(), weights.len());
    Ok(ExitCode::SUCCESS)
}

/// Trains the committed weights again, and compares the bytes.
fn check(path: &Path) -> Result<ExitCode> {
    let shown = path.display();
    let committed = std::fs::read(path).with_context(|| format!("can't read {shown}"))?;
    let again = training::train(corpus::COMMITTED, SEED, STEPS)?;
    if again == committed {
        println!("{shown}: all {} bytes are equal", again.len());
        return Ok(ExitCode::SUCCESS);
    }
    let first = again.iter().zip(&committed).position(|(a, b)| a != b).unwrap_or(again.len().min(committed.len()));
    println!(
        "{shown}: {} bytes are committed, {} are new; the first difference is at byte {first}",
        committed.len(),
        again.len()
    );
    Ok(ExitCode::from(DIFFERENT))
}
