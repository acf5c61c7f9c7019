//! Trace points, which find the first non-finite value of a model.
//!
//! An engine passes named tensors of its model to [`point`]. Within a [`scope`] each tensor is checked. The first
//! tensor that holds a NaN or an infinity is reported, with the position of the value and with statistics of the
//! point's inputs. Outside a scope a point only reads a thread-local flag, so it can remain in the engine. With the
//! feature `tracing`, non-finite points are also emitted as events.
//!
//! ```
//! use evenkeel::trace;
//! fn layer(x: &[f32]) -> evenkeel::Result<Vec<f32>> {
//!     let squares: Vec<f32> = x.iter().map(|x| x * x).collect();
//!     trace::point("layer 0, squares", &squares, 2)?.from("x", x)?;
//!     Ok(squares)
//! }
//! let (squares, found) = trace::scope(|| layer(&[1.0, 2.0, 3e38, 4.0]));
//! let first = found.first.unwrap();
//! assert_eq!((first.point.as_str(), first.row, first.column, first.value), ("layer 0, squares", 1, 0, f64::INFINITY));
//! assert_eq!(first.inputs[0].stats.max, f64::from(3e38f32));
//! # squares.map(|_| ())
//! # .map_err(|e: evenkeel::Error| e)?;
//! # Ok::<(), evenkeel::Error>(())
//! ```

#![forbid(unsafe_code)]

use crate::error::{Error, Result};
use crate::floats::Floats;
use crate::trace_scope::OPEN;
use std::fmt;

pub use crate::trace_scope::{Broken, Input, Trace, is_on, scope};

/// Result of [`point`]. [`Point::from`] adds inputs to the trace point.
#[derive(Clone, Copy, Debug)]
pub struct Point {
    is_first: bool,
}

/// Checks rows of `cols` elements for NaN and infinities, if a scope is open. Do not pass masked scores, whose -inf
/// would be reported.
///
/// The name is formatted only if a value is not finite. For finite values, a name such as `format_args!("layer {i},
/// attention")` costs nothing.
///
/// # Errors
/// [`Error::ShapeMismatch`] if the length of `x` is not a multiple of `cols`. [`Error::Unavailable`] if the requested
/// instruction set is unavailable. Outside a scope, no error is returned.
pub fn point<'a>(name: impl fmt::Display, x: impl Into<Floats<'a>>, cols: usize) -> Result<Point> {
    if !is_on() {
        return Ok(Point::OFF);
    }
    look(&name, x.into(), cols)
}

fn look(name: &dyn fmt::Display, x: Floats<'_>, cols: usize) -> Result<Point> {
    if !x.len().is_multiple_of(cols.max(1)) {
        return Err(Error::shape("trace", "x", format!("{} elements", x.len()), format!("rows of {cols}")));
    }
    let finite = x.finite()?;
    OPEN.with_borrow_mut(|open| {
        let Some(trace) = open.last_mut() else { return Ok(Point::OFF) };
        trace.points += 1;
        let Some(at) = finite.first else { return Ok(Point::OFF) };
        trace.broken += 1;
        let (row, column, value) = (at / cols.max(1), at % cols.max(1), x.get(at).unwrap_or(f64::NAN));
        #[cfg(feature = "tracing")]
        tracing::warn!(point = %name, row, column, value, nan = finite.nan, infinite = finite.infinite, "not finite");
        let is_first = trace.first.is_none();
        if is_first {
            trace.first = Some(Broken { point: name.to_string(), row, column, value, finite, inputs: Vec::new() });
        }
        Ok(Point { is_first })
    })
}

impl Point {
    /// Point whose inputs are not recorded, because all its values are finite or no scope is open.
    pub(crate) const OFF: Point = Point { is_first: false };

    /// Returns whether this is the scope's first non-finite point. Inputs are recorded only for that point.
    pub fn is_first(self) -> bool {
        self.is_first
    }

    /// Adds an input of the point. The statistics of the input are computed only if the point is the scope's first
    /// non-finite point.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if the requested instruction set is unavailable.
    pub fn from<'a>(self, name: impl fmt::Display, x: impl Into<Floats<'a>>) -> Result<Self> {
        if self.is_first {
            let stats = x.into().inspect()?;
            #[cfg(feature = "tracing")]
            tracing::warn!(input = %name, min = stats.min, max = stats.max, nan = stats.nan, "input of this point");
            OPEN.with_borrow_mut(|open| {
                if let Some(first) = open.last_mut().and_then(|trace| trace.first.as_mut()) {
                    first.inputs.push(Input { name: name.to_string(), stats });
                }
            });
        }
        Ok(self)
    }
}
