//! The command line.

use crate::plan::Choice;
use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;

/// Compares evenkeel with its competitors.
#[derive(Parser)]
pub struct Arguments {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Subcommand)]
pub enum Command {
    /// Writes the chosen cases for peers.py.
    Cases {
        #[command(flatten)]
        choice: Choice,
        /// The file to write.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Times the contenders of this program.
    Time(Time),
    /// Makes the table and the picture of what was timed.
    Report {
        /// The folder to write them to.
        #[arg(long, value_name = "FOLDER")]
        docs: PathBuf,
        /// Files that `time` and peers.py wrote.
        #[arg(required = true)]
        runs: Vec<PathBuf>,
    },
}

#[derive(Args)]
pub struct Time {
    #[command(flatten)]
    pub choice: Choice,
    /// The library that `rten/` is built to; without it rten is left out.
    #[arg(long, value_name = "FILE")]
    pub rten: Option<PathBuf>,
    /// Times evenkeel on so many threads too, beside one.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub threads: usize,
    /// The file to write.
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
}
