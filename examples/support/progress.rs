//! Progress of work that takes long enough to wonder about.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::time::{Duration, Instant};

/// A bar on stderr for what takes longer than a second; none where stderr is not a terminal.
pub struct Progress {
    bar: ProgressBar,
    start: Instant,
}

impl Progress {
    /// For this many steps, named by a plural.
    pub fn new(steps: usize, what: &str) -> Self {
        let bar = ProgressBar::with_draw_target(Some(steps as u64), ProgressDrawTarget::hidden());
        let style = ProgressStyle::with_template(&format!("{{bar:40}} {{pos}} of {{len}} {what}, {{eta}} left{{msg}}"));
        Progress { bar: style.into_iter().fold(bar, ProgressBar::with_style), start: Instant::now() }
    }

    /// One step is done.
    pub fn step(&self) {
        self.bar.inc(1);
        if self.bar.is_hidden() && self.start.elapsed() > Duration::from_secs(1) {
            self.bar.set_draw_target(ProgressDrawTarget::stderr());
        }
    }

    /// What is behind the bar.
    #[allow(dead_code, reason = "not every program that shows progress has more to say")]
    pub fn show(&self, text: &str) {
        self.bar.set_message(format!(", {text}"));
    }

    /// A line on stderr, above the bar.
    #[allow(dead_code, reason = "not every program that shows progress has more to say")]
    pub fn say(&self, line: &str) {
        self.bar.suspend(|| eprintln!("{line}"));
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
