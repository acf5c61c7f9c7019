//! What the guards met, counted by a scope.
//!
//! Ops never change anything silently, and never log. Whoever wants to know whether rows were wholly masked, or had
//! NaN in them, wraps the calls in [`scope`]; without one, counting costs a look at a thread-local flag for each call.

#![forbid(unsafe_code)]

use std::cell::RefCell;
use std::fmt;

/// Counts of one op.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counts {
    /// Calls of the op.
    pub calls: u64,
    /// Rows that it was given.
    pub rows: u64,
    /// Rows with nothing to attend to, for which the [`FullyMasked`](crate::FullyMasked) policy stood in.
    pub wholly_masked: u64,
    /// Rows with a NaN in them.
    pub nan: u64,
    /// Rows with an infinity that is not a mask: the output is NaN there, but in logsumexp and the sampler.
    pub infinite: u64,
}

impl Counts {
    /// Whether the guards met nothing.
    pub fn is_clean(&self) -> bool {
        self.wholly_masked == 0 && self.nan == 0 && self.infinite == 0
    }

    /// Adds a row of which some number that is not finite was seen.
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
        self.wholly_masked += other.wholly_masked;
        self.nan += other.nan;
        self.infinite += other.infinite;
    }
}

/// What a scope met, by op, in the order of the first call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Met {
    ops: Vec<(&'static str, Counts)>,
}

impl Met {
    /// The counts of each op that was called.
    pub fn ops(&self) -> impl Iterator<Item = (&'static str, Counts)> + '_ {
        self.ops.iter().copied()
    }

    /// The counts of one op; all zero if it was not called.
    pub fn op(&self, name: &str) -> Counts {
        self.ops().find(|(op, _)| *op == name).map_or_else(Counts::default, |(_, counts)| counts)
    }

    /// Whether no guard met anything.
    pub fn is_clean(&self) -> bool {
        self.ops().all(|(_, counts)| counts.is_clean())
    }

    /// Adds what another scope met.
    pub fn merge(&mut self, other: &Met) {
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

impl fmt::Display for Met {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.ops.is_empty() {
            return f.write_str("no op was called");
        }
        for (i, (op, counts)) in self.ops.iter().enumerate() {
            let separator = if i == 0 { "" } else { " · " };
            write!(f, "{separator}{op}: ")?;
            let mut parts = Vec::new();
            for (count, what) in
                [(counts.wholly_masked, "wholly masked"), (counts.nan, "with NaN"), (counts.infinite, "with infinity")]
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
    static OPEN: RefCell<Vec<Met>> = const { RefCell::new(Vec::new()) };
}

/// Runs `f` and tells what the guards met in the ops that it called from this thread, through candle or not.
///
/// An op that spreads its rows over a thread pool counts them all. Scopes nest: an outer one counts what an inner
/// one does.
///
/// A thread that waits in a large op may run tasks of other requests meanwhile; the scope is set aside until the wait is
/// over, so it does not count them. A wait inside `f` that is not Evenkeel's, such as `par_iter` or a product of candle's,
/// cannot be seen: tasks that this thread runs then are counted, and tasks that other threads run for `f` are not. Where
/// such a pool is shared by requests, open a scope in each task and [merge](Met::merge) the reports.
///
/// ```
/// use evenkeel::{Rows, Softmax, report, softmax};
/// let inf = f32::NEG_INFINITY;
/// let (y, met) = report::scope(|| softmax(Rows::new(&[0.0, 1.0, inf, inf], 2, 2)?, &Softmax::default()));
/// assert_eq!(met.op("softmax").wholly_masked, 1);
/// assert_eq!(met.to_string(), "softmax: 1 of 2 rows wholly masked");
/// # y.map(|_| ())
/// # .map_err(|e: evenkeel::Error| e)?;
/// # Ok::<(), evenkeel::Error>(())
/// ```
pub fn scope<T>(f: impl FnOnce() -> T) -> (T, Met) {
    /// Closes the scope, also when `f` unwinds.
    struct Close;
    impl Drop for Close {
        fn drop(&mut self) {
            close();
        }
    }
    OPEN.with_borrow_mut(|open| open.push(Met::default()));
    let guard = Close;
    let value = f();
    std::mem::forget(guard);
    (value, close())
}

fn close() -> Met {
    OPEN.with_borrow_mut(|open| {
        let met = open.pop().unwrap_or_default();
        if let Some(outer) = open.last_mut() {
            outer.merge(&met);
        }
        met
    })
}

/// Takes the open scopes from this thread.
#[cfg(feature = "parallel")]
pub(crate) fn take() -> Vec<Met> {
    OPEN.take()
}

/// Puts back what [`take`] gave.
#[cfg(feature = "parallel")]
pub(crate) fn put(open: Vec<Met>) {
    OPEN.set(open);
}

/// Adds one call's counts to the open scope, if there is one.
pub(crate) fn record(op: &'static str, counts: Counts) {
    OPEN.with_borrow_mut(|open| {
        if let Some(met) = open.last_mut() {
            met.add(op, &Counts { calls: 1, ..counts });
        }
    });
}
