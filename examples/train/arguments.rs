//! The command line.

use clap::{ArgGroup, Args, Parser, ValueEnum};
use std::path::PathBuf;

/// Seed and number of steps of the committed weights.
pub const SEED: u64 = 1;
pub const STEPS: u32 = 800;

const EXAMPLES: &str = "Examples:
  train --run runs/f16 --dtype f16 --steps 10000
      a small model in f16, monitored: a log, event files for TensorBoard, a plot, and a state to resume from
  train --run runs/careless --dtype f16 --no-guards
      the same as a typical unguarded training loop, until it diverges
  train --out mine.safetensors --seed 7
      trains another model, for generate --model mine.safetensors --prompt TEXT
  train --check
      trains the committed model again, and compares every byte
  train --collect
      prints the current text of the documentation

Exit status: 0; 1 if --check finds a difference or a run diverges; 2 if an argument or a file can't be used.";

/// Trains a small model on this repository's documentation. The model is the one that `generate` contains, or with
/// `--run` the one of a monitored run.
#[derive(Parser)]
#[command(name = "train", max_term_width = 120, after_help = EXAMPLES)]
#[command(group = ArgGroup::new("what").required(true).args(["out", "check", "collect", "run"]))]
pub struct Arguments {
    /// Write the weights to this file, once training is complete.
    #[arg(long, value_name = "FILE.safetensors")]
    pub out: Option<PathBuf>,
    /// Train with the committed seed, and compare the result with the committed weights.
    #[arg(long)]
    pub check: bool,
    /// Collect the training text from the current documentation, and print it; the committed text is
    /// examples/train/corpus.txt.
    #[arg(long)]
    pub collect: bool,
    /// Seed of the initial weights and of the batches; the same seed makes the same model.
    #[arg(long, default_value_t = SEED, conflicts_with_all = ["check", "collect"], allow_negative_numbers = true)]
    pub seed: u64,
    /// Number of training steps, one batch each.
    #[arg(long, value_name = "N", default_value_t = STEPS, conflicts_with_all = ["check", "collect"],
        value_parser = clap::value_parser!(u32).range(1..=100_000), allow_negative_numbers = true)]
    pub steps: u32,
    #[command(flatten)]
    pub watched: Watched,
}

/// Options of a monitored run.
#[derive(Args)]
pub struct Watched {
    /// Folder for the files of a run: run.jsonl, run.svg, event files, state.safetensors.
    #[arg(long, value_name = "FOLDER")]
    pub run: Option<PathBuf>,
    /// Type of weights and activations.
    #[arg(long, value_enum, default_value_t = Dtype::F32, requires = "run")]
    pub dtype: Dtype,
    /// Number of texts per step.
    #[arg(long, value_name = "N", default_value_t = 32, requires = "run",
        value_parser = clap::value_parser!(u32).range(1..=256), allow_negative_numbers = true)]
    pub batch: u32,
    /// Use candle's optimizer, and textbook formulas in the model's own type, without clipping and loss scaling.
    #[arg(long, requires = "run", conflicts_with = "resume")]
    pub no_guards: bool,
    /// Measure the time of plain steps, and of steps with clipping, loss scaling and the monitor, in alternation.
    #[arg(long, requires = "run", conflicts_with_all = ["no_guards", "resume"])]
    pub cost: bool,
    /// Resume from the state in the folder.
    #[arg(long, requires = "run")]
    pub resume: bool,
    /// Number of steps between saved states.
    #[arg(long, value_name = "N", default_value_t = 1000, requires = "run",
        value_parser = clap::value_parser!(u32).range(1..), allow_negative_numbers = true)]
    pub save_every: u32,
}

/// Type of the weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Dtype {
    F32,
    Bf16,
    F16,
}
