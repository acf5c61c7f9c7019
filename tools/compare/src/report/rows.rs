//! Records by instruction set, op and case.

use crate::record::{Record, Run};
use std::collections::BTreeMap;

/// Records of one instruction set.
pub struct Level {
    pub name: String,
    pub facts: BTreeMap<String, String>,
    /// Records in the order in which they were run.
    pub records: Vec<Record>,
}

/// Groups the runs by level, in the order of first occurrence.
pub fn levels(runs: impl Iterator<Item = Run>) -> Vec<Level> {
    let mut levels: Vec<Level> = Vec::new();
    for Run { level: name, facts, records } in runs {
        match levels.iter_mut().find(|level| level.name == name) {
            Some(level) => {
                level.records.extend(records);
                for (name, fact) in facts {
                    level.facts.entry(name).or_insert(fact);
                }
            }
            None => levels.push(Level { name, facts, records }),
        }
    }
    levels
}

impl Level {
    /// Returns the one-thread records of an op in its second shape, or in its only shape if there is no second.
    pub fn op(&self, op: &str) -> Vec<&Record> {
        let all: Vec<&Record> = self.records.iter().filter(|r| r.op == op && r.threads == 1).collect();
        let shapes = different(all.iter().map(|r| &r.shape));
        let shape = shapes.get(1).or(shapes.first()).copied();
        all.iter().copied().filter(|r| Some(&r.shape) == shape).collect()
    }
}

impl Record {
    /// Returns the smallest CPU time, in nanoseconds per element.
    pub fn least(&self) -> Option<f64> {
        self.times.map(|times| times.cpu_min)
    }

    fn is_competitor(&self) -> bool {
        let baseline = self.contender.starts_with("copy") || self.contender == "read";
        !baseline && self.contender != "evenkeel"
    }
}

/// Returns the record that represents a contender in a case. For evenkeel, it is the first timed record. For another
/// contender, it is the fastest record.
pub fn record_of<'a>(case: &[&'a Record], name: &str) -> Option<&'a Record> {
    let mut timed = case.iter().copied().filter(|r| r.contender == name && r.times.is_some());
    if name == "evenkeel" { timed.next() } else { fastest(timed) }
}

/// Returns the record of the fastest competitor in a case. All contenders are competitors, except evenkeel and the
/// baselines `copy` and `read`.
pub fn fastest_other<'a>(case: &[&'a Record]) -> Option<&'a Record> {
    fastest(case.iter().copied().filter(|r| r.is_competitor()))
}

/// Returns the names of the contenders, evenkeel first.
pub fn contenders<'a>(records: &[&'a Record]) -> Vec<&'a str> {
    let others = records.iter().filter(|r| r.is_competitor()).map(|r| r.contender.as_str());
    different(std::iter::once("evenkeel").chain(others))
}

fn fastest<'a>(records: impl Iterator<Item = &'a Record>) -> Option<&'a Record> {
    records.filter_map(|r| Some((r, r.least()?))).min_by(|a, b| a.1.total_cmp(&b.1)).map(|(r, _)| r)
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
