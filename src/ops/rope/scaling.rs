//! How frequencies are stretched for more positions than a model was trained on.

use super::long_rope::LongRope;
use super::yarn::Yarn;
use crate::error::{Error, Result};

/// How rotary embedding is stretched to more positions, see [`Rope::scaling`](crate::Rope::scaling).
///
/// With f the frequency theta^(-2i/d) of pair i of a head of d columns, and L the original positions. Each result is
/// computed to more digits than f64 has, and rounded once.
///
/// The definitions are those of `modeling_rope_utils` in Hugging Face's transformers, which computes them in f32.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum RopeScaling<'a> {
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
    /// As [`RopeScaling::Ntk`], by a factor that is 1 up to the original positions and grows beyond them
    /// (emozilla, "Dynamically scaled RoPE", 2023):
    ///
    /// ```text
    /// theta * (factor * max(sequence, L) / L - (factor - 1))^(d / (d-2))
    /// ```
    ///
    /// ```
    /// use evenkeel::{Rope, RopeScaling, RopeTable};
    /// let scaling = |sequence| RopeScaling::DynamicNtk { factor: 2.0, original_positions: 2048, sequence };
    /// let table = |sequence| RopeTable::new(&[100], 64, &Rope::default().scaling(scaling(sequence)));
    /// assert_eq!(table(2048)?, RopeTable::new(&[100], 64, &Rope::default())?);
    /// // Twice the positions: as `Ntk` by a factor of 2 * 4096 / 2048 - 1.
    /// let ntk = Rope::default().scaling(RopeScaling::Ntk { factor: 3.0 });
    /// assert_eq!(table(4096)?, RopeTable::new(&[100], 64, &ntk)?);
    /// # Ok::<(), evenkeel::Error>(())
    /// ```
    DynamicNtk {
        /// How much the base grows with the sequence. Finite and at least 1.
        factor: f64,
        /// The positions that the model was trained on. At least 1.
        original_positions: usize,
        /// Positions of the sequence that the rows are of, or of the longest that is served. A cache of keys holds for
        /// one base: an engine that keeps one sets the longest here, as vLLM does; transformers takes the largest
        /// position of each call and 1.
        sequence: usize,
    },
    /// f for pairs that turn fast, f / factor for those that turn slowly, and a ramp in between (Peng et al., "YaRN:
    /// efficient context window extension of large language models", 2023):
    ///
    /// ```text
    /// place(turns) = d ln(L / (2 pi turns)) / (2 ln theta)
    /// low = max(floor(place(beta_fast)), 0),   high = min(ceil(place(beta_slow)), d - 1)
    /// ramp = (i - low) / (high - low) clamped to 0..1; if high equals low, 0.001 is added to high
    /// (1 - ramp) f + ramp f / factor
    /// ```
    ///
    /// without floor and ceil where `truncate` is false. Cosines and sines are multiplied with
    ///
    /// ```text
    /// the attention factor, if there is one
    /// (0.1 mscale ln(factor) + 1) / (0.1 mscale_all_dim ln(factor) + 1), if both are above 0
    /// 0.1 ln(factor) + 1 otherwise
    /// ```
    Yarn(Yarn),
    /// f / short or f / long, by a list of factors for each pair: the long list in sequences of more than L positions
    /// (Ding et al., "LongRoPE: extending LLM context window beyond 2 million tokens", 2024). Cosines and sines are
    /// multiplied with the attention factor, if there is one, else with sqrt(1 + ln(factor) / ln(L)).
    LongRope(LongRope<'a>),
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

impl RopeScaling<'_> {
    /// Checks its parameters, the base that it scales, and that it is for so many pairs.
    pub(super) fn check(self, op: &'static str, theta: f64, pairs: usize) -> Result<()> {
        let checks = Checks { op };
        checks.holds("theta", theta, theta > 1.0, "finite and above 1 where it is scaled")?;
        match self {
            RopeScaling::Linear { factor } | RopeScaling::Ntk { factor } => checks.factor(factor),
            RopeScaling::DynamicNtk { factor, original_positions, .. } => {
                checks.factor(factor)?;
                checks.positions(original_positions, 1)
            }
            RopeScaling::Yarn(yarn) => yarn.check(checks),
            RopeScaling::LongRope(long) => long.check(checks, pairs),
            RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_positions } => {
                checks.factor(factor)?;
                checks.positions(original_positions, 1)?;
                checks.holds("low_freq_factor", low_freq_factor, low_freq_factor > 0.0, "finite and above 0")?;
                let least = format!("finite and above {low_freq_factor}, low_freq_factor");
                checks.holds("high_freq_factor", high_freq_factor, high_freq_factor > low_freq_factor, &least)
            }
        }
    }
}

/// Checks of parameters that several scalings have.
#[derive(Clone, Copy)]
pub(super) struct Checks {
    pub op: &'static str,
}

impl Checks {
    pub fn holds(self, argument: &'static str, value: f64, is: bool, expected: &str) -> Result<()> {
        if value.is_finite() && is { Ok(()) } else { Err(Error::invalid(self.op, argument, value, expected)) }
    }

    pub fn factor(self, factor: f64) -> Result<()> {
        self.holds("factor", factor, factor >= 1.0, "finite and at least 1")
    }

    pub fn positions(self, positions: usize, least: usize) -> Result<()> {
        if positions >= least {
            return Ok(());
        }
        Err(Error::invalid(self.op, "original_positions", positions, format!("at least {least}")))
    }

    pub fn attention_factor(self, factor: Option<f64>) -> Result<()> {
        let factor = factor.unwrap_or(1.0);
        self.holds("attention_factor", factor, factor > 0.0, "finite and above 0")
    }
}
