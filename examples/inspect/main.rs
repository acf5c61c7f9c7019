//! Prints statistics of the tensors of a checkpoint: a table with the worst first, JSON, or a histogram.
//!
//! `cargo run --release -p inspect -- FILE`; `--help` lists the options.

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

/// Exit status if there are findings at or above the level of `--fail-on`.
const FOUND: u8 = 1;
/// Exit status if a file could not be read or written.
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
