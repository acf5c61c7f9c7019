//! `exhaustive`: walks the named functions, stores the results, and fails if a function exceeds its bound.

#![forbid(unsafe_code)]

use clap::Parser;
use clap::builder::PossibleValuesParser;
use exhaustive::error::Result;
use exhaustive::function::{FUNCTIONS, Function, function};
use exhaustive::progress::Progress;
use exhaustive::provenance::Provenance;
use exhaustive::table::{Row, merge};
use exhaustive::walk::{CHUNKS, walk};
use indicatif::{ProgressBar, ProgressStyle};
use std::num::NonZeroU32;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::process::ExitCode;

/// Compares Evenkeel's f32 results with correctly rounded ones, at all 2^32 inputs of each function.
///
/// The environment variable EVENKEEL_SIMD selects the instruction set: avx512, avx2 or portable. An interrupted walk
/// resumes where it stopped. The exit status is 1 if a function exceeds its bound.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Functions to test; all if none is named.
    #[arg(value_parser = PossibleValuesParser::new(FUNCTIONS.iter().map(|function| function.name)))]
    functions: Vec<String>,
    /// Test only one in SAMPLE blocks of 4,096 inputs. The tables are then left unchanged.
    #[arg(long, default_value = "1")]
    sample: NonZeroU32,
    /// Number of threads; one per core if not given.
    #[arg(long)]
    threads: Option<NonZeroU32>,
    /// Start over, ignoring stored progress.
    #[arg(long)]
    restart: bool,
    /// Folder of the tables.
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/accuracy"))]
    out: PathBuf,
    /// Folder for the progress of unfinished walks.
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/progress"))]
    progress: PathBuf,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}

/// Tests the functions; returns whether all are within their bounds.
fn run(arguments: &Arguments) -> Result<bool> {
    let threads = arguments.threads.map_or(0, |threads| threads.get() as usize);
    rayon::ThreadPoolBuilder::new().num_threads(threads).build_global()?;
    println!("{}, {}", Provenance::of_this_program(), evenkeel::simd::level()?);
    let named: Vec<&Function> = arguments.functions.iter().filter_map(|name| function(name)).collect();
    let mut keep = true;
    for function in if named.is_empty() { FUNCTIONS.iter().collect() } else { named } {
        keep &= one(arguments, function)?;
    }
    Ok(keep)
}

fn one(arguments: &Arguments, function: &Function) -> Result<bool> {
    let folder = &arguments.progress;
    let begun = Progress::new(function, evenkeel::simd::level()?, arguments.sample);
    let mut progress = if arguments.restart { begun } else { begun.resumed(folder)? };
    let style = ProgressStyle::with_template("{msg} {wide_bar} {percent} %, {eta} left");
    let bar = ProgressBar::new(CHUNKS.into()).with_message(function.name);
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.set_position(progress.chunks.into());
    bar.reset_eta();
    walk(function, &mut progress, |progress| {
        progress.store(folder)?;
        bar.set_position(progress.chunks.into());
        Ok(ControlFlow::Continue(()))
    })?;
    bar.finish_and_clear();

    let row = Row::new(function.reference.name(), progress.clone());
    println!("{row}");
    for example in row.examples.split_whitespace() {
        println!("misrounded, as input:result:expected: {example}");
    }
    if arguments.sample.get() == 1 {
        merge(&arguments.out, row)?;
    }
    progress.remove(folder)?;
    let is_kept = function.allows(&progress.tally);
    if !is_kept {
        println!("{} exceeds its bound of {} ULP", function.name, function.bound);
    }
    Ok(is_kept)
}
