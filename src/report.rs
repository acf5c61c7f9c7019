//! Counts of fully masked and non-finite rows, collected by a scope.
//!
//! Ops never change a value silently, and never log. To learn whether rows were fully masked or held NaN, wrap the
//! calls in [`scope`]. Outside a scope, each call only reads a thread-local flag.

#![forbid(unsafe_code)]

use std::cell::RefCell;
use std::fmt;

/// Counts of one op.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counts {
    /// Number of calls.
    pub calls: u64,
    /// Number of input rows.
    pub rows: u64,
    /// Number of fully masked rows. The policy [`FullyMasked`](crate::FullyMasked) defines their results.
    pub fully_masked: u64,
    /// Number of rows that hold a NaN.
    pub nan: u64,
    /// Number of rows that hold an infinity. A logit of -inf is masked and does not count. The documentation of each op
    /// defines the result of a row with an infinity.
    pub infinite: u64,
}

impl Counts {
    /// Returns whether no row was fully masked or non-finite.
    pub fn is_clean(&self) -> bool {
        self.fully_masked == 0 && self.nan == 0 && self.infinite == 0
    }

    /// Counts a row that holds a non-finite `value`.
    pub(crate) fn add_broken(&mut self, value: f64) {
        if value.is_infinite() {
            self.infinite += 1;
        } else {
            self.nan += 1;
        }
    }

    pub(crate) fn add(&mut self, other: &Counts) {
        self.calls += other.calls;
        self.rows += other.rows;
        self.fully_masked += other.fully_masked;
        self.nan += other.nan;
        self.infinite += other.infinite;
    }
}

/// Counts of a scope, separately for each op. The ops are in the order of their first calls.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    ops: Vec<(&'static str, Counts)>,
}

impl Report {
    /// Returns the counts of each op that was called.
    pub fn ops(&self) -> impl Iterator<Item = (&'static str, Counts)> + '_ {
        self.ops.iter().copied()
    }

    /// Returns the counts of one op. They are all zero if the op was not called.
    pub fn op(&self, name: &str) -> Counts {
        self.ops().find(|(op, _)| *op == name).map_or_else(Counts::default, |(_, counts)| counts)
    }

    /// Returns whether no op had a fully masked or non-finite row.
    pub fn is_clean(&self) -> bool {
        self.ops().all(|(_, counts)| counts.is_clean())
    }

    /// Adds the counts of another scope.
    pub fn merge(&mut self, other: &Report) {
        for (op, counts) in other.ops() {
            self.add(op, &counts);
        }
    }

    fn add(&mut self, op: &'static str, counts: &Counts) {
        match self.ops.iter_mut().find(|(name, _)| *name == op) {
            Some((_, sum)) => sum.add(counts),
            None => self.ops.push((op, *counts)),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.ops.is_empty() {
            return f.write_str("no op was called");
        }
        for (i, (op, counts)) in self.ops.iter().enumerate() {
            let separator = if i == 0 { "" } else { " · " };
            write!(f, "{separator}{op}: ")?;
            let mut parts = Vec::new();
            for (count, what) in
                [(counts.fully_masked, "fully masked"), (counts.nan, "with NaN"), (counts.infinite, "with infinity")]
            {
                if count > 0 {
                    parts.push(format!("{count} of {} rows {what}", counts.rows));
                }
            }
            f.write_str(if parts.is_empty() { "none" } else { "" })?;
            f.write_str(&parts.join(", "))?;
        }
        Ok(())
    }
}

thread_local! {
    static OPEN: RefCell<Vec<Report>> = const { RefCell::new(Vec::new()) };
}

/// Runs `f`. Returns the result of `f`, with the counts of the ops that `f` called on this thread, directly or through
/// candle.
///
/// If an op runs on a thread pool, all of its rows are counted. Scopes nest: an outer scope includes the counts of its
/// inner scopes.
///
/// A thread that waits in a large op may run tasks of other requests. The scope is suspended during such a wait, so it
/// does not count these tasks. Evenkeel cannot detect that `f` waits in other libraries, such as `par_iter` or a matrix
/// product of candle. During such a wait, this thread's scope counts all tasks that this thread runs, and no tasks that
/// other threads run for `f`. If requests share such a pool, open a scope in each task and [merge](Report::merge) the
/// reports.
///
/// ```
/// use evenkeel::{Rows, Softmax, report, softmax};
/// let inf = f32::NEG_INFINITY;
/// let (y, report) = report::scope(|| softmax(Rows::new(&[0.0, 1.0, inf, inf], 2, 2)?, &Softmax::default()));
/// assert_eq!(report.op("softmax").fully_masked, 1);
/// assert_eq!(report.to_string(), "softmax: 1 of 2 rows fully masked");
/// # y.map(|_| ())
/// # .map_err(|e: evenkeel::Error| e)?;
/// # Ok::<(), evenkeel::Error>(())
/// ```
pub fn scope<T>(f: impl FnOnce() -> T) -> (T, Report) {
    /// Closes the scope if `f` unwinds.
    struct Close;
    impl Drop for Close {
        fn drop(&mut self) {
            close();
        }
    }
    OPEN.with_borrow_mut(|open| open.push(Report::default()));
    let guard = Close;
    let value = f();
    std::mem::forget(guard);
    (value, close())
}

fn close() -> Report {
    OPEN.with_borrow_mut(|open| {
        let report = open.pop().unwrap_or_default();
        if let Some(outer) = open.last_mut() {
            outer.merge(&report);
        }
        report
    })
}

/// Removes the open scopes from this thread and returns them.
#[cfg(feature = "parallel")]
pub(crate) fn take() -> Vec<Report> {
    OPEN.take()
}

/// Restores the scopes that [`take`] returned.
#[cfg(feature = "parallel")]
pub(crate) fn put(open: Vec<Report>) {
    OPEN.set(open);
}

/// Adds one call's counts to the innermost open scope, if there is one.
pub(crate) fn record(op: &'static str, counts: Counts) {
    OPEN.with_borrow_mut(|open| {
        if let Some(report) = open.last_mut() {
            report.add(op, &Counts { calls: 1, ..counts });
        }
    });
}
