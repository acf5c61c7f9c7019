//! What a thread has open: scopes of [`report`] and [`trace`], the level of [`with_level`](crate::simd::with_level), and
//! the floating-point environment that was set for a kernel.
//!
//! A thread that waits inside rayon runs other tasks until it may go on, and these may belong to another request. All that
//! is open is set aside around such a wait, so that a foreign task is not counted, runs at its own level, and finds the
//! environment of its thread.

#![forbid(unsafe_code)]

use crate::report;
use crate::simd::{Token, environment, put_forced, take_forced};
#[cfg(feature = "train")]
use crate::trace;

/// Sets aside what this thread has open. Dropping the result puts it back, also when unwinding.
pub(crate) fn suspend() -> Suspended {
    Suspended {
        reports: report::take(),
        #[cfg(feature = "train")]
        traces: trace::take(),
        forced: take_forced(),
        _environment: environment::leave(),
    }
}

/// What a thread had open.
pub(crate) struct Suspended {
    reports: Vec<report::Met>,
    #[cfg(feature = "train")]
    traces: Vec<trace::Trace>,
    forced: Option<Token>,
    _environment: environment::Left,
}

impl Drop for Suspended {
    fn drop(&mut self) {
        report::put(std::mem::take(&mut self.reports));
        #[cfg(feature = "train")]
        trace::put(std::mem::take(&mut self.traces));
        put_forced(self.forced.take());
    }
}
