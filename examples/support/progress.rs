//! Progress bar for long-running work.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::time::{Duration, Instant};

/// Progress bar on stderr, shown once the work has taken more than a second. Nothing is shown if stderr is not a
/// terminal.
pub struct Progress {
    bar: ProgressBar,
    start: Instant,
}

impl Progress {
    /// Creates a bar for `steps` steps. `what` names the steps, in the plural.
    pub fn new(steps: usize, what: &str) -> Self {
        let bar = ProgressBar::with_draw_target(Some(steps as u64), ProgressDrawTarget::hidden());
        let style = ProgressStyle::with_template(&format!("{{bar:40}} {{pos}} of {{len}} {what}, {{eta}} left{{msg}}"));
        Progress { bar: style.into_iter().fold(bar, ProgressBar::with_style), start: Instant::now() }
    }

    /// Counts one finished step.
    pub fn step(&self) {
        self.bar.inc(1);
        if self.bar.is_hidden() && self.start.elapsed() > Duration::from_secs(1) {
            self.bar.set_draw_target(ProgressDrawTarget::stderr());
        }
    }

    /// Shows a text after the bar.
    #[allow(dead_code, reason = "not every program that shows a bar calls it")]
    pub fn show(&self, text: &str) {
        self.bar.set_message(format!(", {text}"));
    }

    /// Prints a line on stderr above the bar.
    #[allow(dead_code, reason = "not every program that shows a bar calls it")]
    pub fn say(&self, line: &str) {
        self.bar.suspend(|| eprintln!("{line}"));
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
