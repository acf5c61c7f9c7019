//! Options of YaRN.

use super::scaling::Checks;
use crate::error::Result;

/// Options of YaRN; see [`RopeScaling::Yarn`](crate::RopeScaling::Yarn).
///
/// ```
/// use evenkeel::{Rope, RopeScaling, RopeTable, Rows, Yarn, rope};
/// // The frequencies of gpt-oss, whose configuration sets `truncate` to false.
/// let yarn = Yarn::new(32.0, 4096).truncate(false);
/// let options = Rope::default().theta(150_000.0).scaling(RopeScaling::Yarn(yarn));
/// let table = RopeTable::new(&[0, 1], 64, &options)?;
/// let y = rope(Rows::new(&[1.0f32; 2 * 64], 2, 64)?, &table)?;
/// assert_eq!(y[0], 1.3465736); // 0.1 ln(32) + 1: the angle of position 0 is 0
/// # Ok::<(), evenkeel::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Yarn {
    /// Ratio of the extended to the original number of positions. Finite and at least 1.
    pub factor: f64,
    /// Number of positions that the model was trained on. At least 1.
    pub original_positions: usize,
    /// Upper limit of turns: if a pair makes more turns within the original positions, it keeps its frequency. Finite
    /// and at least `beta_slow`; 32 by default, as in the paper.
    pub beta_fast: f64,
    /// Lower limit of turns: if a pair makes fewer turns within the original positions, its frequency is divided by
    /// `factor`. Finite and above 0; 1 by default, as in the paper.
    pub beta_slow: f64,
    /// Whether the ends of the ramp are rounded to integers. True by default, as in transformers; false in gpt-oss.
    pub truncate: bool,
    /// Factor of the cosines and sines. Finite and above 0; by default it is computed from `factor` and the two fields
    /// below, see [`RopeScaling::Yarn`](crate::RopeScaling::Yarn).
    pub attention_factor: Option<f64>,
    /// Weight of ln(factor) in the numerator of the attention factor, as in DeepSeek. From 0 to 1e300; 0 by default.
    /// Has an effect only if `mscale_all_dim` is above 0 too.
    pub mscale: f64,
    /// Weight of ln(factor) in the denominator of the attention factor. From 0 to 1e300; 0 by default. Has an effect
    /// only if `mscale` is above 0 too.
    pub mscale_all_dim: f64,
}

impl Yarn {
    /// Returns the options with this factor and number of original positions, and defaults for the other fields.
    pub const fn new(factor: f64, original_positions: usize) -> Self {
        Yarn {
            factor,
            original_positions,
            beta_fast: 32.0,
            beta_slow: 1.0,
            truncate: true,
            attention_factor: None,
            mscale: 0.0,
            mscale_all_dim: 0.0,
        }
    }

    /// Sets [`Yarn::beta_fast`].
    pub const fn beta_fast(self, beta_fast: f64) -> Self {
        Self { beta_fast, ..self }
    }

    /// Sets [`Yarn::beta_slow`].
    pub const fn beta_slow(self, beta_slow: f64) -> Self {
        Self { beta_slow, ..self }
    }

    /// Sets [`Yarn::truncate`].
    pub const fn truncate(self, truncate: bool) -> Self {
        Self { truncate, ..self }
    }

    /// Sets [`Yarn::attention_factor`].
    pub const fn attention_factor(self, factor: f64) -> Self {
        Self { attention_factor: Some(factor), ..self }
    }

    /// Sets [`Yarn::mscale`] and [`Yarn::mscale_all_dim`], which take effect only if both are above 0.
    pub const fn mscale(self, mscale: f64, mscale_all_dim: f64) -> Self {
        Self { mscale, mscale_all_dim, ..self }
    }

    pub(super) fn check(&self, checks: Checks) -> Result<()> {
        checks.factor(self.factor)?;
        checks.positions(self.original_positions, 1)?;
        checks.holds("beta_slow", self.beta_slow, self.beta_slow > 0.0, "finite and above 0")?;
        let least = format!("finite and at least beta_slow, {}", self.beta_slow);
        checks.holds("beta_fast", self.beta_fast, self.beta_fast >= self.beta_slow, &least)?;
        checks.attention_factor(self.attention_factor)?;
        for (argument, mscale) in [("mscale", self.mscale), ("mscale_all_dim", self.mscale_all_dim)] {
            // ln(factor) is below 710, so its product with a number of at most 1e300 does not overflow.
            let expected = "finite, not negative and at most 1e300";
            checks.holds(argument, mscale, (0.0..=1e300).contains(&mscale), expected)?;
        }
        Ok(())
    }
}
