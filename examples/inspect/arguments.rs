//! The command line.

use clap::{Parser, ValueEnum};
use evenkeel::checkpoint::{Level, Thresholds};
use std::path::PathBuf;

/// Reads a checkpoint in parts, whatever its size, and says what its tensors hold, the worst first.
#[derive(Parser)]
#[command(name = "inspect", max_term_width = 120, after_help = help())]
pub struct Arguments {
    /// A safetensors or GGUF file, an index of shards (model.safetensors.index.json), or a folder of one of these.
    #[arg(value_name = "CHECKPOINT")]
    pub checkpoint: PathBuf,
    /// Writes all of it as JSON; `-` is stdout, in place of the table.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Draws the magnitudes of the worst tensor.
    #[arg(long, value_name = "FILE.svg")]
    pub histogram: Option<PathBuf>,
    /// Sets a threshold; may be given again.
    #[arg(long, value_name = "NAME=VALUE", value_parser = threshold)]
    pub warn: Vec<(String, f64)>,
    /// From which findings on the exit status is 1.
    #[arg(long, value_enum, value_name = "LEVEL", default_value_t = FailOn::Error)]
    pub fail_on: FailOn,
    /// How many tensors the table has at most; 0 is all.
    #[arg(long, value_name = "N", default_value_t = 40)]
    pub top: usize,
}

/// The least level that makes a failure.
#[derive(Clone, Copy, ValueEnum)]
pub enum FailOn {
    Warning,
    Error,
    Never,
}

impl FailOn {
    /// Whether a finding of this level is a failure.
    pub fn includes(self, level: Level) -> bool {
        match self {
            FailOn::Warning => level >= Level::Warning,
            FailOn::Error => level >= Level::Error,
            FailOn::Never => false,
        }
    }
}

impl Arguments {
    /// The default thresholds, but those that were set.
    pub fn thresholds(&self) -> Thresholds {
        let mut thresholds = Thresholds::default();
        for (name, value) in &self.warn {
            if let Some(threshold) = thresholds.named(name) {
                *threshold = *value;
            }
        }
        thresholds
    }
}

fn threshold(text: &str) -> Result<(String, f64), String> {
    let (name, value) = text.split_once('=').ok_or("NAME=VALUE is taken")?;
    if Thresholds::default().named(name).is_none() {
        return Err(format!("there are {}", Thresholds::NAMES.join(", ")));
    }
    match value.parse() {
        Ok(number) if number >= 0.0 => Ok((name.into(), number)),
        _ => Err(format!("{name} is {value}; it must be a number from 0")),
    }
}

fn help() -> String {
    let mut defaults = Thresholds::default();
    let mut one = |name: &&str| format!("{name}={}", defaults.named(name).copied().unwrap_or_default());
    let thresholds: Vec<String> = Thresholds::NAMES.iter().map(&mut one).collect();
    format!(
        "Thresholds, shares of 1 but for nan, infinite, norm_*, embedding_* and constant:\n  {}\n\n\
         Exit status: 0, nothing found at or above --fail-on; 1, something; 2, bad usage or what can't be read or \
         written.",
        thresholds.join(" ")
    )
}
