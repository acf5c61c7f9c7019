//! Runs single ops on tensors from files, to compare Evenkeel with another framework without writing Rust.
//!
//! A safetensors file holds the input tensors, and a JSON file lists the ops to run. The results are written to another
//! safetensors file. `--help` explains the format, and lists every op with its inputs, attributes and outputs.

#![forbid(unsafe_code)]

mod answer;
mod arguments;
mod call;
mod jobs;
mod ops;
#[path = "../support/out.rs"]
mod out;
#[path = "../support/progress.rs"]
mod progress;
mod run;
mod tensors;

use arguments::Arguments;
use clap::Parser;
use std::process::ExitCode;

/// Exit status if a file could not be read or written.
const UNUSABLE: u8 = 2;

fn main() -> ExitCode {
    match run::run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("apply: {error:#}");
            ExitCode::from(UNUSABLE)
        }
    }
}
