//! The results of finished walks: one row for a function and an instruction set.

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

/// What a finished walk gave.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Row {
    /// The function.
    pub function: String,
    /// The name of the instruction set.
    pub simd: String,
    /// What results were compared with.
    pub reference: String,
    /// Inputs compared.
    pub inputs: u64,
    /// Results that are not correctly rounded.
    pub misrounded: u64,
    /// The largest error in ULP; 0.5, which correctly rounded results keep to, where none is misrounded.
    pub largest_error_ulp: f64,
    /// Inputs that it took MPFR to tell the expected result of.
    pub by_mpfr: u64,
    /// Time that it took.
    pub seconds: u64,
    /// The library's version.
    pub evenkeel: String,
    /// The last commit that changed the library.
    pub commit: String,
    /// This program's sources, as git calls their tree.
    pub program: String,
    /// CORE-MATH's version, as the crate counts.
    pub core_math: String,
    /// MPFR's version.
    pub mpfr: String,
    /// The first misrounded inputs, as bits: `INPUT:RESULT:EXPECTED`, blanks between.
    pub examples: String,
}

impl Row {
    /// That of a walk.
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

    /// What was compared with what.
    fn provenance(&self) -> Provenance {
        let Row { evenkeel, commit, program, core_math, mpfr, .. } = self.clone();
        Provenance { evenkeel, commit, program, core_math, mpfr }
    }

    /// Where it stands: functions as they are listed, of each the fastest instruction set first.
    fn place(&self) -> (usize, usize) {
        let function = FUNCTIONS.iter().position(|function| function.name == self.function);
        let level = Level::ALL.iter().rev().position(|level| level.name() == self.simd);
        (function.unwrap_or(usize::MAX), level.unwrap_or(usize::MAX))
    }
}

/// A line of the table for readers.
impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Row { function, simd, reference, inputs, misrounded, largest_error_ulp, by_mpfr, seconds, .. } = self;
        let at_most = if *misrounded == 0 { "at most " } else { "" };
        write!(f, "| `{function}` | {simd} | {reference} | {inputs} | {misrounded} | {at_most}{largest_error_ulp} ")?;
        write!(f, "| {by_mpfr} | {seconds} |")
    }
}

/// Replaces a row of the tables in a folder, `exhaustive.tsv` and `exhaustive.md`, or adds it.
///
/// # Errors
/// [`Error::Damaged`] for a table that is not one; it is left as it is.
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
# Every f32

Each function's results at all 2^32 inputs, compared bit by bit with the correctly rounded ones: infinities, signed
zeros, subnormal numbers and NaN, of which the canonical one is expected, among them. Written by `exhaustive`, whose
documentation says how; `cargo run --release --manifest-path tools/exhaustive/Cargo.toml` does it again. `exhaustive.tsv` has
the same for programs, with the versions of what was compared.

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
        text += "\n## Misrounded\n\nThe first of each, as bits: input, result, correctly rounded result.\n\n";
    }
    for row in wrong {
        text += &format!("- `{}`, {}: {}\n", row.function, row.simd, row.examples);
    }
    text
}
