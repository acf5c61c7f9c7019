//! Conversions between this crate's error and candle's. A typed error that is converted to candle's error and back is
//! unchanged.

#![forbid(unsafe_code)]

use crate::error::Error;
use candle_core::Error as Candle;

/// Wraps the typed error in candle's error. `evenkeel::Error::from` unwraps it.
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

/// Unwraps the typed error that candle's error carries, or translates candle's own error.
///
/// An unsupported type becomes [`Error::UnsupportedDType`], a dimension out of range [`Error::InvalidArgument`], and a
/// mismatch of two shapes [`Error::ShapeMismatch`]. Any other error becomes [`Error::Backend`] with candle's message.
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
        Candle::DimOutOfRange { shape, dim, op } => Some(Error::invalid(op, "dim", dim, format!("a dim of {shape:?}"))),
        Candle::ShapeMismatchBinaryOp { lhs, rhs, op } => {
            Some(Error::shape(op, "the second operand", format!("shape {rhs:?}"), format!("one that fits {lhs:?}")))
        }
        _ => None,
    }
}
