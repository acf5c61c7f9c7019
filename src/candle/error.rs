//! Both errors, each as the other: a typed error goes through candle and comes out as it was.

#![forbid(unsafe_code)]

use crate::error::Error;
use candle_core::Error as Candle;

/// Carries the error through candle: `evenkeel::Error::from` gives it back.
///
/// ```
/// use evenkeel::Error;
/// let typed = Error::FullyMasked { op: "softmax", row: 3 };
/// let through = candle_core::Error::from(typed.clone());
/// assert_eq!(Error::from(through), typed);
/// ```
impl From<Error> for Candle {
    fn from(error: Error) -> Self {
        Candle::WrappedContext { context: error.to_string(), wrapped: Box::new(error) }.bt()
    }
}

/// The typed error that candle carried, or what candle's own says in this crate's terms: [`Error::UnsupportedDType`],
/// [`Error::InvalidArgument`] for a dimension, [`Error::ShapeMismatch`] for two shapes; for any other,
/// [`Error::Backend`] with candle's message.
impl From<Candle> for Error {
    fn from(error: Candle) -> Self {
        let message = error.to_string();
        typed(error).unwrap_or(Error::Backend { backend: "candle".into(), reason: message })
    }
}

fn typed(error: Candle) -> Option<Error> {
    match error {
        Candle::WrappedContext { wrapped, .. } => wrapped.downcast().ok().map(|error| *error),
        Candle::Context { inner, .. } | Candle::WithPath { inner, .. } | Candle::WithBacktrace { inner, .. } => {
            typed(*inner)
        }
        Candle::UnsupportedDTypeForOp(dtype, op) => {
            Some(Error::UnsupportedDType { op, dtype: format!("{dtype:?}"), backend: "candle" })
        }
        Candle::DimOutOfRange { shape, dim, op } => Some(Error::invalid(op, "dim", dim, format!("one of {shape:?}"))),
        Candle::ShapeMismatchBinaryOp { lhs, rhs, op } => {
            Some(Error::shape(op, "the second operand", format!("{rhs:?}"), format!("one that fits {lhs:?}")))
        }
        _ => None,
    }
}
