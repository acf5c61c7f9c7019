//! Open scopes of trace points on a thread, and their results.

#![forbid(unsafe_code)]

use crate::stats::{Finite, Stats};
use std::cell::{Cell, RefCell};
use std::fmt;

/// The result of a scope: counts of its points, and the first point that was not finite.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Trace {
    /// Number of points that were checked.
    pub points: u64,
    /// Number of points that held a NaN or an infinity.
    pub broken: u64,
    /// The first point that held a NaN or an infinity.
    pub first: Option<Broken>,
}

/// A point that held a NaN or an infinity.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Broken {
    /// Name of the point.
    pub point: String,
    /// Row of the first value that is not finite.
    pub row: usize,
    /// Column of the first value that is not finite.
    pub column: usize,
    /// The first value that is not finite.
    pub value: f64,
    /// Counts of NaN and infinities.
    pub finite: Finite,
    /// The inputs that were passed to [`Point::from`](crate::trace::Point::from).
    pub inputs: Vec<Input>,
}

/// Input that was added to a trace point, with its statistics.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Input {
    /// Name of the input.
    pub name: String,
    /// Statistics of the input, from [`inspect`](crate::inspect()).
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
        write!(
            f,
            "{point}, row {row}: {value} at column {column}; {} NaN and {} infinite",
            finite.nan, finite.infinite
        )?;
        write!(f, " of {} elements", finite.count)?;
        for Input { name, stats } in inputs {
            write!(f, "; {name}: ")?;
            let broken = stats.nan + stats.infinite;
            if broken > 0 {
                write!(f, "{broken} of {} elements are not finite, the others ", stats.count)?;
            }
            write!(f, "{:.3e} to {:.3e}, standard deviation {:.3e}", stats.min, stats.max, stats.std)?;
        }
        Ok(())
    }
}

thread_local! {
    static ON: Cell<bool> = const { Cell::new(false) };
    /// Traces of the open scopes, the innermost last.
    pub(crate) static OPEN: RefCell<Vec<Trace>> = const { RefCell::new(Vec::new()) };
}

/// Runs `f` and returns its result with the trace of its calls to [`point`](crate::trace::point()) on this thread.
///
/// Scopes nest; an outer scope does not include the points of an inner one. A thread that waits in a thread pool may
/// run other tasks. [`report::scope`](crate::report::scope()) describes which of these tasks a scope includes.
pub fn scope<T>(f: impl FnOnce() -> T) -> (T, Trace) {
    /// Closes the scope if `f` unwinds.
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

/// Removes the open scopes from this thread and returns them.
#[cfg(feature = "parallel")]
pub(crate) fn take() -> Vec<Trace> {
    ON.set(false);
    OPEN.take()
}

/// Restores the scopes that [`take`] returned.
#[cfg(feature = "parallel")]
pub(crate) fn put(open: Vec<Trace>) {
    ON.set(!open.is_empty());
    OPEN.set(open);
}

/// Returns whether a scope is open on this thread. If none is open, a program need not compute values that only trace
/// points use.
#[inline]
pub fn is_on() -> bool {
    ON.get()
}
