//! Detects kernels whose parts are no longer inlined. Such a kernel returns the same bits, but is a hundred times
//! slower.
//!
//! `codegen-check counts` runs each op under callgrind with AVX2 and with portable code. It compares the instructions
//! per element with the counts in `counts.tsv`. Callgrind does not support AVX-512, so `codegen-check kernels` also
//! inspects the program's machine code: which functions a kernel calls, and whether it uses the registers of its
//! instruction set.
//!
//! Run the program in this folder, whose `.cargo/config.toml` enables the name mangling that identifies kernels.

#![forbid(unsafe_code)]

mod callgrind;
mod cases;
mod counts;
mod error;
mod kernels;

#[allow(dead_code, reason = "the tests use more of it")]
#[path = "../../../tests/support/call.rs"]
mod call;

use clap::{Parser, Subcommand};
use error::{Error, Result};
use std::process::ExitCode;

/// Finds kernels of Evenkeel whose parts the compiler no longer inlines.
///
/// The exit status is 1 if there is such a kernel.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Compare the instructions per element with `counts.tsv`; needs valgrind.
    Counts {
        /// Write counts to `counts.tsv` instead of comparing: the counts of these ops, or of all ops if none is given.
        #[arg(long, value_name = "OP", num_args = 0..)]
        write: Option<Vec<String>>,
    },
    /// Inspect which functions kernels call and which registers they use; needs objdump.
    Kernels,
    /// Run every op once in each type, for callgrind to count the instructions.
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

/// Runs a command, and returns whether its check passed.
fn run(command: &Command) -> Result<bool> {
    if std::env::var_os("CARGO_INCREMENTAL").is_some_and(|value| value == "1") {
        return Err(Error::Incremental);
    }
    match command {
        Command::Counts { write: Some(ops) } => counts::write(ops).map(|()| true),
        Command::Counts { write: None } => counts::check(),
        Command::Kernels => kernels::check(),
        Command::Run => cases::run().map(|()| true),
    }
}
