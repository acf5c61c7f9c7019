//! Time that clipping, loss scaling and the monitor add to a step.

use crate::ops;
use crate::run::{Task, named, optimizer};
use anyhow::{Result, ensure};
use candle_nn::Optimizer;
use std::time::{Duration, Instant};

/// Number of initial steps that are not timed.
const FIRST: u64 = 20;

/// Measures the time of steps of two models, in alternation. The models have the same initial weights, ops and
/// optimizer. A plain loop trains one model. `StableStep`, with a log and event files, trains the other.
pub fn measure(task: &Task<'_>) -> Result<()> {
    ensure!(task.steps() > FIRST, "`--cost` needs more than {FIRST} steps, got {}", task.steps());
    let (plain, watched) = (task.decoder(&ops::GUARDED)?, task.decoder(&ops::GUARDED)?);
    let mut alone = optimizer(&named(&plain))?;
    let mut step = task.step(optimizer(&named(&watched))?)?.monitor(task.monitor()?);
    let (mut without, mut with) = (Vec::new(), Vec::new());
    for number in 0..task.steps() {
        let (texts, next) = task.batch(number)?;
        let time_alone = timed(|| {
            let loss = (ops::GUARDED.loss)(&plain.forward(&texts)?, &next)?;
            // The time includes reading the loss, because a training loop prints it.
            loss.to_scalar::<f32>()?;
            Ok(alone.step(&loss.backward()?)?)
        })?;
        let time_watched = timed(|| {
            let loss = || (ops::GUARDED.loss)(&watched.forward(&texts).map_err(candle_core::Error::wrap)?, &next);
            Ok(step.run(loss).map(drop)?)
        })?;
        if number >= FIRST {
            without.push(time_alone);
            with.push(time_watched);
        }
    }
    let (without, with) = (median(without), median(with));
    let more = 100.0 * (with.as_secs_f64() / without.as_secs_f64() - 1.0);
    println!(
        "a step without guards: {without:.2?}, with clipping, loss scaling and the monitor: {with:.2?} ({more:+.1} %)"
    );
    Ok(())
}

/// Returns the time of a step, including the release of its memory.
fn timed(step: impl FnOnce() -> Result<()>) -> Result<Duration> {
    let start = Instant::now();
    step()?;
    Ok(start.elapsed())
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}
