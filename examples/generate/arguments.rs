//! The command line.

use clap::{Args, Parser};
use evenkeel::SamplerConfig;
use std::path::PathBuf;

const EXAMPLES: &str = "Examples:
  generate
      plays failures that were met in the field beside arithmetic that does not fail, then writes a text with the
      model that is built in
  generate --prompt \"Masks are\" --tokens 100 --top-p 0.9 --seed 2
      has that model go on from a text
  generate --model SmolLM2-135M-Instruct.Q4_1.gguf --chat --prompt \"What does a keel do?\" \\
      --temperature 0.7 --top-p 0.9 --top-k 50 --seed 1
      answers; the same seed gives the same answer

The text goes to stdout, speed and what the guards met to stderr. Exit status: 0, 1 when --verify found a wrong token,
2 when something that was given can't be used.";

/// Text from a Llama-family checkpoint or from a tiny model that is built in; without a prompt, scenes of numerics that
/// fail and numerics that do not come first.
#[derive(Parser)]
#[command(name = "generate", max_term_width = 120, after_help = EXAMPLES)]
pub struct Arguments {
    /// A checkpoint of the Llama family with its tokenizer inside, or a tiny model, FILE.safetensors, of train_tiny.
    #[arg(long, value_name = "FILE.gguf", requires = "prompt")]
    pub model: Option<PathBuf>,
    /// What the text starts with, or the question with --chat.
    #[arg(long, value_name = "TEXT")]
    pub prompt: Option<String>,
    /// Ask as a user, in the checkpoint's own chat format, rather than have the prompt continued.
    #[arg(long, requires = "model")]
    pub chat: bool,
    /// The most tokens to write; fewer when the model ends its text.
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..))]
    pub tokens: u32,
    #[command(flatten)]
    pub sampling: Sampling,
    /// Compare each step with a plain definition: no NaN among the logits, the token among those that filters keep.
    #[arg(long)]
    pub verify: bool,
}

/// How tokens are drawn.
#[derive(Args)]
pub struct Sampling {
    /// Divides the logits; 0 always takes the likeliest token. 1 by default, 0.5 for a tiny model.
    #[arg(long, value_name = "T", allow_negative_numbers = true)]
    temperature: Option<f64>,
    /// Keeps the K likeliest tokens.
    #[arg(long, value_name = "K", allow_negative_numbers = true)]
    top_k: Option<usize>,
    /// Keeps the likeliest tokens that together have at least this probability.
    #[arg(long, value_name = "P", allow_negative_numbers = true)]
    top_p: Option<f64>,
    /// Keeps tokens at least this probable, in parts of the likeliest one's probability.
    #[arg(long, value_name = "P", allow_negative_numbers = true)]
    min_p: Option<f64>,
    /// Makes the draws: the same seed makes the same ones.
    #[arg(long, default_value_t = 0, allow_negative_numbers = true)]
    pub seed: u64,
}

impl Sampling {
    /// It as the sampler's options, not checked yet; with a temperature where none was asked for.
    pub fn config(&self, temperature: f64) -> SamplerConfig {
        let mut config = SamplerConfig::default().temperature(self.temperature.unwrap_or(temperature));
        config.top_k = self.top_k;
        config.top_p = self.top_p;
        config.min_p = self.min_p;
        config
    }
}
