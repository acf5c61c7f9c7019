//! The command line.

use clap::{ArgGroup, Args, Parser, ValueEnum};
use std::path::PathBuf;

/// The seed and the steps of the committed weights.
pub const SEED: u64 = 1;
pub const STEPS: u32 = 800;

const EXAMPLES: &str = "Examples:
  train --run runs/f16 --dtype f16 --steps 10000
      a small model in f16, watched: a log, event files for TensorBoard, a picture, a state to go on from
  train --run runs/careless --dtype f16 --no-guards
      the same as many loops are written, until it breaks
  train --out mine.safetensors --seed 7
      trains another model, for generate --model mine.safetensors --prompt TEXT
  train --check
      trains the committed one again, and compares each bit
  train --collect
      prints the documentation's text as it is now

Exit status: 0, 1 when --check found a difference or a run broke, 2 when something that was given can't be used.";

/// Trains small models on this repository's documentation: the one that generate has built in, or one to watch.
#[derive(Parser)]
#[command(name = "train", max_term_width = 120, after_help = EXAMPLES)]
#[command(group = ArgGroup::new("what").required(true).args(["out", "check", "collect", "run"]))]
pub struct Arguments {
    /// Where to write the weights; nothing is there before all of them are.
    #[arg(long, value_name = "FILE.safetensors")]
    pub out: Option<PathBuf>,
    /// Train with the committed seed and compare with the committed weights.
    #[arg(long)]
    pub check: bool,
    /// Print the text that there is to learn now; the committed one is examples/train/corpus.txt.
    #[arg(long)]
    pub collect: bool,
    /// Makes the first weights and the batches: the same seed makes the same model.
    #[arg(long, default_value_t = SEED, conflicts_with_all = ["check", "collect"], allow_negative_numbers = true)]
    pub seed: u64,
    /// Batches to learn from.
    #[arg(long, value_name = "N", default_value_t = STEPS, conflicts_with_all = ["check", "collect"],
        value_parser = clap::value_parser!(u32).range(1..=100_000), allow_negative_numbers = true)]
    pub steps: u32,
    #[command(flatten)]
    pub watched: Watched,
}

/// Of a run that is watched.
#[derive(Args)]
pub struct Watched {
    /// A folder for what a run leaves: run.jsonl, run.svg, event files, state.safetensors.
    #[arg(long, value_name = "FOLDER")]
    pub run: Option<PathBuf>,
    /// The type of weights and activations.
    #[arg(long, value_enum, default_value_t = Dtype::F32, requires = "run")]
    pub dtype: Dtype,
    /// Texts in a step.
    #[arg(long, value_name = "N", default_value_t = 32, requires = "run",
        value_parser = clap::value_parser!(u32).range(1..=256), allow_negative_numbers = true)]
    pub batch: u32,
    /// Books' formulas in the model's own type, candle's optimiser, no clipping, no loss scaling.
    #[arg(long, requires = "run", conflicts_with = "resume")]
    pub no_guards: bool,
    /// Time steps with guards, clipping and the monitor, and without, by turns.
    #[arg(long, requires = "run", conflicts_with_all = ["no_guards", "resume"])]
    pub cost: bool,
    /// Go on from the folder's state.
    #[arg(long, requires = "run")]
    pub resume: bool,
    /// Steps from one state that is kept to the next.
    #[arg(long, value_name = "N", default_value_t = 1000, requires = "run",
        value_parser = clap::value_parser!(u32).range(1..), allow_negative_numbers = true)]
    pub save_every: u32,
}

/// A type of weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Dtype {
    F32,
    Bf16,
    F16,
}
