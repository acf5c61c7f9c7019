//! The table for programs: facts about the runs, then a line for each time.

use super::rows::Level;
use std::fmt::Write;

const COLUMNS: [&str; 17] = [
    "level",
    "threads",
    "op",
    "dtype",
    "shape",
    "contender",
    "form",
    "cpu_min_ns",
    "cpu_median_ns",
    "wall_min_ns",
    "wall_median_ns",
    "ratio_to_copy",
    "worst_ulp",
    "median_ulp",
    "row_sum_off",
    "checked",
    "note",
];

pub fn table(levels: &[Level]) -> String {
    let mut text = String::new();
    for level in levels {
        for (name, fact) in &level.facts {
            let _ = writeln!(text, "# {}\t{name}\t{fact}", level.name);
        }
    }
    let _ = writeln!(text, "{}", COLUMNS.join("\t"));
    for level in levels {
        for row in &level.rows {
            let (r, times, errors) = (&row.record, row.record.times, row.record.errors);
            let number = |value: Option<f64>| value.map_or(String::new(), |value| format!("{value:.4e}"));
            let columns = [
                level.name.clone(),
                r.threads.to_string(),
                r.op.clone(),
                r.dtype.clone(),
                r.shape.clone(),
                r.contender.clone(),
                r.form.clone(),
                number(times.map(|t| t.cpu_min)),
                number(times.map(|t| t.cpu_median)),
                number(times.map(|t| t.wall_min)),
                number(times.map(|t| t.wall_median)),
                number(row.ratio),
                number(errors.and_then(|e| e.worst)),
                number(errors.and_then(|e| e.median)),
                number(errors.and_then(|e| e.row_sum)),
                errors.is_some().to_string(),
                r.note.clone().unwrap_or_default(),
            ];
            let _ = writeln!(text, "{}", columns.join("\t"));
        }
    }
    text
}
