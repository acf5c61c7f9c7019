//! The page, with a table of times and one of errors for each op.

use super::rows::{COPY, Level, READ, Row, different};
use super::summary::summary;
use crate::exact::Errors;
use std::fmt::Write;

const HEAD: &str = "\
# Evenkeel and its competitors

Written by `tools/compare/run`; [compare.tsv](compare.tsv) has all numbers, with medians and wall times.

![nanoseconds per element of each contender](compare.svg)

A time is the CPU time in nanoseconds per element on one thread: the minimum over many turns, which the contenders take
one after another. The number after × is the ratio to a copy of the input, timed in the same process and the same turns.
The column `read` times one read of the input. For a gradient, the copy is of one input, although the op reads two.
Errors are of the first rows, in ULP of the type: the largest, the median, and the largest deviation from 1 of a row's
sum. Where terms can cancel, errors are in ULP of the row's largest result, as in `evenkeel::accuracy`.

- evenkeel is built for the default target, as users build it, and selects its instruction set at run time. candle-nn,
  llm-samplers and the hand-written loops (`naive`, sums in f32) are built for that target too. rten-vecmath is built
  for the machine's CPU, or for AVX2 with its AVX2 code, because it is slower otherwise. Norms, logsumexp and masks are
  composed of its functions.
- The first table of an op has one function of each contender: the one that writes to existing memory, if there is one.
  `tensor`, `candle::ops`, `guarded` and `allocating` allocate their results with the default allocator, and pay for new
  pages if results are large. `in place` runs on a fresh copy each time.
- `autograd` and `forward, into` include the forward pass. So do all forms of cross_entropy_backward.
- ONNX Runtime can't be limited to AVX2, so that level omits it. Of the Python libraries only torch supports bf16. They
  run in a separate process.
- The first table of each level is a summary. It has evenkeel's time, and the time of the fastest other contender as a
  multiple of it. Below ×1 that contender is faster. Other contenders are represented by their fastest function. For
  gradients these may do different work: torch's start from values that the forward pass kept, evenkeel's compute them
  again. The picture uses the same functions.
- For ops that return tokens, the error only tells whether the filters allow the token.
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

/// A contender's function, as the head of a column.
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
        text.push_str("\nOther forms:\n\n");
        table(text, &alone, &other, false, time);
    }
}

/// Writes a line for each case and a column for each of these functions.
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
        (None, _) => "fails".into(),
    }
}

/// Writes the largest errors of all shapes, with a line for each type.
fn errors(text: &mut String, rows: &[&Row], columns: &[Column<'_>]) {
    let heads: Vec<String> = columns.iter().map(|(name, _)| format!(" {name} |")).collect();
    let _ = writeln!(text, "| error, in ULP |{}\n|---|{}", heads.concat(), "---|".repeat(columns.len()));
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
    // `None` means that a result is not a number, so it is the worst.
    let worst = |part: fn(&Errors) -> Option<f64>| found.iter().map(part).try_fold(0.0, |m: f64, e| Some(m.max(e?)));
    let number = |value: Option<f64>| value.map_or("wrong".into(), digits);
    let sums = found.iter().filter_map(|errors| errors.row_sum).reduce(f64::max);
    let sums = sums.map_or(String::new(), |off| format!(", sums {off:.0e}"));
    format!("{}, median {}{sums}", number(worst(|e| e.worst)), number(worst(|e| e.median)))
}

/// Writes wall times on several threads, and the speed-up over one thread.
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

/// Formats a number with two or three significant digits.
fn digits(value: f64) -> String {
    match value {
        v if v >= 1e5 => format!("{v:.0e}"),
        v if v >= 100.0 => format!("{v:.0}"),
        v if v >= 10.0 => format!("{v:.1}"),
        v if v >= 0.1 => format!("{v:.2}"),
        v => format!("{v:.3}"),
    }
}
