//! The page: a table of times and one of errors for each op.

use super::rows::{COPY, Level, READ, Row, different};
use super::summary::summary;
use crate::exact::Errors;
use std::fmt::Write;

const HEAD: &str = "\
# Evenkeel and its competitors

Written by `tools/compare/run`; [compare.tsv](compare.tsv) has every number, medians and wall times too.

![nanoseconds an element of each contender](compare.svg)

Times are nanoseconds of CPU time an element, the least of many turns that contenders took one after the other, on one
thread; behind × stands how many copies of the input the call takes, by the copy of the same process in the same turns.
A `read` of the input stands beside the copy. A gradient's copy is of one input, where it reads two. Errors are of the
first rows, in ULP of the type: the worst, the median, and the farthest that a row's sum is from 1. Where terms can
cancel, the ULP is of the row's largest result, as in `evenkeel::accuracy`.

- evenkeel is built for the default target, as users build it, and finds its instruction set at run time. candle-nn,
  llm-samplers and the loops by hand (`naive`, sums in f32) are built for that target too. rten-vecmath is built for the
  machine's CPU, or for AVX2 with its AVX2 code: without that it is slower. Norms, logsumexp and masks are put together
  of its functions.
- The first table of an op has the first of each contender's functions: into memory that is there, if it has such a one.
  `tensor`, `candle::ops`, `guarded` and `allocating` allocate their results by the default allocator, and pay for the
  pages where results are large. `in place` runs on a fresh copy each time.
- `autograd` is forward and backward; so is `forward, into`. Of cross_entropy_backward all forms are.
- ONNX Runtime can't be held to AVX2, and is left out there. bf16 is torch's alone of the Python side, which runs in a
  process of its own.
- A level's first table sums it up: evenkeel's nanoseconds, and how many times as long the fastest other contender
  takes by its fastest function, below ×1 where it is faster. Functions need not do the same for a gradient: torch's
  start from what the forward pass kept, evenkeel's compute it again. The picture has
  the same.
- For ops that answer with tokens, an error says whether the token is one that the filters leave.
";

pub fn page(levels: &[Level]) -> String {
    let mut text = HEAD.to_string();
    for level in levels {
        let _ = writeln!(text, "\n## {}\n\n| | |\n|---|---|", level.name);
        for (name, fact) in &level.facts {
            let _ = writeln!(text, "| {name} | {fact} |");
        }
        if !level.rows.iter().any(|row| row.record.contender == "torch") {
            text.push_str("\nThe Python side was not run: the columns of torch, ONNX Runtime and NumPy are missing.\n");
        }
        summary(&mut text, level);
        for op in different(level.rows.iter().map(|row| &row.record.op)) {
            let rows: Vec<&Row> = level.rows.iter().filter(|row| row.record.op == *op).collect();
            let _ = writeln!(text, "\n### {op}, {}\n", level.name);
            times(&mut text, &rows);
            spread(&mut text, &rows);
        }
    }
    text
}

/// A contender's function, as a column's head.
type Column<'a> = (&'a str, &'a str);

fn column(row: &Row) -> Column<'_> {
    (&row.record.contender, &row.record.form)
}

fn times(text: &mut String, rows: &[&Row]) {
    let alone: Vec<&Row> = rows.iter().copied().filter(|row| row.record.threads == 1).collect();
    let columns = different(alone.iter().filter(|row| !row.is_baseline()).map(|row| column(row)));
    let is_first = |&(name, form): &Column<'_>| columns.iter().find(|c| c.0 == name) == Some(&(name, form));
    let (first, other): (Vec<Column<'_>>, Vec<Column<'_>>) = columns.iter().partition(|c| is_first(c));
    table(text, &alone, &first, true, time);
    text.push('\n');
    errors(text, &alone, &first);
    if !other.is_empty() {
        text.push_str("\nThe other forms:\n\n");
        table(text, &alone, &other, false, time);
    }
}

