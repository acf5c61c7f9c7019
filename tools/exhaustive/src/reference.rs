//! What a result is compared with.

use crate::bracket::Bracket;
use crate::error::{Error, Result};
use crate::exact;
use crate::function::Function;

/// How the correctly rounded result is come by.
#[derive(Clone, Copy)]
pub enum Reference {
    /// From a function that is correctly rounded; whose it is.
    Rounded(&'static str, fn(f32) -> f32),
    /// From an f64 formula with a bound of its error, or from MPFR where that leaves two results.
    Bounded(fn(f32) -> Bracket),
}

impl Reference {
    /// What tables call it.
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
    /// The result. NaN is the canonical one.
    pub value: f32,
    /// Whether it took MPFR to tell.
    pub by_mpfr: bool,
}

fn canonical(value: f32) -> f32 {
    if value.is_nan() { f32::NAN } else { value }
}

impl Function {
    /// The correctly rounded result.
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

    /// The correctly rounded result by MPFR.
    pub fn exactly(&self, x: f32) -> Result<f32> {
        let undecided = |bits| Error::Undecided { function: self.name, x, bits };
        exact::rounded(self.exact, x).map(canonical).map_err(undecided)
    }

    /// The error of a result that is not the expected one, in ULP.
    ///
    /// Fails where it is what was expected that is wrong.
    pub fn confirmed_error(&self, x: f32, got: f32, expected: f32) -> Result<f64> {
        let exact = self.exactly(x)?;
        if exact.to_bits() != expected.to_bits() {
            return Err(Error::Reference { function: self.name, x, reference: expected, exact });
        }
        Ok(exact::error_in_ulp(self.exact, x, got, expected))
    }
}
