//! Runs tests with one active mutant.

use anyhow::{Context, Result};
use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// Result of the tests for a mutant.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Outcome {
    Survived,
    /// A test failed, or the program ended without a result.
    Failed,
    TimedOut,
}

/// Signal that Linux sends to a process that exceeds its limit of CPU time.
const SIGXCPU: i32 = 24;

/// Runs one test program in `folder` with the mutant `number`, until the first test fails. The memory is limited to
/// 8 GiB. `limit` is CPU time, because other programs may keep the machine busy. A program that waits, and uses no CPU
/// time, is stopped after ten times as long. Returns the outcome and the duration.
pub fn run(
    program: &Path,
    filters: &[String],
    folder: &Path,
    number: u32,
    limit: Duration,
) -> Result<(Outcome, Duration)> {
    let start = Instant::now();
    let mut child = Command::new("sh")
        .args(["-c", "ulimit -v 8388608; ulimit -S -t \"$EVENKEEL_CPU_SECONDS\"; exec \"$0\" \"$@\""])
        .arg(program)
        .args(filters)
        .env("EVENKEEL_MUTANT", number.to_string())
        .env("EVENKEEL_CPU_SECONDS", limit.as_secs().to_string())
        .env("RUST_TEST_THREADS", "1")
        .env("RAYON_NUM_THREADS", "2")
        .current_dir(folder)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let (sender, receiver) = channel();
    let lines = BufReader::new(child.stdout.take().context("the test program has no output")?);
    std::thread::spawn(move || {
        let failed = lines.lines().map_while(Result::ok).any(|line| line.ends_with("FAILED"));
        // The receiver is gone after a timeout.
        let _ = sender.send(failed);
    });
    let outcome = match receiver.recv_timeout(10 * limit) {
        Ok(true) => Outcome::Failed,
        Err(RecvTimeoutError::Timeout) => Outcome::TimedOut,
        Ok(false) | Err(RecvTimeoutError::Disconnected) => {
            let status = child.wait()?;
            match status.signal() {
                Some(SIGXCPU) => Outcome::TimedOut,
                _ if status.success() => Outcome::Survived,
                _ => Outcome::Failed,
            }
        }
    };
    // Fails if the program has ended.
    let _ = child.kill();
    child.wait()?;
    Ok((outcome, start.elapsed()))
}
