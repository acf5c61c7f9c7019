//! What a walk has found so far.

use serde::{Deserialize, Serialize};

/// How many misrounded inputs are kept in full.
const EXAMPLES: usize = 16;

/// An input whose result is not the correctly rounded one, as bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Example {
    /// The input.
    pub x: u32,
    /// What the library gave.
    pub got: u32,
    /// What is right.
    pub expected: u32,
}

/// Counts of a walk, or of a part of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tally {
    /// Inputs compared.
    pub inputs: u64,
    /// Results that are not correctly rounded.
    pub misrounded: u64,
    /// Inputs that it took MPFR to tell the expected result of.
    pub by_mpfr: u64,
    /// The largest error of a misrounded result in ULP; 0.5, which the others keep to, where there is none.
    pub largest_error: f64,
    /// The first of the misrounded inputs, in the order of their bits.
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

    /// This and what the inputs behind gave.
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
