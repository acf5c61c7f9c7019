//! CPU time of the process and wall time.

use rustix::time::{ClockId, clock_gettime};

/// CPU time and wall time, in nanoseconds.
#[derive(Clone, Copy, Debug, Default)]
pub struct Time {
    pub cpu: f64,
    pub wall: f64,
}

/// Measures the duration of a piece of work.
pub fn time(work: impl FnOnce()) -> Time {
    let now = |clock| {
        let t = clock_gettime(clock);
        t.tv_sec as f64 * 1e9 + t.tv_nsec as f64
    };
    let start = Time { wall: now(ClockId::Monotonic), cpu: now(ClockId::ProcessCPUTime) };
    work();
    Time { cpu: now(ClockId::ProcessCPUTime) - start.cpu, wall: now(ClockId::Monotonic) - start.wall }
}
