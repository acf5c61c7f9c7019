//! Conversions between this crate's error and candle's. An error of this crate that is converted to candle's error and
//! back is unchanged.

#![forbid(unsafe_code)]

use crate::error::{Error, Source};
use candle_core::Error as Candle;
use std::io;

/// Wraps this crate's error in candle's error. `evenkeel::Error::from` unwraps it.
///
/// ```
/// use evenkeel::Error;
/// let typed = Error::fully_masked("softmax", 3);
/// let through = candle_core::Error::from(typed.clone());
/// assert_eq!(Error::from(through), typed);
/// ```
impl From<Error> for Candle {
    fn from(error: Error) -> Self {
        Candle::WrappedContext { context: error.to_string(), wrapped: Box::new(error) }.bt()
    }
}

/// Unwraps this crate's error if candle's error contains one, at any depth of contexts. Otherwise translates candle's
/// error.
///
/// An unsupported type becomes [`Error::UnsupportedDType`]. A dimension out of range becomes
/// [`Error::InvalidArgument`]. A mismatch of two shapes becomes [`Error::ShapeMismatch`]. Any other error becomes
/// [`Error::Framework`] with candle's error.
impl From<Candle> for Error {
    fn from(error: Candle) -> Self {
        typed(&error).unwrap_or_else(|| Error::framework("candle", Source::new(error)))
    }
}

/// Returns the error of this crate that candle's error contains. If there is none, translates candle's error. Returns
/// `None` for a candle error without a translation.
fn typed(error: &Candle) -> Option<Error> {
    match error {
        Candle::WrappedContext { wrapped, .. } => carried(wrapped.as_ref()),
        Candle::Context { inner, .. } | Candle::WithPath { inner, .. } | Candle::WithBacktrace { inner, .. } => {
            typed(inner)
        }
        Candle::UnsupportedDTypeForOp(dtype, op) => Some(Error::unsupported_dtype(op, format!("{dtype:?}"), "candle")),
        Candle::DimOutOfRange { shape, dim, op } => Some(Error::invalid(op, "dim", dim, format!("a dim of {shape:?}"))),
        Candle::ShapeMismatchBinaryOp { lhs, rhs, op } => {
            Some(Error::shape(op, "the second operand", format!("shape {rhs:?}"), format!("one that fits {lhs:?}")))
        }
        _ => None,
    }
}

/// Searches `error` and the chain of its sources, and returns the first error of this crate. A candle error among the
/// sources may contain an error of this crate too, because `context` wraps one candle error in another.
fn carried(error: &(dyn std::error::Error + 'static)) -> Option<Error> {
    std::iter::successors(Some(error), |error| error.source()).find_map(|error| {
        let of_candle = || error.downcast_ref::<Candle>().and_then(typed);
        // `io::Error::source` skips the error that the `io::Error` wraps, but `get_ref` returns the wrapped error.
        let of_system = || carried(error.downcast_ref::<io::Error>()?.get_ref()?);
        error.downcast_ref::<Error>().cloned().or_else(of_candle).or_else(of_system)
    })
}
