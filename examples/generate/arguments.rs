//! The command line.

use crate::place::Wanted;
use clap::{Args, Parser};
use evenkeel::{Profile, SamplerConfig};
use std::path::PathBuf;

const EXAMPLES: &str = "Examples:
  generate
      replays numerical failures reported in the field, next to Evenkeel's results, then writes a text with the
      built-in model
  generate --prompt \"Masks are\" --tokens 100 --top-p 0.9 --seed 2
      continues a text with that model
  generate --prompt \"Masks are\" --profile llama_cpp --min-p 0.05 --repetition-penalty 1.1
      draws tokens by the rules of llama.cpp
  generate --model SmolLM2-135M-Instruct.Q4_1.gguf --chat --prompt \"What does a keel do?\" \\
      --temperature 0.7 --top-p 0.9 --top-k 50 --seed 1
      answers a question; the same seed gives the same answer

The text goes to stdout, the speed and the guards' report to stderr. Exit status: 0; 1 if --verify found a wrong token;
2 if an argument or a file can't be used.";

/// Generates text with a Llama-family checkpoint or with a tiny built-in model. Without a prompt, it first replays
/// numerical failures reported in the field, next to Evenkeel's results.
#[derive(Parser)]
#[command(name = "generate", max_term_width = 120, after_help = EXAMPLES)]
pub struct Arguments {
    /// Llama-family checkpoint that includes its tokenizer. A FILE.safetensors is read as a tiny model of the example
    /// `train`.
    #[arg(long, value_name = "FILE.gguf", requires = "prompt")]
    pub model: Option<PathBuf>,
    /// Beginning of the text, or the question with --chat.
    #[arg(long, value_name = "TEXT")]
    pub prompt: Option<String>,
    /// Send the prompt as a user's message, in the checkpoint's own chat format, instead of continuing it.
    #[arg(long, requires = "model")]
    pub chat: bool,
    /// Largest number of tokens to write; the model may end its text earlier.
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..))]
    pub tokens: u32,
    /// Backend: auto (the first available of neuron, cuda and cpu), neuron, cuda, cuda:N or cpu. CUDA runs the model,
    /// Neuron finds the tokens to draw from; everything else runs on the CPU.
    #[arg(long, visible_alias = "device", env = "EVENKEEL_BACKEND", value_name = "BACKEND", default_value = "auto")]
    pub backend: Wanted,
    #[command(flatten)]
    pub sampling: Sampling,
    /// Check each step against a plain definition: no logit is NaN, and the filters keep the drawn token.
    #[arg(long)]
    pub verify: bool,
    /// Check the result of each layer, and report on stderr where the first non-finite number originated.
    #[arg(long)]
    pub trace: bool,
}

/// Options of the sampler, which are the fields of `evenkeel::SamplerConfig`.
#[derive(Args)]
#[command(next_help_heading = "Sampling")]
pub struct Sampling {
    /// Engine whose sampling rules apply: evenkeel, hf, vllm, llama_cpp or candle.
    #[arg(long, value_name = "ENGINE", default_value = "evenkeel", value_parser = profile)]
    profile: Profile,
    /// Divides the logits; 0 always selects the most likely token. The default is 1, or 0.5 for a tiny model.
    #[arg(long, value_name = "T", allow_negative_numbers = true)]
    temperature: Option<f64>,
    /// Varies the temperature by up to this much in both directions, depending on the entropy.
    #[arg(long, value_name = "RANGE", default_value_t = 0.0, allow_negative_numbers = true)]
    dynamic_temperature: f64,
    /// Exponent of the dynamic temperature.
    #[arg(long, value_name = "EXPONENT", default_value_t = 1.0, allow_negative_numbers = true)]
    dynamic_exponent: f64,
    /// Keeps the K most likely tokens.
    #[arg(long, value_name = "K", allow_negative_numbers = true)]
    top_k: Option<usize>,
    /// Keeps the most likely tokens that together have at least this probability.
    #[arg(long, value_name = "P", allow_negative_numbers = true)]
    top_p: Option<f64>,
    /// Keeps tokens whose probability is at least this fraction of the largest probability.
    #[arg(long, value_name = "P", allow_negative_numbers = true)]
    min_p: Option<f64>,
    /// Keeps the tokens whose surprisal is nearest to the entropy and that together have at least this probability.
    #[arg(long, value_name = "P", allow_negative_numbers = true)]
    typical_p: Option<f64>,
    /// Keeps logits within this many standard deviations of the largest.
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    top_n_sigma: Option<f64>,
    /// Keeps tokens with at least this probability.
    #[arg(long, value_name = "P", allow_negative_numbers = true)]
    epsilon_cutoff: Option<f64>,
    /// Keeps tokens with at least this probability; the cutoff is lower if the entropy is high.
    #[arg(long, value_name = "P", allow_negative_numbers = true)]
    eta_cutoff: Option<f64>,
    /// XTC: probability of excluding all top choices except the least likely one.
    #[arg(long, value_name = "P", default_value_t = 0.0, allow_negative_numbers = true)]
    xtc_probability: f64,
    /// XTC: lowest probability that makes a token a top choice.
    #[arg(long, value_name = "P", default_value_t = 0.1, allow_negative_numbers = true)]
    xtc_threshold: f64,
    /// Filters keep at least this many tokens.
    #[arg(long, value_name = "N", default_value_t = 1)]
    min_keep: usize,
    /// Divides positive logits and multiplies negative logits by this number, for tokens in the prompt or in the text
    /// so far.
    #[arg(long, value_name = "R", default_value_t = 1.0, allow_negative_numbers = true)]
    repetition_penalty: f64,
    /// Number subtracted from the logit of each token that was already written.
    #[arg(long, value_name = "X", default_value_t = 0.0, allow_negative_numbers = true)]
    presence_penalty: f64,
    /// Number subtracted from a token's logit for each time that the token was written.
    #[arg(long, value_name = "X", default_value_t = 0.0, allow_negative_numbers = true)]
    frequency_penalty: f64,
    /// Number of last tokens that penalties consider; all by default.
    #[arg(long, value_name = "N")]
    penalty_window: Option<usize>,
    /// DRY: number subtracted from the logit of a token that would extend a repetition; 0 disables DRY.
    #[arg(long, value_name = "X", default_value_t = 0.0, allow_negative_numbers = true)]
    dry_multiplier: f64,
    /// DRY: factor by which the penalty grows with each further token of the repetition.
    #[arg(long, value_name = "X", default_value_t = 1.75, allow_negative_numbers = true)]
    dry_base: f64,
    /// DRY: length of the shortest repetition that is penalised.
    #[arg(long, value_name = "N", default_value_t = 2)]
    dry_allowed_length: usize,
    /// DRY: number of last tokens that are searched for repetitions; all by default.
    #[arg(long, value_name = "N")]
    dry_window: Option<usize>,
    /// Seed of the draws; the same seed gives the same draws.
    #[arg(long, default_value_t = 0, allow_negative_numbers = true)]
    pub seed: u64,
}

fn profile(name: &str) -> Result<Profile, String> {
    let names = || Profile::ALL.iter().map(|profile| profile.name()).collect::<Vec<_>>().join(", ");
    Profile::from_name(name).ok_or_else(|| format!("the engine must be one of {}", names()))
}

impl Sampling {
    /// Returns the sampler's options, not validated yet. `temperature` is the default temperature.
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
