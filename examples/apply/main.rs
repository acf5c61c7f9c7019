//! One op at a time, from files: checks Evenkeel against another framework without writing Rust.
//!
//! Tensors come from a safetensors file, the ops to run from a JSON file, and results go to another safetensors file.
//! `--help` says how, and lists every op with its inputs, attributes and outputs.

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

/// What could not be read or written at all.
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
