//! Where the first number came from that is not finite.
//!
//! An engine names points of its model and gives what is there; within a [`scope`] each is looked at, and the first that
//! holds a NaN or an infinity is told with its place and with what its inputs held. Outside of a scope a point costs a
//! look at a thread-local flag: it may stay in the engine for good. With the feature `tracing` what is found is an event
//! too.
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
use crate::ops::inspect::{Finite, Stats};
use std::cell::{Cell, RefCell};
use std::fmt;

/// What the points of a scope held.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Trace {
    /// Points that were looked at.
    pub points: u64,
    /// Those of them that held a NaN or an infinity.
    pub broken: u64,
    /// The first of those.
    pub first: Option<Broken>,
}

/// A point that held a NaN or an infinity.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Broken {
    /// Its name.
    pub point: String,
    /// The row of the first number that is not finite.
    pub row: usize,
    /// Its place in that row.
    pub column: usize,
    /// NaN or an infinity.
    pub value: f64,
    /// How many there are.
    pub finite: Finite,
    /// What it was made of, as far as was told.
    pub inputs: Vec<Input>,
}

/// What an input of a point held.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Input {
    /// Its name.
    pub name: String,
    /// As [`inspect`](crate::inspect()) finds it.
    pub stats: Stats,
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.first {
            None => write!(f, "{} points, all finite", self.points),
            Some(first) => write!(f, "{} of {} points are not finite; the first: {first}", self.broken, self.points),
        }
    }
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Broken { point, row, column, value, finite, inputs } = self;
        write!(f, "{point}, row {row}: {value} at {column}; {} NaN and {} infinite", finite.nan, finite.infinite)?;
        write!(f, " of {}", finite.count)?;
        for Input { name, stats } in inputs {
            write!(f, "; {name}: ")?;
            let broken = stats.nan + stats.infinite;
            if broken > 0 {
                write!(f, "{broken} of {} not finite, others ", stats.count)?;
            }
            write!(f, "{:.3e} to {:.3e}, deviation {:.3e}", stats.min, stats.max, stats.std)?;
        }
        Ok(())
    }
}

thread_local! {
    static ON: Cell<bool> = const { Cell::new(false) };
    /// Of the scopes that are open, the innermost last.
    static OPEN: RefCell<Vec<Trace>> = const { RefCell::new(Vec::new()) };
}

/// Runs `f` and tells what the points held that it passed on this thread.
///
/// Scopes nest; an outer one does not see what an inner one does. Around waits in thread pools it behaves as
/// [`report::scope`](crate::report::scope()) does.
pub fn scope<T>(f: impl FnOnce() -> T) -> (T, Trace) {
    /// Closes the scope, also when `f` unwinds.
    struct Close;
    impl Drop for Close {
        fn drop(&mut self) {
            close();
        }
    }
    OPEN.with_borrow_mut(|open| open.push(Trace::default()));
    ON.set(true);
    let guard = Close;
    let value = f();
    std::mem::forget(guard);
    (value, close())
}

fn close() -> Trace {
    OPEN.with_borrow_mut(|open| {
        let trace = open.pop().unwrap_or_default();
        ON.set(!open.is_empty());
        trace
    })
}

/// Takes the open scopes from this thread.
#[cfg(feature = "parallel")]
pub(crate) fn take() -> Vec<Trace> {
    ON.set(false);
    OPEN.take()
}

/// Puts back what [`take`] gave.
#[cfg(feature = "parallel")]
pub(crate) fn put(open: Vec<Trace>) {
    ON.set(!open.is_empty());
    OPEN.set(open);
}

/// Whether a scope is open on this thread: what a point would look at needs to be made only then.
#[inline]
pub fn is_on() -> bool {
    ON.get()
}

/// A point that was passed; [`Point::from`] tells what it was made of.
#[derive(Clone, Copy, Debug)]
pub struct Point {
    is_first: bool,
}

/// Looks at rows of `cols` elements, if a scope is open. What masks leave at -inf is not for a point.
///
/// The name is put together only where something is found: `format_args!("layer {i}, attention")` costs nothing else.
///
/// # Errors
/// [`Error::ShapeMismatch`] where `x` is no whole number of rows, [`Error::Backend`]; neither outside of a scope.
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
    /// Of no scope.
    pub(crate) const OFF: Point = Point { is_first: false };

    /// Whether its inputs are asked for.
    pub fn is_first(self) -> bool {
        self.is_first
    }

    /// Tells what the point was made of: looked at where it is the first that is not finite.
    ///
    /// # Errors
    /// [`Error::Backend`].
    pub fn from<'a>(self, name: impl fmt::Display, x: impl Into<Floats<'a>>) -> Result<Self> {
        if self.is_first {
            let stats = x.into().inspect()?;
            #[cfg(feature = "tracing")]
            tracing::warn!(input = %name, min = stats.min, max = stats.max, nan = stats.nan, "of what it was made");
            OPEN.with_borrow_mut(|open| {
                if let Some(first) = open.last_mut().and_then(|trace| trace.first.as_mut()) {
                    first.inputs.push(Input { name: name.to_string(), stats });
                }
            });
        }
        Ok(self)
    }
}
