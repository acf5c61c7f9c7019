//! The page, with a table and a sentence for each op.

use super::rows::{Level, contenders, different, fastest_other, record_of};
use super::tsv::WRONG;
use crate::record::Record;
use std::fmt::Write;

const HEAD: &str = "\
# Evenkeel and its competitors

`tools/compare/run` times all contenders and writes this page. `cargo run -- report --docs ../../docs/compare` in that
folder writes it again from the raw data. [compare.tsv](compare.tsv) also has a shape that fits the cache, other
functions, two threads, medians and wall times.

![Nanoseconds per element of each contender](compare.svg)

Each cell has nanoseconds of CPU time per element on one thread and, in parentheses, the largest error in ULP. The time
is the minimum over turns, which the contenders take one after another. The Python libraries run in a process of their
own. The inputs are equal, and come from memory. Errors are of the first rows. Where terms can cancel, the ULP is that
of the row's largest result. A factor (×) is the fastest other contender's time over Evenkeel's: above ×1, Evenkeel is
faster. The columns of further instruction sets have only the factor. If the clock reports less than 3/4
of the smallest wall time as CPU time for a Rust contender, the cell has the wall time.

- Evenkeel, candle-nn, llm-samplers and hand-written loops (`naive`, sums in f32) are built for the default target.
  rten-vecmath is built for the machine's CPU or for AVX2. Norms, logsumexp and masks are composed of its functions.
- softmax_causal, softmax_bias and softmax_keep have a causal mask, an additive mask, and flags for half of the scores.
- Evenkeel is represented by its first function, mostly the one that writes to existing memory. Others are represented
  by their fastest function.
- candle's gradients include the forward pass, and so do all forms of cross_entropy_backward. torch's may start from
  values that the forward pass kept. Evenkeel computes these values again. The gradients of softmax and log_softmax
  start from the result of the forward pass in both libraries.
- ONNX Runtime can't be limited to AVX2, so it is omitted there. Of the Python libraries, only torch has bf16.
";
/// Prefix of the names of ops that return tokens. Each of these ops has a single type, so the ops share one table. The
/// table shows an error only if a token is wrong.
const SAMPLERS: &str = "sample_";

/// Label of a table row, and the records that the row shows.
type Case<'a> = (String, Vec<&'a Record>);

pub fn page(levels: &[Level]) -> String {
    let mut text = HEAD.to_string();
    let Some((first, rest)) = levels.split_first() else { return text };
    facts(&mut text, levels);
    for level in levels {
        let ops = different(level.records.iter().map(|r| r.op.as_str()));
        let cases: Vec<Case<'_>> = ops.iter().flat_map(|op| types(level, op)).collect();
        let factors: Vec<f64> = cases.iter().filter_map(|(_, case)| Some(factor(case)?.0)).collect();
        let slower = factors.iter().filter(|&&factor| factor < 1.0).count();
        let least = factors.iter().copied().fold(1.0, f64::min);
        let (name, count) = (&level.name, factors.len());
        let most = 1.0 / least;
        let _ = writeln!(
            text,
            "\nWith {name}, another contender is faster in {slower} of {count} cases, by up to {most:.1} times."
        );
    }
    let ops = different(first.records.iter().map(|r| r.op.as_str()));
    let (samplers, others): (Vec<&str>, Vec<&str>) = ops.iter().partition(|op| op.starts_with(SAMPLERS));
    for op in others {
        section(&mut text, op, &types(first, op), |label, level| of_type(level, op, label), rest);
    }
    if !samplers.is_empty() {
        let cases: Vec<Case<'_>> = samplers.iter().map(|op| (op.to_string(), first.op(op))).collect();
        section(&mut text, "sample, by filter", &cases, |op, level| level.op(op), rest);
    }
    text
}

/// Writes the facts about the machine and the software. If the runs with different instruction sets differ in a fact,
/// each value is written with the name of its instruction set.
fn facts(text: &mut String, levels: &[Level]) {
    text.push_str("\nMachine and versions:\n\n");
    for name in different(levels.iter().flat_map(|level| level.facts.keys())) {
        let values = levels.iter().filter_map(|level| Some((&level.name, level.facts.get(name)?)));
        let values: Vec<(&String, &String)> = values.collect();
        let is_same = values.len() == levels.len() && values.iter().all(|value| value.1 == values[0].1);
        let of_level = list(values.iter().map(|(level, value)| format!("{value} ({level})")));
        let _ = writeln!(text, "- {name}: {}", if is_same { values[0].1 } else { &of_level });
    }
}

fn of_type<'a>(level: &'a Level, op: &str, dtype: &str) -> Vec<&'a Record> {
    level.op(op).into_iter().filter(|r| r.dtype == dtype).collect()
}

fn types<'a>(level: &'a Level, op: &str) -> Vec<Case<'a>> {
    let dtypes = different(level.op(op).into_iter().map(|r| r.dtype.clone()));
    dtypes.into_iter().map(|dtype| (dtype.clone(), of_type(level, op, &dtype))).collect()
}

