//! The command line.

use clap::{ArgGroup, Parser};
use std::path::PathBuf;

/// The seed and the steps of the committed weights.
pub const SEED: u64 = 1;
pub const STEPS: u32 = 800;

const EXAMPLES: &str = "Examples:
  train_tiny --out mine.safetensors --seed 7
      trains another model, for generate --model mine.safetensors --prompt TEXT
  train_tiny --check
      trains the committed one again, and compares each bit
  train_tiny --collect
      prints the documentation's text as it is now

Exit status: 0, 1 when --check found a difference, 2 when something that was given can't be used.";

/// Trains the tiny model that generate has built in, on this repository's documentation.
#[derive(Parser)]
#[command(name = "train_tiny", max_term_width = 120, after_help = EXAMPLES)]
#[command(group = ArgGroup::new("what").required(true).args(["out", "check", "collect"]))]
pub struct Arguments {
    /// Where to write the weights; nothing is there before all of them are.
    #[arg(long, value_name = "FILE.safetensors")]
    pub out: Option<PathBuf>,
    /// Train with the committed seed and compare with the committed weights.
    #[arg(long)]
    pub check: bool,
    /// Print the text that there is to learn now; the committed one is examples/train_tiny/corpus.txt.
    #[arg(long)]
    pub collect: bool,
    /// Makes the first weights and the batches: the same seed makes the same model.
    #[arg(long, default_value_t = SEED, conflicts_with_all = ["check", "collect"], allow_negative_numbers = true)]
    pub seed: u64,
    /// Batches to learn from.
    #[arg(long, value_name = "N", default_value_t = STEPS, conflicts_with_all = ["check", "collect"],
        value_parser = clap::value_parser!(u32).range(1..=100_000), allow_negative_numbers = true)]
    pub steps: u32,
}
