//! What the tensors of a checkpoint hold: a table with the worst first, and the same as JSON and as a picture.
//!
//! `cargo run --release -p inspect -- FILE`; `--help` says the rest.

#![forbid(unsafe_code)]

mod arguments;
#[path = "../support/out.rs"]
mod out;
mod picture;
#[path = "../support/progress.rs"]
mod progress;
mod report;
mod run;
mod table;

use arguments::Arguments;
use clap::Parser;
use std::process::ExitCode;

/// There are findings at or above the level of `--fail-on`.
const FOUND: u8 = 1;
/// What could not be read or written at all.
const UNUSABLE: u8 = 2;

fn main() -> ExitCode {
    match run::run(&Arguments::parse()) {
        Ok(false) => ExitCode::SUCCESS,
        Ok(true) => ExitCode::from(FOUND),
        Err(error) => {
            eprintln!("inspect: {error:#}");
            ExitCode::from(UNUSABLE)
        }
    }
}
