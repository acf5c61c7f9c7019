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
    /// Write the chosen cases for peers.py.
    Cases {
        #[command(flatten)]
        choice: Choice,
        /// File to write.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Time the contenders of this program.
    Time(Time),
    /// Write the page, the raw data and the picture of the timed runs.
    Report {
        /// Folder for the page, the raw data and the picture.
        #[arg(long, value_name = "FOLDER")]
        docs: PathBuf,
        /// Files that `time` and peers.py wrote; without them, the raw data in the folder is read.
        runs: Vec<PathBuf>,
    },
}

#[derive(Args)]
pub struct Time {
    #[command(flatten)]
    pub choice: Choice,
    /// Library built from `rten/`; rten is skipped without it.
    #[arg(long, value_name = "FILE")]
    pub rten: Option<PathBuf>,
    /// Time evenkeel also on this many threads.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub threads: usize,
    /// File to write.
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
}
