//! Records by instruction set, op and case, each with its ratio to a copy.

use crate::record::{Record, Run};
use std::collections::BTreeMap;

/// What a case's copy in this program is called; that of the Python side is called otherwise.
pub const COPY: &str = "copy";
pub const READ: &str = "read";

/// All that was held to one instruction set.
pub struct Level {
    pub name: String,
    pub facts: BTreeMap<String, String>,
    /// In the order in which they were run.
    pub rows: Vec<Row>,
}

pub struct Row {
    pub record: Record,
    /// Of its least CPU time to that of the copy of the same process.
    pub ratio: Option<f64>,
}

impl Row {
    pub fn is_baseline(&self) -> bool {
        self.record.contender.starts_with(COPY) || self.record.contender == READ
    }

    /// Nanoseconds an element.
    pub fn least(&self) -> Option<f64> {
        self.record.times.map(|times| times.cpu_min)
    }
}

/// The runs' levels, in the order in which they first come.
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

/// What a contender's time in a case is taken to be: the first function's of evenkeel, the fastest one's of others.
pub fn time_of(case: &[&Row], name: &str) -> Option<f64> {
    let mut times = case.iter().filter(|row| row.record.contender == name).map(|row| row.least());
    if name == "evenkeel" { times.next()? } else { times.flatten().reduce(f64::min) }
}

/// Different values in the order in which they first come.
pub fn different<T: PartialEq>(values: impl Iterator<Item = T>) -> Vec<T> {
    let mut all = Vec::new();
    for value in values {
        if !all.contains(&value) {
            all.push(value);
        }
    }
    all
}
