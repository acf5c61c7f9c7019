//! Suspension of a thread's state: the scopes of [`report`] and [`trace`](crate::trace), the level of
//! [`with_level`](crate::simd::with_level), and the floating-point environment that was set for a kernel.
//!
//! While a thread waits inside rayon, it runs other tasks, which may belong to another request. The state is suspended
//! during such a wait. A task of another request is then not counted in this thread's scopes. It runs at its own level,
//! and in the thread's original environment.

use super::environment;
use super::level::{Token, put_forced, take_forced};
use crate::report;
#[cfg(feature = "train")]
use crate::trace_scope;

/// Suspends the state of this thread. Dropping the result restores the state, even when unwinding.
pub(crate) fn suspend() -> Suspended {
    Suspended {
        reports: report::take(),
        #[cfg(feature = "train")]
        traces: trace_scope::take(),
        forced: take_forced(),
        _environment: environment::leave(),
    }
}

/// The suspended state of a thread.
pub(crate) struct Suspended {
    reports: Vec<report::Report>,
    #[cfg(feature = "train")]
    traces: Vec<trace_scope::Trace>,
    forced: Option<Token>,
    _environment: environment::Left,
}

impl Drop for Suspended {
    fn drop(&mut self) {
        report::put(std::mem::take(&mut self.reports));
        #[cfg(feature = "train")]
        trace_scope::put(std::mem::take(&mut self.traces));
        put_forced(self.forced.take());
    }
}
