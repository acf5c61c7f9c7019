//! Compares the times and errors of Evenkeel and its competitors on the same inputs. Also times a memory copy of the
//! same number of bytes.
//!
//! `./run` builds and runs everything; see its usage text.

mod arguments;
mod clock;
mod contender;
mod exact;
mod float;
mod inputs;
mod machine;
mod ops;
mod peers;
mod plan;
mod problem;
mod race;
mod record;
mod report;
mod rust;

use anyhow::{Context, Result, ensure};
use arguments::{Arguments, Command, Time};
use clap::Parser;
use peers::Rten;
use rayon::ThreadPoolBuilder;
use record::Run;
use std::path::Path;

fn main() -> Result<()> {
    match Arguments::parse().command {
        Command::Cases { choice, out } => {
            let text = plan::describe(&choice, evenkeel::simd::level()?.name())?;
            std::fs::write(&out, text).with_context(|| format!("can't write {}", out.display()))
        }
        Command::Time(time) => measure(&time),
        Command::Report { docs, runs } => {
            let runs = runs.iter().map(|path| Ok((Run::read(path)?, path.parent().unwrap_or(Path::new(".")))));
            report::write(runs.collect::<Result<Vec<_>>>()?, &docs)
        }
    }
}

fn measure(time: &Time) -> Result<()> {
    // Collects the facts first, because they include the load of the machine, which the run itself changes.
    let mut facts = machine::facts();
    facts.insert("turns".into(), if time.choice.quick { "few, --quick" } else { "all" }.into());
    ThreadPoolBuilder::new().num_threads(1).build_global()?;
    let rten = time.rten.as_deref().map(Rten::load).transpose()?;
    ensure!(time.threads > 0, "`--threads` must be at least 1, got {}", time.threads);
    let pool = (time.threads > 1).then(|| ThreadPoolBuilder::new().num_threads(time.threads).build()).transpose()?;
    let records = rust::run(&time.choice, rten.as_ref(), pool.as_ref())?;
    ensure!(!records.is_empty(), "`--filter` must match the name of at least one case, but it matches none");
    Run { level: evenkeel::simd::level()?.name().into(), facts, records }.write(&time.out)
}
