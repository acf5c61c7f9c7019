//! Scaling of the frequencies for more positions than a model was trained on.

use super::long_rope::LongRope;
use super::yarn::Yarn;
use crate::error::{Error, Result};

/// Scalings of the rotary embedding to more positions, for [`Rope::scaling`](crate::Rope::scaling).
///
/// Each variant states the frequency that replaces f = theta^(-2i/d), the frequency of pair i in a head of d columns. L
/// is the number of original positions. Each scaled frequency is computed with more precision than f64 and rounded
/// once.
///
/// The definitions follow `modeling_rope_utils` in Hugging Face's transformers, which computes them in f32.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum RopeScaling<'a> {
    /// Positional interpolation: the frequency f becomes f / factor, as if the positions were divided by the factor
    /// (Chen et al., "Extending context window of large language models via positional interpolation", 2023).
    Linear {
        /// Ratio of the extended to the original number of positions. Finite and at least 1.
        factor: f64,
    },
    /// NTK-aware scaling: the base becomes theta * factor^(d / (d-2)). This divides the slowest pair's frequency by the
    /// factor, and does not change the fastest pair (bloc97, "NTK-aware scaled RoPE", 2023).
    Ntk {
        /// Ratio of the extended to the original number of positions. Finite and at least 1.
        factor: f64,
    },
    /// Dynamic NTK-aware scaling: [`RopeScaling::Ntk`] with a factor that is 1 up to the original positions and grows
    /// beyond them (emozilla, "Dynamically scaled RoPE", 2023). The base becomes
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
    /// // At twice the positions the result equals `Ntk` with the factor 2 * 4096 / 2048 - 1 = 3.
    /// let ntk = Rope::default().scaling(RopeScaling::Ntk { factor: 3.0 });
    /// assert_eq!(table(4096)?, RopeTable::new(&[100], 64, &ntk)?);
    /// # Ok::<(), evenkeel::Error>(())
    /// ```
    DynamicNtk {
        /// Rate at which the base grows with the sequence. Finite and at least 1.
        factor: f64,
        /// Number of positions that the model was trained on. At least 1.
        original_positions: usize,
        /// Length of the sequence to which the rows belong, or the largest length that the engine serves.
        ///
        /// All keys in a cache must use the same base. An engine with a key cache therefore sets the longest length
        /// here, as vLLM does. transformers uses the largest position of each call, plus 1.
        sequence: usize,
    },
    /// YaRN: the frequency f stays the same for pairs that rotate fast, and becomes f / factor for pairs that rotate
    /// slowly, with a linear ramp in between (Peng et al., "YaRN: efficient context window extension of large language
    /// models", 2023):
    ///
    /// ```text
    /// pair(turns) = d ln(L / (2 pi turns)) / (2 ln theta)
    /// low = max(floor(pair(beta_fast)), 0),   high = min(ceil(pair(beta_slow)), d - 1)
    /// ramp = (i - low) / (high - low) clamped to 0..1; if high equals low, 0.001 is added to high
    /// scaled f = (1 - ramp) f + ramp f / factor
    /// ```
    ///
    /// Here pair(turns) is the index of the pair that makes `turns` turns within the L original positions. If
    /// `truncate` is false, floor and ceil are left out. Cosines and sines are multiplied by
    ///
    /// ```text
    /// attention_factor                                                     if it is set, otherwise
    /// (0.1 mscale ln(factor) + 1) / (0.1 mscale_all_dim ln(factor) + 1)    if mscale and mscale_all_dim are above 0,
    /// 0.1 ln(factor) + 1                                                   otherwise
    /// ```
    Yarn(Yarn),
    /// LongRoPE: each pair's frequency is divided by the pair's own divisor. L is the number of original positions. The
    /// divisors are those of the short list for sequences of up to L positions, and those of the long list for longer
    /// sequences (Ding et al., "LongRoPE: extending LLM context window beyond 2 million tokens", 2024). All cosines and
    /// sines are multiplied by the attention factor if it is set, otherwise by sqrt(1 + ln(s) / ln(L)). s is the ratio
    /// of the extended to the original number of positions.
    LongRope(LongRope<'a>),
    /// Llama 3: the frequency f stays the same for pairs that make more than `high_freq_factor` turns within the L
    /// original positions, and becomes f / factor for pairs that make fewer than `low_freq_factor` turns. Pairs in
    /// between are interpolated (Grattafiori et al., "The Llama 3 herd of models", 2024):
    ///
    /// ```text
    /// smooth = (L f / (2 pi) - low_freq_factor) / (high_freq_factor - low_freq_factor)
    /// scaled f = (1 - smooth) f / factor + smooth f
    /// ```
    Llama3 {
        /// Ratio of the extended to the original number of positions. Finite and at least 1.
        factor: f64,
        /// Lower limit of turns: if a pair makes fewer turns within the original positions, its frequency is divided by
        /// `factor`. Finite and above 0.
        low_freq_factor: f64,
        /// Upper limit of turns: if a pair makes more turns within the original positions, it keeps its frequency.
        /// Finite and above `low_freq_factor`.
        high_freq_factor: f64,
        /// Number of positions that the model was trained on. At least 1.
        original_positions: usize,
    },
}

impl RopeScaling<'_> {
    /// Checks the parameters, the base `theta`, and that LongRoPE's lists have one factor for each pair.
    pub(super) fn check(self, op: &'static str, theta: f64, pairs: usize) -> Result<()> {
        let checks = Checks { op };
        checks.holds("theta", theta, theta > 1.0, "finite and above 1 with a scaling")?;
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
                let least = format!("finite and above low_freq_factor, {low_freq_factor}");
                checks.holds("high_freq_factor", high_freq_factor, high_freq_factor > low_freq_factor, &least)
            }
        }
    }
}

/// Parameter checks used by several scalings.
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
