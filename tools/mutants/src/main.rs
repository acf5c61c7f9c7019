//! Tests whether the test suite finds changes of the kernels.
//!
//! `cargo run --release --manifest-path tools/mutants/Cargo.toml -- softmax`
//!
//! The usual tool, cargo-mutants, builds the tests once for each mutant. A build of these kernels takes minutes, so this
//! program builds all mutants at once.

mod build;
mod mutate;
mod run;

use anyhow::{Context, Result, ensure};
use build::{Build, build, last_build, mutants};
use clap::Parser;
use indicatif::ProgressBar;
use mutate::Mutant;
use rayon::prelude::*;
use run::{Outcome, run};
use serde::Deserialize;
use std::collections::{BTreeMap, HashSet};
use std::num::NonZeroUsize;
use std::path::Path;
use std::time::Duration;

/// Tests whether the test suite finds changes of the kernels.
///
/// A mutant is a change of one operator, condition or function body. Prints the mutants that no test finds, and the
/// counts. The file `survivors.tsv` lists known survivors with the reason why no test finds them. The exit status is 1
/// if other mutants survive.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Families of kernels: tables of `families.toml`. All by default.
    families: Vec<String>,
    /// Tests only every n-th mutant.
    #[arg(long, value_name = "N", default_value = "1")]
    every: NonZeroUsize,
    /// Uses the last build of these families, instead of the current sources.
    #[arg(long)]
    again: bool,
    /// Lists the mutants and exits.
    #[arg(long)]
    list: bool,
}

#[derive(Deserialize)]
struct Family {
    files: Vec<String>,
    /// Test programs, each with filters for its tests.
    tests: Vec<Vec<String>>,
}

fn main() -> Result<std::process::ExitCode> {
    let arguments = Arguments::parse();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize()?;
    let mut families: BTreeMap<String, Family> =
        toml::from_str(&std::fs::read_to_string(root.join("tools/mutants/families.toml"))?)?;
    let names: Vec<String> = families.keys().cloned().collect();
    for family in &arguments.families {
        ensure!(names.contains(family), "unknown family {family}; it must be one of: {}", names.join(", "));
    }
    families.retain(|name, _| arguments.families.is_empty() || arguments.families.contains(name));
    let files: Vec<String> = families.values().flat_map(|family| family.files.clone()).collect();
    if arguments.list {
        let mutants = mutants(&root, &files, &HashSet::new(), |_, _| Ok(()))?;
        mutants.iter().for_each(|mutant| println!("{}", line(&root, mutant)));
        return Ok(std::process::ExitCode::SUCCESS);
    }
    let folder = root.join("target/mutants").join(families.keys().cloned().collect::<Vec<_>>().join("-"));
    let build = if arguments.again { last_build(&folder)? } else { build(&root, &folder, &files)? };
    let known = std::fs::read_to_string(root.join("tools/mutants/survivors.tsv"))?;
    let describe = |mutant: &Mutant| {
        let line = line(&root, mutant);
        known.lines().find(|known| known.starts_with(&line)).unwrap_or(&line).to_owned()
    };
    println!("family\tmutants\tdo not compile\ttested\tfailed\ttimed out\tsurvived");
    let mut all_known = true;
    for (name, family) in &families {
        let outcomes = test(&build, family, arguments.every, describe)?;
        let of_family = || build.mutants.iter().filter(|mutant| family.files.contains(&mutant.file));
        let unviable = of_family().filter(|mutant| build.unviable.contains(&mutant.number)).count();
        let count = |outcome| outcomes.iter().filter(|&&(other, _)| other == outcome).count();
        let [failed, timed_out, survived] = [Outcome::Failed, Outcome::TimedOut, Outcome::Survived].map(count);
        let (all, tested) = (of_family().count(), outcomes.len());
        println!("{name}\t{all}\t{unviable}\t{tested}\t{failed}\t{timed_out}\t{survived}");
        all_known &= outcomes.iter().all(|&(outcome, is_known)| outcome != Outcome::Survived || is_known);
    }
    Ok(if all_known { std::process::ExitCode::SUCCESS } else { std::process::ExitCode::FAILURE })
}

/// Runs the tests of a family for each mutant, or for every n-th one. Prints each mutant that no test finds. Returns each
/// outcome, and whether the text of `describe` ends with a reason.
fn test(
    build: &Build,
    family: &Family,
    every: NonZeroUsize,
    describe: impl Fn(&Mutant) -> String + Sync,
) -> Result<Vec<(Outcome, bool)>> {
    let mut limits = Vec::new();
    for test in &family.tests {
        let program = build.programs.get(&test[0]).with_context(|| format!("unknown test program {}", test[0]))?;
        let (outcome, time) = run(program, &test[1..], &build.folder, 0, Duration::from_secs(1200))?;
        eprintln!("{test:?}: {:.1} s", time.as_secs_f64());
        ensure!(outcome == Outcome::Survived, "{test:?} fails without a mutant");
        limits.push((program, &test[1..], 5 * time + Duration::from_secs(10)));
    }
    let is_tested = |mutant: &&Mutant| family.files.contains(&mutant.file) && !build.unviable.contains(&mutant.number);
    let tested: Vec<&Mutant> = build.mutants.iter().filter(is_tested).step_by(every.get()).collect();
    let progress = ProgressBar::new(tested.len() as u64);
    let outcome = |mutant: &&Mutant| -> Result<(Outcome, bool)> {
        let mut outcome = Outcome::Survived;
        for &(program, filters, limit) in &limits {
            (outcome, _) = run(program, filters, &build.folder, mutant.number, limit)?;
            if outcome != Outcome::Survived {
                break;
            }
        }
        progress.inc(1);
        let text = describe(mutant);
        if outcome == Outcome::Survived {
            progress.suspend(|| println!("{text}"));
        }
        Ok((outcome, !text.ends_with('\t')))
    };
    tested.par_iter().map(outcome).collect()
}

/// Describes a mutant as a line of `survivors.tsv`: the file, the source line, the text that changes and its replacement.
/// The reason is missing.
fn line(root: &Path, mutant: &Mutant) -> String {
    let text = std::fs::read_to_string(root.join(&mutant.file)).unwrap_or_default();
    let source = text.lines().nth(mutant.line - 1).unwrap_or_default().trim();
    let clean = |text: &str| text.replace(['\t', '\n'], " ");
    format!("{}\t{}\t{}\t{}\t", mutant.file, clean(source), clean(&mutant.from), clean(&mutant.to))
}
