//! The raw data: facts about the runs, then a line for each record.

use super::rows::Level;
use crate::exact::Errors;
use crate::record::{Record, Times};
use anyhow::{Context, Result, ensure};
use std::fmt::Write;

const COLUMNS: &str = "level\tthreads\top\tdtype\tshape\tcontender\tform\t\
    cpu_min_ns\tcpu_median_ns\twall_min_ns\twall_median_ns\tworst_ulp\tmedian_ulp\trow_sum_off\tnote";
/// Text in place of the largest error, if a result is wrongly NaN or infinite, or if a drawn token is not allowed.
pub const WRONG: &str = "wrong";

pub fn table(levels: &[Level]) -> String {
    let mut text = String::new();
    for level in levels {
        for (name, fact) in &level.facts {
            let _ = writeln!(text, "# {}\t{name}\t{fact}", level.name);
        }
    }
    let _ = writeln!(text, "{COLUMNS}");
    for level in levels {
        for r in &level.records {
            let Record { threads, op, dtype, shape, contender, form, times, errors, note, .. } = r;
            let _ = write!(text, "{}\t{threads}\t{op}\t{dtype}\t{shape}\t{contender}\t{form}", level.name);
            let times = times.map_or([None; 4], |t| [t.cpu_min, t.cpu_median, t.wall_min, t.wall_median].map(Some));
            let worst = errors.map_or(String::new(), |e| e.worst.map_or(WRONG.into(), |_| number(e.worst)));
            let [median, row_sum] = [errors.and_then(|e| e.median), errors.and_then(|e| e.row_sum)].map(number);
            let times = times.map(number).join("\t");
            let _ = writeln!(text, "\t{times}\t{worst}\t{median}\t{row_sum}\t{}", note.as_deref().unwrap_or(""));
        }
    }
    text
}

/// Formats five significant digits.
fn number(value: Option<f64>) -> String {
    let Some(value) = value else { return String::new() };
    let rounded: f64 = format!("{value:.4e}").parse().unwrap_or(value);
    if rounded == 0.0 || rounded.abs() >= 1e-3 { rounded.to_string() } else { format!("{rounded:e}") }
}

pub fn parse(text: &str) -> Result<Vec<Level>> {
    let mut levels: Vec<Level> = Vec::new();
    let mut lines = text.lines();
    for line in lines.by_ref().take_while(|line| *line != COLUMNS) {
        let fact: Vec<&str> = line.trim_start_matches("# ").splitn(3, '\t').collect();
        let [level, name, fact] = fact[..] else {
            anyhow::bail!("expected a line with a level, a name and a text, separated by tabs, got {line:?}")
        };
        of_name(&mut levels, level).facts.insert(name.into(), fact.into());
    }
    for line in lines {
        let columns: Vec<&str> = line.split('\t').collect();
        ensure!(
            columns.len() == COLUMNS.split('\t').count(),
            "each line must have the columns of the header, got {} columns in {line:?}",
            columns.len()
        );
        of_name(&mut levels, columns[0]).records.push(record(&columns).with_context(|| format!("{line:?}"))?);
    }
    Ok(levels)
}

fn of_name<'a>(levels: &'a mut Vec<Level>, name: &str) -> &'a mut Level {
    let at = levels.iter().position(|level| level.name == name).unwrap_or(levels.len());
    if at == levels.len() {
        levels.push(Level { name: name.into(), facts: Default::default(), records: Vec::new() });
    }
    &mut levels[at]
}

fn record(columns: &[&str]) -> Result<Record> {
    let [op, dtype, shape, contender, form] = [2, 3, 4, 5, 6].map(|column| columns[column].to_string());
    let number = |column: usize| columns[column].parse::<f64>();
    let optional = |column: usize| if columns[column].is_empty() { Ok(None) } else { number(column).map(Some) };
    let times = match columns[7] {
        "" => None,
        _ => {
            let [cpu_min, cpu_median] = [number(7)?, number(8)?];
            Some(Times { cpu_min, cpu_median, wall_min: number(9)?, wall_median: number(10)? })
        }
    };
    let errors = match columns[11] {
        "" => None,
        worst => {
            let worst = if worst == WRONG { None } else { Some(number(11)?) };
            Some(Errors { worst, median: optional(12)?, row_sum: optional(13)? })
        }
    };
    let note = (!columns[14].is_empty()).then(|| columns[14].to_string());
    Ok(Record { op, dtype, shape, contender, form, threads: columns[1].parse()?, times, errors, result: None, note })
}
