//! Searches for inputs and options at which an op of Evenkeel exceeds the error bound of its accuracy table.
//!
//! `cargo run --release --manifest-path tools/error-search/Cargo.toml -- --family softmax --minutes 60`

mod case;
mod examples;
mod families;
mod judge;
mod search;
mod spec;
mod twofold;

use case::Case;
use clap::Parser;
use evenkeel::DType;
use judge::{Op, Precision};
use search::{Plan, describe, search};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// Searches for inputs and options at which an op exceeds the error bound of `evenkeel::accuracy`.
///
/// Prints a line for each improvement: the time, the op and type, the error, and the candidate as a word that
/// `--replay` accepts. A finding beyond a bound counts only if the slow reference confirms it. The exit status is 1 if
/// a bound is exceeded.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Families to search: softmax, cross_entropy, norms, attention, rope, losses, elementwise. All by default.
    #[arg(long, value_delimiter = ',')]
    family: Vec<String>,
    /// Ops to search. By default all ops of the families.
    #[arg(long, value_delimiter = ',')]
    op: Vec<String>,
    /// Storage types to search: F64, F32, F16, BF16. All by default.
    #[arg(long, value_delimiter = ',', value_parser = dtype)]
    dtype: Vec<DType>,
    /// Total time in minutes.
    #[arg(long, default_value_t = 1.0)]
    minutes: f64,
    /// Number of threads; by default the number of cores.
    #[arg(long)]
    threads: Option<u64>,
    /// Seed; random by default. Searches with the same seed may differ, because they also depend on timing.
    #[arg(long)]
    seed: Option<u64>,
    /// Log of an earlier search. This search starts with the candidates in the log.
    #[arg(long)]
    resume: Vec<PathBuf>,
    /// Judges one candidate with the fast and the slow arithmetic, and does not search. If a file is given, judges the
    /// last candidate in it.
    #[arg(long)]
    replay: Option<String>,
    /// Lists the ops and exits.
    #[arg(long)]
    list: bool,
}

fn dtype(name: &str) -> Result<DType, String> {
    let found = DType::ALL.iter().copied().find(|dtype| dtype.to_string().eq_ignore_ascii_case(name));
    found.ok_or_else(|| format!("unknown storage type {name}; it must be F64, F32, F16 or BF16"))
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(message) => {
            eprintln!("error: {message}");
            ExitCode::from(2)
        }
    }
}

/// Returns whether all bounds hold.
fn run(arguments: &Arguments) -> Result<bool, String> {
    let ops = families::ops();
    if let Some(text) = &arguments.replay {
        return replay(&ops, text);
    }
    for family in arguments.family.iter().filter(|family| !ops.iter().any(|op| op.family == **family)) {
        return Err(format!("unknown family {family}; `--list` shows the families of ops"));
    }
    for name in arguments.op.iter().filter(|name| !ops.iter().any(|op| op.name == **name)) {
        return Err(format!("unknown op {name}; `--list` shows the ops that can be searched"));
    }
    let chosen = |op: &&Op| {
        (arguments.family.is_empty() || arguments.family.iter().any(|family| family == op.family))
            && (arguments.op.is_empty() || arguments.op.iter().any(|name| name == op.name))
    };
    let chosen: Vec<&Op> = ops.iter().filter(chosen).collect();
    if arguments.list {
        chosen.iter().for_each(|op| println!("{}: {} in {:?}", op.family, op.name, op.dtypes));
        return Ok(true);
    }
    let mut first = examples::examples();
    for path in &arguments.resume {
        let log = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
        first.extend(log.lines().filter_map(|line| Case::parse(line.split_whitespace().next_back()?)));
    }
    let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get() as u64);
    let plan = Plan {
        time: Duration::try_from_secs_f64(60.0 * arguments.minutes).map_err(|error| format!("--minutes: {error}"))?,
        seed: arguments.seed.unwrap_or_else(rand::random),
        threads: arguments.threads.unwrap_or(cores).max(1),
        first,
    };
    let dtypes = if arguments.dtype.is_empty() { DType::ALL.to_vec() } else { arguments.dtype.clone() };
    let level = evenkeel::simd::level().map_err(|error| error.to_string())?;
    println!("seed {}, {} threads, {} first candidates, {level}", plan.seed, plan.threads, plan.first.len());
    let outcome = search(&chosen, &dtypes, &plan);
    println!("evaluated {} candidates", outcome.evaluated);
    for (name, dtype, verdict, refuted) in &outcome.worst {
        match verdict {
            Some(verdict) => println!("{}", describe(name, *dtype, verdict)),
            None => println!("{name} {dtype}: no candidate within the bound's conditions"),
        }
        if *refuted > 0 {
            println!("{name} {dtype}: {refuted} findings were not confirmed by the slow reference");
        }
    }
    Ok(!outcome.exceeds())
}

fn replay(ops: &[Op], text: &str) -> Result<bool, String> {
    let of_file = std::fs::read_to_string(text).ok();
    let text = of_file.as_deref().and_then(|log| log.split_whitespace().next_back()).unwrap_or(text);
    let case = Case::parse(text).ok_or_else(|| format!("can't parse the candidate {text:?}"))?;
    let op = ops
        .iter()
        .find(|op| op.name == case.op)
        .ok_or_else(|| format!("unknown op {}; `--list` shows the ops that can be searched", case.op))?;
    if !(op.spec)(case.dtype).fits(&case) {
        return Err(format!("the op {} does not accept the sizes, options or operands of the candidate", case.op));
    }
    let mut holds = true;
    println!("sizes {:?}, options {:?}", case.sizes, case.options);
    for how in [Precision::Fast, Precision::Slow] {
        match (op.judge)(&case, how) {
            Some(verdict) => {
                println!("{how:?}: {}", describe(op.name, case.dtype, &verdict));
                holds &= how == Precision::Fast || verdict.ratio <= 1.0;
            }
            None => println!("{how:?}: the bound does not cover it"),
        }
    }
    Ok(holds)
}
