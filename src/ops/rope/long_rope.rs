//! Options of LongRoPE.

use super::scaling::Checks;
use crate::error::{Error, Result};

/// Options of LongRoPE, see [`RopeScaling::LongRope`](crate::RopeScaling::LongRope).
///
/// ```
/// use evenkeel::{LongRope, Rope, RopeScaling, RopeTable};
/// let (short, long) = ([1.0, 1.05], [1.0, 30.0]); // of a head of four columns
/// let scaling = |sequence| LongRope::new(&short, &long, 4096, sequence).factor(32.0);
/// let table = |sequence| RopeTable::new(&[7], 4, &Rope::default().scaling(RopeScaling::LongRope(scaling(sequence))));
/// // The whole sequence decides, not the position: 4,097 tokens are too many for the short list.
/// assert_eq!(table(4096)?, table(12)?);
/// assert_ne!(table(4096)?, table(4097)?);
/// # Ok::<(), evenkeel::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct LongRope<'a> {
    /// What each pair's frequency is divided by in sequences of up to the original positions. One for each pair, finite
    /// and above 0.
    pub short: &'a [f64],
    /// What each pair's frequency is divided by in longer sequences. One for each pair, finite and above 0.
    pub long: &'a [f64],
    /// The positions that the model was trained on. At least 2.
    pub original_positions: usize,
    /// Positions of the sequence that the rows are of, or of the longest that is served. A cache of keys holds for one of
    /// the lists: an engine that keeps one sets the longest here, as vLLM does; transformers takes the largest position
    /// of each call and 1.
    pub sequence: usize,
    /// How many times as many positions, for the attention factor. Finite and at least 1; 1 by default.
    pub factor: f64,
    /// What cosines and sines are multiplied with. Finite and above 0; by default it follows from `factor`, see
    /// [`RopeScaling::LongRope`](crate::RopeScaling::LongRope).
    pub attention_factor: Option<f64>,
}

impl<'a> LongRope<'a> {
    /// Returns the options for these lists and counts, all others as by default.
    pub const fn new(short: &'a [f64], long: &'a [f64], original_positions: usize, sequence: usize) -> Self {
        LongRope { short, long, original_positions, sequence, factor: 1.0, attention_factor: None }
    }

    /// Sets [`LongRope::factor`]: in transformers `factor`, or where there is none `max_position_embeddings` /
    /// `original_max_position_embeddings`.
    pub const fn factor(self, factor: f64) -> Self {
        Self { factor, ..self }
    }

    /// Sets [`LongRope::attention_factor`].
    pub const fn attention_factor(self, factor: f64) -> Self {
        Self { attention_factor: Some(factor), ..self }
    }

    /// Returns the list for the sequence.
    pub(crate) fn factors(&self) -> &'a [f64] {
        if self.sequence > self.original_positions { self.long } else { self.short }
    }

    pub(super) fn check(&self, checks: Checks, pairs: usize) -> Result<()> {
        checks.factor(self.factor)?;
        checks.positions(self.original_positions, 2)?;
        checks.attention_factor(self.attention_factor)?;
        for (argument, list) in [("short", self.short), ("long", self.long)] {
            if list.len() != pairs {
                let expected = format!("one for each of {pairs} pairs");
                return Err(Error::shape(checks.op, argument, format!("{} factors", list.len()), expected));
            }
            if let Some(at) = list.iter().position(|factor| !(factor.is_finite() && *factor > 0.0)) {
                let value = format!("{} at pair {at}", list[at]);
                return Err(Error::invalid(checks.op, argument, value, "finite and above 0"));
            }
        }
        Ok(())
    }
}
