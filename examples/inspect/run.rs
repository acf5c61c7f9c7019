//! Runs the program: reads the checkpoint, applies the thresholds, writes the reports.

use crate::arguments::Arguments;
use crate::out::{Out, Written};
use crate::picture;
use crate::progress::Progress;
use crate::report::Report;
use crate::table;
use anyhow::{Context, Result};
use evenkeel::checkpoint::{Checkpoint, Inspected};
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

/// Returns whether any finding counts as a failure. Fails if a file could not be read or written.
pub fn run(arguments: &Arguments) -> Result<bool> {
    let on_stdout = arguments.json.as_deref() == Some(Path::new("-"));
    let json = arguments.json.as_deref().filter(|_| !on_stdout).map(Out::new).transpose()?;
    let histogram = arguments.histogram.as_deref().map(Out::new).transpose()?;
    let checkpoint = Checkpoint::open(&arguments.checkpoint)?;
    let report = Report::new(&checkpoint, inspected(&checkpoint)?, arguments.thresholds());

    let text = serde_json::to_string_pretty(&report)? + "\n";
    let mut written: Vec<Written<'_>> = Vec::new();
    if let Some(out) = &json {
        written.push(out.write(text.as_bytes())?);
    }
    if let Some(out) = &histogram {
        written.push(out.write(worst(&report)?.as_bytes())?);
    }
    let mut stdout = BufWriter::new(std::io::stdout().lock());
    let printed = if on_stdout {
        stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush())
    } else {
        table::write(&mut stdout, &report, arguments.top)
    };
    printed.context("can't write to stdout")?;
    written.into_iter().try_for_each(Written::rename)?;
    Ok(report.findings().any(|finding| arguments.fail_on.includes(finding.level)))
}

fn inspected(checkpoint: &Checkpoint) -> Result<Vec<Inspected>> {
    let steps = |bytes: u64| (bytes >> 20) as usize;
    let (progress, read) = (Progress::new(steps(checkpoint.bytes()), "MiB"), AtomicU64::new(0));
    let inspected = checkpoint.inspect_with(|bytes| {
        let before = read.fetch_add(bytes, Ordering::Relaxed);
        (steps(before)..steps(before + bytes)).for_each(|_| progress.step());
    })?;
    Ok(inspected)
}

/// Draws the histogram of the worst tensor that has statistics.
fn worst(report: &Report) -> Result<String> {
    let analysed = report.tensors.iter().find_map(|entry| Some((&entry.tensor, entry.tensor.stats.as_ref()?)));
    let (tensor, stats) = analysed.context("can't draw a picture: no tensor has a supported type")?;
    picture::draw(tensor, stats)
}
