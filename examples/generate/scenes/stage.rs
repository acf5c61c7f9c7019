//! Output of the scenes, and a table of the cases that Evenkeel's guards handled.

use anyhow::{Context, Result};
use evenkeel::report::{self, Report};
use std::io::{Stdout, Write};

/// Stage on which scenes are played: stdout.
pub struct Stage {
    out: Stdout,
    report: Vec<(&'static str, Report)>,
}

impl Stage {
    pub fn new() -> Self {
        Stage { out: std::io::stdout(), report: Vec::new() }
    }

    /// Begins a scene.
    pub fn title(&mut self, title: &'static str) -> Result<()> {
        self.report.push((title, Report::default()));
        self.heading(title)
    }

    /// Runs the part of a scene that uses Evenkeel. [`Stage::close`] prints the guards' counts for this part.
    pub fn guarded<T>(&mut self, part: impl FnOnce() -> T) -> T {
        let (value, report) = report::scope(part);
        if let Some((_, sum)) = self.report.last_mut() {
            sum.merge(&report);
        }
        value
    }

    /// Prints the table of what the guards reported.
    pub fn close(&mut self) -> Result<()> {
        self.heading("What Evenkeel's guards reported")?;
        let row = |scene: &str, op: &str, counts: [u64; 5]| {
            [scene.to_string(), op.to_string()].into_iter().chain(counts.map(|count| count.to_string())).collect()
        };
        let mut rows: Vec<Vec<String>> = Vec::new();
        for (title, report) in &self.report {
            let (scene, _) = title.split_once('.').unwrap_or((title, ""));
            rows.extend(report.ops().map(|(op, counts)| {
                row(scene, op, [counts.calls, counts.rows, counts.fully_masked, counts.nan, counts.infinite])
            }));
        }
        self.table(&["scene", "op", "calls", "rows", "fully masked", "with NaN", "with infinity"], &rows)
    }

    /// Prints a heading that does not begin a scene.
    pub fn heading(&mut self, heading: &str) -> Result<()> {
        self.say(&format!("\n{heading}\n{}", "=".repeat(heading.chars().count())))
    }

    /// Prints the naive result and Evenkeel's result for one case.
    pub fn compare(&mut self, case: &str, naive: &str, evenkeel: &str) -> Result<()> {
        self.say(&format!("  {case}\n    naive     {naive}\n    Evenkeel  {evenkeel}"))
    }

    /// Prints a paragraph after an empty line.
    pub fn say(&mut self, text: &str) -> Result<()> {
        writeln!(self.out, "\n{text}").context("can't write to stdout")
    }

    /// Prints a paragraph without ending its line.
    pub fn begin(&mut self, text: &str) -> Result<()> {
        write!(self.out, "\n{text}").and_then(|()| self.out.flush()).context("can't write to stdout")
    }

    /// Prints a table with columns as wide as needed.
    pub fn table(&mut self, head: &[&str], rows: &[Vec<String>]) -> Result<()> {
        let width = |column: usize, head: &str| {
            let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
            cells.chain([head.chars().count()]).max().unwrap_or(0)
        };
        let widths: Vec<usize> = head.iter().enumerate().map(|(column, head)| width(column, head)).collect();
        let line = |cells: &[String]| {
            let padded = cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
            format!("  {}", padded.collect::<Vec<_>>().join("  ")).trim_end().to_string()
        };
        let head: Vec<String> = head.iter().map(|head| head.to_string()).collect();
        let rule: Vec<String> = widths.iter().map(|width| "-".repeat(*width)).collect();
        let lines: Vec<String> = [&head, &rule].into_iter().chain(rows).map(|cells| line(cells)).collect();
        self.say(&lines.join("\n"))
    }
}
