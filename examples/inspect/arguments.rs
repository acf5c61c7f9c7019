//! The command line.

use clap::{Parser, ValueEnum};
use evenkeel::checkpoint::{Level, Thresholds};
use std::path::PathBuf;

/// Reads a checkpoint of any size in chunks, and prints statistics of its tensors, the worst first.
#[derive(Parser)]
#[command(name = "inspect", max_term_width = 120, after_help = help())]
pub struct Arguments {
    /// A safetensors or GGUF file, an index of shards (model.safetensors.index.json), or a folder with one of these.
    #[arg(value_name = "CHECKPOINT")]
    pub checkpoint: PathBuf,
    /// Writes the full report as JSON; `-` prints it on stdout instead of the table.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Draws a histogram of the magnitudes of one tensor: the worst one, among the tensors that have statistics.
    #[arg(long, value_name = "FILE.svg")]
    pub histogram: Option<PathBuf>,
    /// Sets a threshold; repeat the option to set several.
    #[arg(long, value_name = "NAME=VALUE", value_parser = threshold)]
    pub warn: Vec<(String, f64)>,
    /// Lowest level of a finding that makes the exit status 1.
    #[arg(long, value_enum, value_name = "LEVEL", default_value_t = FailOn::Error)]
    pub fail_on: FailOn,
    /// Largest number of tensors in the table; 0 shows all.
    #[arg(long, value_name = "N", default_value_t = 40)]
    pub top: usize,
}

/// Lowest level of a finding that counts as a failure.
#[derive(Clone, Copy, ValueEnum)]
pub enum FailOn {
    Warning,
    Error,
    Never,
}

impl FailOn {
    /// Returns whether a finding of this level is a failure.
    pub fn includes(self, level: Level) -> bool {
        match self {
            FailOn::Warning => level >= Level::Warning,
            FailOn::Error => level >= Level::Error,
            FailOn::Never => false,
        }
    }
}

impl Arguments {
    /// Returns the default thresholds, with the options applied.
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
    let (name, value) = text.split_once('=').ok_or("a threshold must have the form NAME=VALUE")?;
    if Thresholds::default().named(name).is_none() {
        return Err(format!("the threshold `{name}` is unknown; it must be one of {}", Thresholds::NAMES.join(", ")));
    }
    match value.parse() {
        Ok(number) if number >= 0.0 => Ok((name.into(), number)),
        _ => Err(format!("{name} is {value}; it must be a number of at least 0")),
    }
}

fn help() -> String {
    let mut defaults = Thresholds::default();
    let mut one = |name: &&str| format!("{name}={}", defaults.named(name).copied().unwrap_or_default());
    let thresholds: Vec<String> = Thresholds::NAMES.iter().map(&mut one).collect();
    format!(
        "Thresholds (all are fractions from 0 to 1, except nan, infinite, norm_*, embedding_* and constant):\n  {}\n\n\
         The column |x| 99 % is a quantile of the magnitudes. It is exact for types of up to 16 bits, within 0.4 % for \
         F32 and quantised types, and within 3.2 % for F64.\n\n\
         Exit status: 0 without findings at or above --fail-on; 1 with such findings; 2 for wrong usage, or if a file \
         can't be read or written.",
        thresholds.join(" ")
    )
}
