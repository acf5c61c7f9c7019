//! Options of LongRoPE.

use super::scaling::Checks;
use crate::error::{Error, Result};

/// Options of LongRoPE; see [`RopeScaling::LongRope`](crate::RopeScaling::LongRope).
///
/// ```
/// use evenkeel::{LongRope, Rope, RopeScaling, RopeTable};
/// let (short, long) = ([1.0, 1.05], [1.0, 30.0]); // a head of four columns has two pairs
/// let scaling = |sequence| LongRope::new(&short, &long, 4096, sequence).factor(32.0);
/// let table = |sequence| RopeTable::new(&[7], 4, &Rope::default().scaling(RopeScaling::LongRope(scaling(sequence))));
/// // The length of the sequence, not the position, selects the list: 4,097 tokens need the long list.
/// assert_eq!(table(4096)?, table(12)?);
/// assert_ne!(table(4096)?, table(4097)?);
/// # Ok::<(), evenkeel::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct LongRope<'a> {
    /// Divisors of the pairs' frequencies in sequences of up to `original_positions`. There is one for each pair,
    /// finite and above 0.
    pub short: &'a [f64],
    /// Divisors of the pairs' frequencies in longer sequences. There is one for each pair, finite and above 0.
    pub long: &'a [f64],
    /// Number of positions that the model was trained on. At least 2.
    pub original_positions: usize,
    /// Length of the sequence to which the rows belong, or the largest length that the engine serves.
    ///
    /// All keys in a cache must use the same list. An engine with a key cache therefore sets the longest length here,
    /// as vLLM does. transformers uses the largest position of each call, plus 1.
    pub sequence: usize,
    /// Ratio of the extended to the original number of positions, for the attention factor. Finite and at least 1; 1 by
    /// default.
    pub factor: f64,
    /// Factor of the cosines and sines. Finite and above 0; by default it is computed from `factor`, see
    /// [`RopeScaling::LongRope`](crate::RopeScaling::LongRope).
    pub attention_factor: Option<f64>,
}

impl<'a> LongRope<'a> {
    /// Returns the options with these lists and lengths, and defaults for the other fields.
    pub const fn new(short: &'a [f64], long: &'a [f64], original_positions: usize, sequence: usize) -> Self {
        LongRope { short, long, original_positions, sequence, factor: 1.0, attention_factor: None }
    }

    /// Sets [`LongRope::factor`]. In a transformers configuration this is `factor`, or if `factor` is missing,
    /// `max_position_embeddings` / `original_max_position_embeddings`.
    pub const fn factor(self, factor: f64) -> Self {
        Self { factor, ..self }
    }

    /// Sets [`LongRope::attention_factor`].
    pub const fn attention_factor(self, factor: f64) -> Self {
        Self { attention_factor: Some(factor), ..self }
    }

    /// Returns the list that applies to the length of the sequence.
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
