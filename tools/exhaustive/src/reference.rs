//! References that give the correctly rounded results.

use crate::bracket::Bracket;
use crate::error::{Error, Result};
use crate::exact;
use crate::function::Function;

/// Source of the correctly rounded result.
#[derive(Clone, Copy)]
pub enum Reference {
    /// A correctly rounded function, with the name of its library.
    Rounded(&'static str, fn(f32) -> f32),
    /// An f64 formula with an error bound. If the bound allows two results, MPFR decides.
    Bounded(fn(f32) -> Bracket),
}

impl Reference {
    /// Returns the name that the tables use.
    pub fn name(self) -> &'static str {
        match self {
            Reference::Rounded(name, _) => name,
            Reference::Bounded(_) => "f64 formula, MPFR",
        }
    }
}

/// A correctly rounded result.
#[derive(Clone, Copy)]
pub struct Expected {
    /// The result. A NaN result is the canonical NaN.
    pub value: f32,
    /// Whether MPFR had to decide the result.
    pub by_mpfr: bool,
}

fn canonical(value: f32) -> f32 {
    if value.is_nan() { f32::NAN } else { value }
}

impl Function {
    /// Computes the correctly rounded result.
    pub fn expected(&self, x: f32) -> Result<Expected> {
        let value = match self.reference {
            Reference::Rounded(_, of) => Some(of(x)),
            Reference::Bounded(of) => of(x).rounded(),
        };
        match value {
            Some(value) => Ok(Expected { value: canonical(value), by_mpfr: false }),
            None => Ok(Expected { value: self.exactly(x)?, by_mpfr: true }),
        }
    }

    /// Computes the correctly rounded result by MPFR.
    pub fn exactly(&self, x: f32) -> Result<f32> {
        let undecided = |bits| Error::Undecided { function: self.name, x, bits };
        exact::rounded(self.exact, x).map(canonical).map_err(undecided)
    }

    /// Returns the error, in ULP, of a result that differs from the expected one.
    ///
    /// # Errors
    /// [`Error::Reference`] if MPFR finds that the expected result is wrong, [`Error::Undecided`] if MPFR can't round.
    pub fn confirmed_error(&self, x: f32, got: f32, expected: f32) -> Result<f64> {
        let exact = self.exactly(x)?;
        if exact.to_bits() != expected.to_bits() {
            return Err(Error::Reference { function: self.name, x, reference: expected, exact });
        }
        Ok(exact::error_in_ulp(self.exact, x, got, expected))
    }
}