/// A line for each case, a column for each of these functions.
fn table(text: &mut String, rows: &[&Row], columns: &[Column<'_>], baselines: bool, cell: fn(&Row) -> String) {
    let heads: Vec<String> = columns.iter().map(|(name, form)| format!(" {name}, {form} |")).collect();
    let copies = if baselines { " copy | read |" } else { "" };
    let rules = "---|".repeat(columns.len() + if baselines { 4 } else { 2 });
    let _ = writeln!(text, "| type | shape |{copies}{}\n|{rules}", heads.concat());
    for (dtype, shape) in different(rows.iter().map(|row| (&row.record.dtype, &row.record.shape))) {
        let case: Vec<&&Row> = rows.iter().filter(|r| r.record.dtype == *dtype && r.record.shape == *shape).collect();
        let _ = write!(text, "| {dtype} | {shape} |");
        if baselines {
            for name in [COPY, READ] {
                let least = case.iter().find(|row| row.record.contender == name).and_then(|row| row.least());
                let _ = write!(text, " {} |", least.map_or("–".into(), digits));
            }
        }
        for function in columns {
            let row = case.iter().find(|row| column(row) == *function);
            let _ = write!(text, " {} |", row.map_or("–".into(), |row| cell(row)));
        }
        text.push('\n');
    }
}

fn time(row: &Row) -> String {
    match (row.least(), row.ratio) {
        (Some(least), Some(ratio)) => format!("{} ×{}", digits(least), digits(ratio)),
        (Some(least), None) => digits(least),
        (None, _) => "refuses".into(),
    }
}

/// The worst of all shapes, a line for each type.
fn errors(text: &mut String, rows: &[&Row], columns: &[Column<'_>]) {
    let heads: Vec<String> = columns.iter().map(|(name, _)| format!(" {name} |")).collect();
    let _ = writeln!(text, "| off by, in ULP |{}\n|---|{}", heads.concat(), "---|".repeat(columns.len()));
    for dtype in different(rows.iter().map(|row| &row.record.dtype)) {
        let _ = write!(text, "| {dtype} |");
        for function in columns {
            let of = rows.iter().filter(|row| row.record.dtype == *dtype && column(row) == *function);
            let found: Vec<Errors> = of.filter_map(|row| row.record.errors).collect();
            let _ = write!(text, " {} |", if found.is_empty() { "–".into() } else { error(&found) });
        }
        text.push('\n');
    }
}

fn error(found: &[Errors]) -> String {
    // None, which is no number, is the worst.
    let worst = |part: fn(&Errors) -> Option<f64>| found.iter().map(part).try_fold(0.0, |m: f64, e| Some(m.max(e?)));
    let number = |value: Option<f64>| value.map_or("wrong".into(), digits);
    let sums = found.iter().filter_map(|errors| errors.row_sum).reduce(f64::max);
    let sums = sums.map_or(String::new(), |off| format!(", sums {off:.0e}"));
    format!("{}, median {}{sums}", number(worst(|e| e.worst)), number(worst(|e| e.median)))
}

/// Wall times on more than one thread beside those on one.
fn spread(text: &mut String, rows: &[&Row]) {
    let spread: Vec<&&Row> = rows.iter().filter(|row| row.record.threads > 1).collect();
    if spread.is_empty() {
        return;
    }
    text.push_str("\nevenkeel on more threads, by wall time:\n\n| type | shape | form | threads | ns | speed-up |\n");
    text.push_str("|---|---|---|---|---|---|\n");
    for row in spread {
        let r = &row.record;
        let same = |other: &&&Row| {
            let o = &other.record;
            (&o.dtype, &o.shape, column(other), o.threads) == (&r.dtype, &r.shape, column(row), 1)
        };
        let alone = rows.iter().find(same).and_then(|row| row.record.times);
        if let (Some(alone), Some(times)) = (alone, r.times) {
            let (ns, factor) = (digits(times.wall_min), alone.wall_min / times.wall_min);
            let _ = writeln!(text, "| {} | {} | {} | {} | {ns} | {factor:.2} |", r.dtype, r.shape, r.form, r.threads);
        }
    }
}

/// Two or three digits that count.
fn digits(value: f64) -> String {
    match value {
        v if v >= 1e5 => format!("{v:.0e}"),
        v if v >= 100.0 => format!("{v:.0}"),
        v if v >= 10.0 => format!("{v:.1}"),
        v if v >= 0.1 => format!("{v:.2}"),
        v => format!("{v:.3}"),
    }
}