/// Returns the time of the fastest contender other than evenkeel, divided by evenkeel's time, and the contender's
/// record.
fn factor<'a>(case: &[&'a Record]) -> Option<(f64, &'a Record)> {
    let other = fastest_other(case)?;
    Some((other.least()? / record_of(case, "evenkeel")?.least()?, other))
}

/// Writes the sentence and the table of an op. The last columns, one for each instruction set after the first, compare
/// evenkeel with the fastest competitor.
fn section<'a>(
    text: &mut String,
    name: &str,
    cases: &[Case<'a>],
    at: impl Fn(&str, &'a Level) -> Vec<&'a Record>,
    rest: &'a [Level],
) {
    let all: Vec<&Record> = cases.iter().flat_map(|(_, case)| case.iter().copied()).collect();
    let (Some(any), names) = (all.first(), contenders(&all)) else { return };
    let of_rest: String = rest.iter().map(|level| format!(" {} |", level.name)).collect();
    let _ = writeln!(text, "\n## {name}\n\n{}\n", sentence(cases));
    let _ = writeln!(text, "| {} | {} |{of_rest}", any.shape, names.join(" | "));
    let _ = writeln!(text, "|{}", "---|".repeat(1 + names.len() + rest.len()));
    for (label, case) in cases {
        let _ = write!(text, "| {} |", label.trim_start_matches(SAMPLERS));
        let best = names.iter().filter_map(|name| record_of(case, name)?.least()).reduce(f64::min);
        for name in &names {
            let record = record_of(case, name);
            let cell = record.and_then(|r| Some((r, r.least()?))).map_or("–".into(), |(r, least)| {
                let time = if Some(least) == best { format!("**{}**", digits(least)) } else { digits(least) };
                let error = error(&[r]);
                if r.op.starts_with(SAMPLERS) && error != WRONG { time } else { format!("{time} ({error})") }
            });
            let _ = write!(text, " {cell} |");
        }
        for level in rest {
            let of_level = factor(&at(label, level)).map(|(factor, other)| format!("×{factor:.2} {}", other.contender));
            let _ = write!(text, " {} |", of_level.unwrap_or("–".into()));
        }
        text.push('\n');
    }
}

/// Returns a sentence about the errors and the fastest competitors, with the ratios of the competitors' times to
/// evenkeel's.
fn sentence(cases: &[Case<'_>]) -> String {
    let factors: Vec<(&str, f64, &Record)> = cases
        .iter()
        .filter_map(|(label, case)| factor(case).map(|(factor, other)| (label.as_str(), factor, other)))
        .collect();
    if factors.iter().any(|(label, ..)| label.starts_with(SAMPLERS)) {
        let least = factors.iter().map(|f| f.1).fold(f64::INFINITY, f64::min);
        let most = factors.iter().map(|f| f.1).fold(0.0, f64::max);
        return format!("The fastest other contender takes {least:.1} to {most:.1} times as long as Evenkeel.");
    }
    let side = |is_slower: bool, word: &str| {
        let of_side = factors.iter().filter(|f| (f.1 < 1.0) == is_slower);
        let names = different(of_side.clone().map(|f| &f.2.contender)).into_iter().map(|name| {
            let of_name = of_side.clone().filter(|f| f.2.contender == *name);
            format!("{name} in {}", list(of_name.map(|(label, factor, _)| format!("{label} (×{factor:.2})"))))
        });
        let names = list(names);
        (!names.is_empty()).then(|| format!("{word} than {names}"))
    };
    let sides = list([side(false, "faster"), side(true, "slower")].into_iter().flatten());
    let ours: Vec<&Record> = cases.iter().filter_map(|(_, case)| record_of(case, "evenkeel")).collect();
    let theirs: Vec<&Record> = factors.iter().map(|f| f.2).collect();
    let (ours, theirs) = (error(&ours), error(&theirs));
    format!("Evenkeel is {sides}.\nIts error reaches {ours} ULP, theirs {theirs} ULP.")
}

fn list(items: impl Iterator<Item = String>) -> String {
    match &items.collect::<Vec<_>>()[..] {
        [all @ .., last] if !all.is_empty() => format!("{} and {last}", all.join(", ")),
        all => all.concat(),
    }
}

/// Formats the largest error of these records.
fn error(records: &[&Record]) -> String {
    // `None` means that a result is wrong, so it counts as the worst error.
    let mut worst = records.iter().filter_map(|r| r.errors).map(|e| e.worst);
    worst.try_fold(0.0, |most: f64, e| Some(most.max(e?))).map_or(WRONG.into(), digits)
}

/// Formats a number with two or three significant digits.
fn digits(value: f64) -> String {
    match value {
        v if v >= 1e5 => format!("{v:.0e}"),
        v if v >= 100.0 => format!("{v:.0}"),
        v if v >= 10.0 => format!("{v:.1}"),
        v if v >= 0.1 || v == 0.0 => format!("{v:.2}"),
        v => format!("{v:.3}"),
    }
}
