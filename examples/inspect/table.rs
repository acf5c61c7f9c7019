//! Table that is printed on stdout.

use crate::report::{Entry, Report};
use evenkeel::checkpoint::Level;
use std::collections::BTreeMap;
use std::io::{Result, Write};

/// Writes the first `top` tensors with their findings, or all tensors if `top` is 0. Then writes a summary of all
/// tensors.
pub fn write(out: &mut impl Write, report: &Report, top: usize) -> Result<()> {
    let top = if top == 0 { usize::MAX } else { top };
    let shown = &report.tensors[..report.tensors.len().min(top)];
    let names: Vec<String> = shown.iter().map(|entry| entry.tensor.name.escape_debug().to_string()).collect();
    let width = names.iter().map(|name| name.chars().count()).chain([6]).max().unwrap_or(6);
    writeln!(
        out,
        "{:7}  {:width$}  {:7}  {:>16}  {:>9}  {:>9}  {:>9}  {:>9}  {:>9}  {:>9}",
        "", "tensor", "dtype", "shape", "min", "max", "mean", "std", "|x| 99 %", "not finite"
    )?;
    for (entry, name) in shown.iter().zip(names) {
        row(out, entry, &name, width)?;
    }
    if let more @ 1.. = report.tensors.len() - shown.len() {
        writeln!(out, "and {more} more: --top 0 shows all")?;
    }
    summary(out, report)
}

fn row(out: &mut impl Write, entry: &Entry, name: &str, width: usize) -> Result<()> {
    let level = entry.level().map_or("", Level::name);
    let shape: Vec<String> = entry.tensor.shape.iter().map(u64::to_string).collect();
    write!(out, "{level:7}  {name:width$}  {:7}  {:>16}", entry.tensor.dtype, shape.join("x"))?;
    match &entry.tensor.stats {
        Some(stats) => {
            for value in [stats.min, stats.max, stats.mean, stats.std, stats.abs_quantiles[3]] {
                write!(out, "  {:>9}", number(value))?;
            }
            writeln!(out, "  {:>9}", stats.nan + stats.infinite)?;
        }
        None => writeln!(out, "  not analysed")?,
    }
    for finding in &entry.findings {
        writeln!(out, "         {} {}: {}", finding.level.name(), finding.about, finding.message)?;
    }
    Ok(())
}

fn summary(out: &mut impl Write, report: &Report) -> Result<()> {
    let count = |level| report.findings().filter(|finding| finding.level == level).count();
    let [errors, warnings, notes] = [Level::Error, Level::Warning, Level::Note].map(count);
    let elements: u64 = report.tensors.iter().map(|entry| entry.tensor.elements).fold(0, u64::saturating_add);
    let tensors = report.tensors.len();
    writeln!(out, "tensors: {tensors}, elements: {elements}, errors: {errors}, warnings: {warnings}, notes: {notes}")?;
    let mut skipped: BTreeMap<&str, usize> = BTreeMap::new();
    for entry in report.tensors.iter().filter(|entry| entry.tensor.stats.is_none()) {
        *skipped.entry(entry.tensor.dtype).or_default() += 1;
    }
    if !skipped.is_empty() {
        let skipped: Vec<String> = skipped.iter().map(|(dtype, count)| format!("{count} of {dtype}")).collect();
        writeln!(out, "not analysed: {}", skipped.join(", "))?;
    }
    out.flush()
}

/// Formats a number with four significant digits, or in scientific notation.
fn number(x: f64) -> String {
    match x.abs() {
        _ if x.is_nan() => "-".into(),
        0.0 => "0".into(),
        1e-3..1e5 => {
            let places = (3.0 - x.abs().log10().floor()).clamp(0.0, 6.0) as usize;
            format!("{x:.places$}")
        }
        _ => format!("{x:.2e}"),
    }
}
