//! `watch`: a kernel whose pieces are no longer inlined gives the same bits and takes a hundred times as long.
//!
//! `watch counts` runs each op under callgrind with AVX2 and with portable code, and compares the instructions for an
//! element with those of `counts.tsv`. Callgrind has no AVX-512, so `watch kernels` reads the program's machine code
//! too: what a kernel calls, and whether it has the registers of its instruction set.
//!
//! Run it in this folder, whose `.cargo/config.toml` has names written so that they say which kernel they are.

#![forbid(unsafe_code)]

mod callgrind;
mod cases;
mod counts;
mod error;
mod kernels;

#[allow(dead_code, reason = "the tests ask more of a call")]
#[path = "../../../tests/support/call.rs"]
mod call;

use clap::{Parser, Subcommand};
use error::Result;
use std::process::ExitCode;

/// Finds kernels of Evenkeel into which the compiler no longer inlines.
///
/// The exit status is 1 where it found one.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Compare the instructions for an element with `counts.tsv`; needs valgrind.
    Counts {
        /// Write `counts.tsv` anew instead.
        #[arg(long)]
        write: bool,
    },
    /// Look at what kernels call and which registers they use; needs objdump.
    Kernels,
    /// Run every op once, in each type: what is counted.
    #[command(hide = true)]
    Run,
}

fn main() -> ExitCode {
    match run(&Arguments::parse().command) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}

/// Whether all is as it should be.
fn run(command: &Command) -> Result<bool> {
    match command {
        Command::Counts { write: true } => counts::write().map(|()| true),
        Command::Counts { write: false } => counts::check(),
        Command::Kernels => kernels::check(),
        Command::Run => cases::run().map(|()| true),
    }
}
