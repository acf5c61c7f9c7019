//! The command line.

use crate::place::Wanted;
use clap::{Args, Parser};
use evenkeel::{Profile, SamplerConfig};
use std::path::PathBuf;

const EXAMPLES: &str = "Examples:
  generate
      plays failures that were met in the field beside arithmetic that does not fail, then writes a text with the
      model that is built in
  generate --prompt \"Masks are\" --tokens 100 --top-p 0.9 --seed 2
      has that model go on from a text
  generate --prompt \"Masks are\" --profile llama_cpp --min-p 0.05 --repetition-penalty 1.1
      draws as llama.cpp would
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
    /// A checkpoint of the Llama family with its tokenizer inside, or a tiny model, FILE.safetensors, of the example train.
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
    /// What computes: auto (the first of neuron, cuda and cpu that is there), neuron, cuda, cuda:N or cpu. CUDA runs the
    /// model, Neuron finds the tokens to draw from; the rest is the CPU's.
    #[arg(long, visible_alias = "device", env = "EVENKEEL_BACKEND", value_name = "BACKEND", default_value = "auto")]
    pub backend: Wanted,
    #[command(flatten)]
    pub sampling: Sampling,
    /// Compare each step with a plain definition: no NaN among the logits, the token among those that filters keep.
    #[arg(long)]
    pub verify: bool,
    /// Look at what each layer makes, and tell on stderr where the first number came from that is not finite.
    #[arg(long)]
    pub trace: bool,
}

/// How tokens are drawn: see `evenkeel::SamplerConfig`, whose fields these are.
#[derive(Args)]
#[command(next_help_heading = "Sampling")]
pub struct Sampling {
    /// Whose rules decide: evenkeel, hf, vllm, llama_cpp or candle.
    #[arg(long, value_name = "ENGINE", default_value = "evenkeel", value_parser = profile)]
    profile: Profile,
    /// Divides the logits; 0 always takes the likeliest token. 1 by default, 0.5 for a tiny model.
    #[arg(long, value_name = "T", allow_negative_numbers = true)]
    temperature: Option<f64>,
    /// Moves the temperature so far to either side, with the entropy.
    #[arg(long, value_name = "RANGE", default_value_t = 0.0, allow_negative_numbers = true)]
    dynamic_temperature: f64,
    /// The exponent of that.
    #[arg(long, value_name = "EXPONENT", default_value_t = 1.0, allow_negative_numbers = true)]
    dynamic_exponent: f64,
    /// Keeps the K likeliest tokens.
    #[arg(long, value_name = "K", allow_negative_numbers = true)]
    top_k: Option<usize>,
    /// Keeps the likeliest tokens that together have at least this probability.
    #[arg(long, value_name = "P", allow_negative_numbers = true)]
    top_p: Option<f64>,
    /// Keeps tokens at least this probable, in parts of the likeliest one's probability.
    #[arg(long, value_name = "P", allow_negative_numbers = true)]
    min_p: Option<f64>,
    /// Keeps the tokens whose surprise is nearest to the entropy and that together have at least this probability.
    #[arg(long, value_name = "P", allow_negative_numbers = true)]
    typical_p: Option<f64>,
    /// Keeps logits within so many standard deviations of the largest.
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    top_n_sigma: Option<f64>,
    /// Keeps tokens at least this probable.
    #[arg(long, value_name = "P", allow_negative_numbers = true)]
    epsilon_cutoff: Option<f64>,
    /// The same, less where the entropy is high.
    #[arg(long, value_name = "P", allow_negative_numbers = true)]
    eta_cutoff: Option<f64>,
    /// How often the top choices are excluded but for the last of them.
    #[arg(long, value_name = "P", default_value_t = 0.0, allow_negative_numbers = true)]
    xtc_probability: f64,
    /// From which probability on a token is a top choice.
    #[arg(long, value_name = "P", default_value_t = 0.1, allow_negative_numbers = true)]
    xtc_threshold: f64,
    /// Filters leave at least so many tokens.
    #[arg(long, value_name = "N", default_value_t = 1)]
    min_keep: usize,
    /// Divides positive logits and multiplies negative ones of tokens that the text has.
    #[arg(long, value_name = "R", default_value_t = 1.0, allow_negative_numbers = true)]
    repetition_penalty: f64,
    /// Is taken off the logits of tokens that were written.
    #[arg(long, value_name = "X", default_value_t = 0.0, allow_negative_numbers = true)]
    presence_penalty: f64,
    /// Is taken off as often as a token was written.
    #[arg(long, value_name = "X", default_value_t = 0.0, allow_negative_numbers = true)]
    frequency_penalty: f64,
    /// How many of the last tokens penalties see; all by default.
    #[arg(long, value_name = "N")]
    penalty_window: Option<usize>,
    /// DRY: what is taken off a token that would prolong a repetition; 0 is off.
    #[arg(long, value_name = "X", default_value_t = 0.0, allow_negative_numbers = true)]
    dry_multiplier: f64,
    /// DRY: grows that for each token more.
    #[arg(long, value_name = "X", default_value_t = 1.75, allow_negative_numbers = true)]
    dry_base: f64,
    /// DRY: how long repetitions may be.
    #[arg(long, value_name = "N", default_value_t = 2)]
    dry_allowed_length: usize,
    /// DRY: how many of the last tokens are searched; all by default.
    #[arg(long, value_name = "N")]
    dry_window: Option<usize>,
    /// Makes the draws: the same seed makes the same ones.
    #[arg(long, default_value_t = 0, allow_negative_numbers = true)]
    pub seed: u64,
}

fn profile(name: &str) -> Result<Profile, String> {
    let names = || Profile::ALL.map(Profile::name).join(", ");
    Profile::from_name(name).ok_or_else(|| format!("there are {}", names()))
}

impl Sampling {
    /// It as the sampler's options, not checked yet; with a temperature where none was asked for.
    pub fn config(&self, temperature: f64) -> SamplerConfig {
        let mut config = SamplerConfig::default().profile(self.profile);
        config.temperature = self.temperature.unwrap_or(temperature);
        config.dynamic_temperature = self.dynamic_temperature;
        config.dynamic_exponent = self.dynamic_exponent;
        config.top_k = self.top_k;
        config.top_p = self.top_p;
        config.min_p = self.min_p;
        config.typical_p = self.typical_p;
        config.top_n_sigma = self.top_n_sigma;
        config.epsilon_cutoff = self.epsilon_cutoff;
        config.eta_cutoff = self.eta_cutoff;
        config.xtc_probability = self.xtc_probability;
        config.xtc_threshold = self.xtc_threshold;
        config.min_keep = self.min_keep;
        config.repetition_penalty = self.repetition_penalty;
        config.presence_penalty = self.presence_penalty;
        config.frequency_penalty = self.frequency_penalty;
        config.penalty_window = self.penalty_window;
        config.dry_multiplier = self.dry_multiplier;
        config.dry_base = self.dry_base;
        config.dry_allowed_length = self.dry_allowed_length;
        config.dry_window = self.dry_window;
        config
    }
}
