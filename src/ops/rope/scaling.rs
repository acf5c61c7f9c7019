//! How frequencies are stretched for more positions than a model was trained on.

use crate::error::{Error, Result};

/// How rotary embedding is stretched to more positions, see [`Rope::scaling`](crate::Rope::scaling).
///
/// With f the frequency theta^(-2i/d) of pair i of a head of d columns, and L the original positions. Each result is
/// computed to more digits than f64 has, and rounded once.
///
/// The definitions are those of `modeling_rope_utils` in Hugging Face's transformers, which computes them in f32.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum RopeScaling {
    /// f / factor, the same as dividing positions (Chen et al., "Extending context window of large language models via
    /// positional interpolation", 2023).
    Linear {
        /// How many times as many positions. Finite and at least 1.
        factor: f64,
    },
    /// The base becomes theta * factor^(d / (d-2)), so that the slowest pair is f / factor and the fastest remains
    /// (bloc97, "NTK-aware scaled RoPE", 2023).
    Ntk {
        /// How many times as many positions. Finite and at least 1.
        factor: f64,
    },
    /// f for pairs that turn fast, f / factor for those that turn slowly, and a ramp in between (Peng et al., "YaRN:
    /// efficient context window extension of large language models", 2023):
    ///
    /// ```text
    /// place(turns) = d ln(L / (2 pi turns)) / (2 ln theta)
    /// low = max(floor(place(beta_fast)), 0),   high = min(ceil(place(beta_slow)), d - 1)
    /// ramp = (i - low) / (high - low) brought to within 0 and 1; 0.001 more than high where that is low
    /// (1 - ramp) f + ramp f / factor
    /// ```
    Yarn {
        /// How many times as many positions. Finite and at least 1.
        factor: f64,
        /// The positions that the model was trained on. At least 1.
        original_positions: usize,
        /// Turns within these from which on a pair is fast: 32 in the paper. Finite and at least `beta_slow`.
        beta_fast: f64,
        /// Turns up to which it is slow: 1 in the paper. Finite and above 0.
        beta_slow: f64,
        /// What cosines and sines are multiplied with. Finite and above 0; 0.1 ln(factor) + 1 where there is none.
        attention_factor: Option<f64>,
    },
    /// f for pairs that turn more than `high_freq_factor` times within the original positions, f / factor for those
    /// that turn less than `low_freq_factor` times, and in between (Grattafiori et al., "The Llama 3 herd of models",
    /// 2024):
    ///
    /// ```text
    /// smooth = (L f / (2 pi) - low_freq_factor) / (high_freq_factor - low_freq_factor)
    /// (1 - smooth) f / factor + smooth f
    /// ```
    Llama3 {
        /// How many times as many positions. Finite and at least 1.
        factor: f64,
        /// Finite and above 0.
        low_freq_factor: f64,
        /// Finite and above `low_freq_factor`.
        high_freq_factor: f64,
        /// The positions that the model was trained on. At least 1.
        original_positions: usize,
    },
}

impl RopeScaling {
    /// Checks its parameters, and the base that it scales.
    pub(super) fn check(self, op: &'static str, theta: f64) -> Result<()> {
        let holds = |argument, value: f64, is: bool, expected: &str| {
            if value.is_finite() && is { Ok(()) } else { Err(Error::invalid(op, argument, value, expected)) }
        };
        holds("theta", theta, theta > 1.0, "finite and above 1 where it is scaled")?;
        let of_factor = |factor: f64| holds("factor", factor, factor >= 1.0, "finite and at least 1");
        let of_positions =
            |positions: usize| holds("original_positions", positions as f64, positions > 0, "at least 1");
        match self {
            RopeScaling::Linear { factor } | RopeScaling::Ntk { factor } => of_factor(factor),
            RopeScaling::Yarn { factor, original_positions, beta_fast, beta_slow, attention_factor } => {
                of_factor(factor)?;
                of_positions(original_positions)?;
                holds("beta_slow", beta_slow, beta_slow > 0.0, "finite and above 0")?;
                let least = format!("finite and at least {beta_slow}, beta_slow");
                holds("beta_fast", beta_fast, beta_fast >= beta_slow, &least)?;
                let attention_factor = attention_factor.unwrap_or(1.0);
                holds("attention_factor", attention_factor, attention_factor > 0.0, "finite and above 0")
            }
            RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_positions } => {
                of_factor(factor)?;
                of_positions(original_positions)?;
                holds("low_freq_factor", low_freq_factor, low_freq_factor > 0.0, "finite and above 0")?;
                let least = format!("finite and above {low_freq_factor}, low_freq_factor");
                holds("high_freq_factor", high_freq_factor, high_freq_factor > low_freq_factor, &least)
            }
        }
    }
}
