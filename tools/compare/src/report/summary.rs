//! Summary that compares each op with the fastest other contender.

use super::rows::{Level, Row, different, time_of};
use std::fmt::Write;

/// Writes a line for each op, in its second shape or its only one. For each type it has evenkeel's time, and the ratio
/// of the fastest other contender's time to it.
pub fn summary(text: &mut String, level: &Level) {
    let dtypes = different(level.rows.iter().map(|row| row.record.dtype.as_str()));
    text.push_str("\n| op | shape |");
    for dtype in &dtypes {
        let _ = write!(text, " {dtype} | fastest other |");
    }
    let _ = writeln!(text, "\n|---|---|{}", "---|---|".repeat(dtypes.len()));
    for op in different(level.rows.iter().map(|row| row.record.op.as_str())) {
        let rows: Vec<&Row> = level.rows.iter().filter(|row| row.record.op == op && row.record.threads == 1).collect();
        let shapes = different(rows.iter().map(|row| row.record.shape.as_str()));
        let Some(shape) = shapes.get(1).or(shapes.first()) else { continue };
        let _ = write!(text, "| {op} | {shape} |");
        for dtype in &dtypes {
            let of_case = |row: &&&Row| row.record.dtype == *dtype && row.record.shape == *shape;
            let case: Vec<&Row> = rows.iter().filter(of_case).copied().collect();
            let _ = write!(text, "{}", cells(&case));
        }
        text.push('\n');
    }
}

fn cells(case: &[&Row]) -> String {
    let others = case.iter().filter(|row| row.record.contender != "evenkeel" && !row.is_baseline());
    let others = different(others.map(|row| row.record.contender.as_str()));
    let others = others.iter().filter_map(|name| Some((*name, time_of(case, name)?)));
    match (time_of(case, "evenkeel"), others.min_by(|a, b| a.1.total_cmp(&b.1))) {
        (Some(ours), Some((name, theirs))) => format!(" {ours:.2} | ×{:.2} {name} |", theirs / ours),
        (Some(ours), None) => format!(" {ours:.2} | – |"),
        (None, _) => " – | – |".into(),
    }
}
