//! Records by instruction set, op and case, with their ratios to a copy.

use crate::record::{Record, Run};
use std::collections::BTreeMap;

/// Name of this program's copy of a case. The Python side uses another name.
pub const COPY: &str = "copy";
pub const READ: &str = "read";

/// Rows of one instruction set.
pub struct Level {
    pub name: String,
    pub facts: BTreeMap<String, String>,
    /// Rows in the order in which they were run.
    pub rows: Vec<Row>,
}

pub struct Row {
    pub record: Record,
    /// Ratio of the smallest CPU time to that of the copy in the same process.
    pub ratio: Option<f64>,
}

impl Row {
    pub fn is_baseline(&self) -> bool {
        self.record.contender.starts_with(COPY) || self.record.contender == READ
    }

    /// Returns the smallest CPU time, in nanoseconds per element.
    pub fn least(&self) -> Option<f64> {
        self.record.times.map(|times| times.cpu_min)
    }
}

/// Groups the runs by level, in the order of first occurrence.
pub fn levels(runs: impl Iterator<Item = Run>) -> Vec<Level> {
    let mut levels: Vec<Level> = Vec::new();
    for run in runs {
        let rows = rows(run.records);
        match levels.iter_mut().find(|level| level.name == run.level) {
            Some(level) => {
                level.rows.extend(rows);
                for (name, fact) in run.facts {
                    level.facts.entry(name).or_insert(fact);
                }
            }
            None => levels.push(Level { name: run.level, facts: run.facts, rows }),
        }
    }
    levels
}

fn rows(records: Vec<Record>) -> Vec<Row> {
    let case = |r: &Record| (r.op.clone(), r.dtype.clone(), r.shape.clone());
    let copies = records.iter().filter(|r| r.contender.starts_with(COPY));
    let copies: BTreeMap<_, f64> = copies.filter_map(|r| Some((case(r), r.times?.cpu_min))).collect();
    let row = |record: Record| {
        let ratio = record.times.zip(copies.get(&case(&record))).map(|(times, copy)| times.cpu_min / copy);
        Row { record, ratio }
    };
    records.into_iter().map(row).collect()
}

/// Returns the time that represents a contender in a case: that of evenkeel's first function, or of the fastest of
/// others.
pub fn time_of(case: &[&Row], name: &str) -> Option<f64> {
    let mut times = case.iter().filter(|row| row.record.contender == name).map(|row| row.least());
    if name == "evenkeel" { times.next()? } else { times.flatten().reduce(f64::min) }
}

/// Returns the distinct values in the order of first occurrence.
pub fn different<T: PartialEq>(values: impl Iterator<Item = T>) -> Vec<T> {
    let mut all = Vec::new();
    for value in values {
        if !all.contains(&value) {
            all.push(value);
        }
    }
    all
}
