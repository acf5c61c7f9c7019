//! Results of a walk so far.

use serde::{Deserialize, Serialize};

/// Number of misrounded inputs that are stored in full.
const EXAMPLES: usize = 16;

/// An input whose result is not correctly rounded, as bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Example {
    /// Bits of the input.
    pub x: u32,
    /// Bits of the library's result.
    pub got: u32,
    /// Bits of the correctly rounded result.
    pub expected: u32,
}

/// Counts of a walk, or of a part of a walk.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tally {
    /// Number of compared inputs.
    pub inputs: u64,
    /// Number of results that are not correctly rounded.
    pub misrounded: u64,
    /// Number of inputs whose expected result MPFR had to decide.
    pub by_mpfr: u64,
    /// Largest error of a misrounded result in ULP. If no result is misrounded, the field is 0.5, the bound of
    /// correctly rounded results.
    pub largest_error: f64,
    /// First misrounded inputs, in the order of their bits.
    pub examples: Vec<Example>,
}

impl Default for Tally {
    fn default() -> Self {
        Tally { inputs: 0, misrounded: 0, by_mpfr: 0, largest_error: 0.5, examples: Vec::new() }
    }
}

impl Tally {
    /// Adds a misrounded result and its error in ULP.
    pub fn add_misrounded(&mut self, example: Example, error: f64) {
        self.misrounded += 1;
        self.largest_error = self.largest_error.max(error);
        if self.examples.len() < EXAMPLES {
            self.examples.push(example);
        }
    }

    /// Merges the counts of `next`, whose inputs follow the inputs of `self`.
    #[must_use]
    pub fn followed_by(mut self, next: Tally) -> Tally {
        self.examples.extend(next.examples);
        self.examples.truncate(EXAMPLES);
        Tally {
            inputs: self.inputs + next.inputs,
            misrounded: self.misrounded + next.misrounded,
            by_mpfr: self.by_mpfr + next.by_mpfr,
            largest_error: self.largest_error.max(next.largest_error),
            examples: self.examples,
        }
    }
}
