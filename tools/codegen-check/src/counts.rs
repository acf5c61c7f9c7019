//! Committed counts, and the comparison with them.

use crate::callgrind;
use crate::cases::Case;
use crate::error::{Error, Result};
use evenkeel::simd::Level;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Instruction sets that callgrind supports.
const LEVELS: [Level; 2] = [Level::Avx2, Level::Portable];
/// Largest allowed ratio of a count to the committed count. Different compilers give ratios below this limit. One
/// additional function call per block gives a ratio above it.
const LIMIT: f64 = 1.5;

#[derive(Clone, Serialize, Deserialize)]
struct Row {
    op: String,
    dtype: String,
    simd: String,
    instructions_per_element: f64,
}

impl Row {
    /// Returns whether both rows count the same op, type and instruction set.
    fn is_same(&self, other: &Row) -> bool {
        (&self.op, &self.dtype, &self.simd) == (&other.op, &other.dtype, &other.simd)
    }
}

fn table() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/counts.tsv"))
}

fn count() -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for level in LEVELS {
        for (case, count) in Case::all().zip(callgrind::per_element(level)?) {
            rows.push(Row {
                op: case.name().into(),
                dtype: case.dtype.to_string(),
                simd: level.name().into(),
                instructions_per_element: (count * 100.0).round() / 100.0,
            });
        }
    }
    Ok(rows)
}

fn known() -> Result<Vec<Row>> {
    let mut reader = csv::ReaderBuilder::new().delimiter(b'\t').from_path(table())?;
    Ok(reader.deserialize().collect::<std::result::Result<_, _>>()?)
}

/// Counts the instructions, and writes the table. If ops are given, only their rows change.
pub fn write(ops: &[String]) -> Result<()> {
    let known = known()?;
    let rows = count()?.into_iter().filter_map(|row| match ops {
        [_, ..] if !ops.contains(&row.op) => known.iter().find(|known| known.is_same(&row)).cloned(),
        _ => Some(row),
    });
    let rows: Vec<Row> = rows.collect();
    let mut writer = csv::WriterBuilder::new().delimiter(b'\t').from_writer(Vec::new());
    rows.iter().try_for_each(|row| writer.serialize(row))?;
    let text = writer.into_inner().map_err(|error| csv::Error::from(error.into_error()))?;
    std::fs::write(table(), text).map_err(|source| Error::file(&table(), source))
}

/// Counts the instructions, and compares them with the table. Returns whether all counts are within the limits.
pub fn check() -> Result<bool> {
    let (known, rows) = (known()?, count()?);
    let mut found = Vec::new();
    for row in &rows {
        let Row { op, dtype, simd, instructions_per_element: now } = row;
        let before = known.iter().find(|known| known.is_same(row));
        match before.map(|row| row.instructions_per_element) {
            None => found.push(format!("{op} {dtype} {simd}: {now}, not in counts.tsv")),
            // A count below a tenth means that the op returned early, or that nothing was counted.
            Some(before) if *now < before / 10.0 || *now > before * LIMIT => {
                found.push(format!("{op} {dtype} {simd}: {now}, was {before}"));
            }
            Some(_) => {}
        }
    }
    for line in &found {
        println!("instructions per element: {line}");
    }
    println!(
        "{} counts; {} of them are not in counts.tsv, or are above {LIMIT} times or below a tenth of the count there",
        rows.len(),
        found.len()
    );
    Ok(found.is_empty())
}
