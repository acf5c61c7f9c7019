//! Results of finished walks, with one row per function and instruction set.

use crate::atomic;
use crate::error::{Error, Result};
use crate::function::FUNCTIONS;
use crate::progress::Progress;
use crate::provenance::Provenance;
use crate::tally::Example;
use evenkeel::simd::Level;
use serde::{Deserialize, Serialize};
use std::fmt::Write;
use std::io::ErrorKind;
use std::path::Path;
use std::{fmt, fs};

/// Result of a finished walk.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Row {
    /// Name of the function.
    pub function: String,
    /// Name of the instruction set.
    pub simd: String,
    /// Reference that the results were compared with.
    pub reference: String,
    /// Number of compared inputs.
    pub inputs: u64,
    /// Number of results that are not correctly rounded.
    pub misrounded: u64,
    /// Largest error in ULP. If no result is misrounded, it is 0.5, the bound of correctly rounded results.
    pub largest_error_ulp: f64,
    /// Number of inputs whose expected result MPFR had to decide.
    pub by_mpfr: u64,
    /// Duration of the walk, in seconds.
    pub seconds: u64,
    /// Version of the library.
    pub evenkeel: String,
    /// Last commit that changed the library.
    pub commit: String,
    /// Hash of the git tree of this program's sources.
    pub program: String,
    /// Version of CORE-MATH's crate.
    pub core_math: String,
    /// Version of MPFR.
    pub mpfr: String,
    /// First misrounded inputs, as bits: `INPUT:RESULT:EXPECTED`, separated by blanks.
    pub examples: String,
}

impl Row {
    /// Creates the table row of a finished walk.
    pub fn new(reference: &str, walk: Progress) -> Self {
        let Progress { function, simd, seconds, provenance, tally, .. } = walk;
        let example = |Example { x, got, expected }: &Example| format!("{x:08x}:{got:08x}:{expected:08x}");
        Row {
            function,
            simd,
            reference: reference.into(),
            inputs: tally.inputs,
            misrounded: tally.misrounded,
            largest_error_ulp: tally.largest_error,
            by_mpfr: tally.by_mpfr,
            seconds: seconds.round() as u64,
            evenkeel: provenance.evenkeel,
            commit: provenance.commit,
            program: provenance.program,
            core_math: provenance.core_math,
            mpfr: provenance.mpfr,
            examples: tally.examples.iter().map(example).collect::<Vec<_>>().join(" "),
        }
    }

    /// Returns the versions that the row was made with.
    fn provenance(&self) -> Provenance {
        let Row { evenkeel, commit, program, core_math, mpfr, .. } = self.clone();
        Provenance { evenkeel, commit, program, core_math, mpfr }
    }

    /// Returns the sort key: the function's place in the list, then the instruction set, fastest first.
    fn place(&self) -> (usize, usize) {
        let function = FUNCTIONS.iter().position(|function| function.name == self.function);
        let level = Level::ALL.iter().rev().position(|level| level.name() == self.simd);
        (function.unwrap_or(usize::MAX), level.unwrap_or(usize::MAX))
    }
}

/// Formats the row as a line of the Markdown table.
impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Row { function, simd, reference, inputs, misrounded, largest_error_ulp, by_mpfr, seconds, .. } = self;
        let at_most = if *misrounded == 0 { "at most " } else { "" };
        write!(f, "| `{function}` | {simd} | {reference} | {inputs} | {misrounded} | {at_most}{largest_error_ulp} ")?;
        write!(f, "| {by_mpfr} | {seconds} |")
    }
}

/// Adds a row to the tables in a folder, `exhaustive.tsv` and `exhaustive.md`, or replaces the older version of the
/// row.
///
/// # Errors
/// [`Error::Damaged`] if a table is not in the expected format. The table is left unchanged.
pub fn merge(folder: &Path, row: Row) -> Result<()> {
    let path = folder.join("exhaustive.tsv");
    let mut rows = read(&path)?;
    rows.retain(|old| (&old.function, &old.simd) != (&row.function, &row.simd));
    rows.push(row);
    rows.sort_by_key(Row::place);
    atomic::write(&path, &machine_readable(&rows).map_err(|reason| Error::damaged(&path, reason))?)?;
    atomic::write(&folder.join("exhaustive.md"), &readable(&rows))
}

fn read(path: &Path) -> Result<Vec<Row>> {
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(source) if source.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(Error::file(path, source)),
    };
    let mut reader = csv::ReaderBuilder::new().delimiter(b'\t').from_reader(&text[..]);
    reader.deserialize().collect::<std::result::Result<_, _>>().map_err(|reason| Error::damaged(path, reason))
}

fn machine_readable(rows: &[Row]) -> std::result::Result<String, Box<dyn std::error::Error>> {
    let mut writer = csv::WriterBuilder::new().delimiter(b'\t').from_writer(Vec::new());
    for row in rows {
        writer.serialize(row)?;
    }
    Ok(String::from_utf8(writer.into_inner()?)?)
}

const HEAD: &str = "\
# Results at every f32 input

This table compares each function with the correctly rounded result, bit by bit, at all 2^32 inputs of f32. The inputs
include infinities, signed zeros, subnormal numbers and NaN. A NaN result must be the canonical NaN. The program
`exhaustive` wrote this page; its crate documentation describes the method. To repeat the comparison, run
`cargo run --release --manifest-path tools/exhaustive/Cargo.toml`. `exhaustive.tsv` has the same data for programs,
with the versions of the compared libraries.

| function | instruction set | reference | inputs | misrounded | largest error, ULP | decided by MPFR | seconds |
|---|---|---|---|---|---|---|---|
";

fn readable(rows: &[Row]) -> String {
    let mut text = String::from(HEAD);
    let mut versions = Vec::new();
    for row in rows {
        let version = row.provenance().to_string();
        if !versions.contains(&version) {
            versions.push(version);
        }
        text += &format!("{row}\n");
    }
    for version in versions {
        let _ = write!(text, "\n{version}.\n");
    }
    let wrong: Vec<&Row> = rows.iter().filter(|row| row.misrounded > 0).collect();
    if !wrong.is_empty() {
        text += "\n## Misrounded\n\nThe first of each function, as bits: input, result, correctly rounded result.\n\n";
    }
    for row in wrong {
        text += &format!("- `{}`, {}: {}\n", row.function, row.simd, row.examples);
    }
    text
}
