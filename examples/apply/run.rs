//! Runs all jobs in order. Answers go to stdout, outputs to OUT.

use crate::answer::{Answer, Failure};
use crate::arguments::Arguments;
use crate::call::{Call, Result as JobResult};
use crate::jobs::{self, Job};
use crate::out::Out;
use crate::progress::Progress;
use crate::tensors::Output;
use anyhow::{Context, Result};
use evenkeel::backend::available;
use evenkeel::registry::Backend;
use evenkeel::simd::with_level;
use safetensors::SafeTensors;
use safetensors::tensor::TensorView;
use std::collections::BTreeSet;
use std::io::Write;

/// Answers every job. Fails if a file could not be read or written.
pub fn run(arguments: &Arguments) -> Result<()> {
    let out = Out::new(&arguments.out)?;
    let jobs = jobs::read(&arguments.jobs)?;
    let path = &arguments.tensors;
    let bytes = std::fs::read(path).with_context(|| format!("can't read the tensors in {}", path.display()))?;
    let tensors =
        SafeTensors::deserialize(&bytes).with_context(|| format!("{} is not a safetensors file", path.display()))?;
    let work = || with_level(arguments.simd, || answer_all(&jobs, &tensors));
    let computed = match arguments.backend {
        Backend::Cpu => on_threads(arguments.threads, work)?,
        other => Err(not_here(other)),
    };
    let (answers, outputs) = computed.unwrap_or_else(|unavailable| {
        let failure = Failure::from(unavailable);
        (jobs.iter().map(|job| Answer::new(&job.id, Some(failure.clone()))).collect(), Vec::new())
    });
    let views = outputs
        .iter()
        .map(|(name, output)| Ok((*name, TensorView::new(output.dtype, output.shape.clone(), &output.bytes)?)));
    let written = out.write(&safetensors::serialize(views.collect::<Result<Vec<_>>>()?, None)?)?;
    print(&answers).context("can't write the answers to stdout")?;
    written.rename()
}

/// Returns the reason why a device can't answer the jobs: the device is absent, or this program does not support it.
fn not_here(backend: Backend) -> evenkeel::Error {
    available(backend).err().unwrap_or_else(|| {
        let reason = format!("the backend is available, but the program `apply` supports only {}", Backend::Cpu.name());
        evenkeel::Error::unavailable(backend.name(), reason)
    })
}

/// Calls `work` on a new pool if a number of threads is given, otherwise with the default pool.
fn on_threads<T: Send>(threads: Option<u16>, work: impl FnOnce() -> T + Send) -> Result<T> {
    let Some(threads) = threads else { return Ok(work()) };
    let pool = rayon::ThreadPoolBuilder::new().num_threads(usize::from(threads)).build();
    Ok(pool.with_context(|| format!("can't start {threads} threads"))?.install(work))
}

fn answer_all<'a>(jobs: &'a [Job], tensors: &SafeTensors<'a>) -> (Vec<Answer>, Vec<(&'a str, Output)>) {
    let mut answers = Vec::with_capacity(jobs.len());
    let mut outputs = Vec::new();
    let mut taken = BTreeSet::new();
    let progress = Progress::new(jobs.len(), "jobs");
    for job in jobs {
        let failure = match answer(job, tensors, &mut taken) {
            Ok(named) => {
                outputs.extend(named);
                None
            }
            Err(failure) => Some(failure),
        };
        answers.push(Answer::new(&job.id, failure));
        progress.step();
    }
    (answers, outputs)
}

fn answer<'a>(
    job: &'a Job,
    tensors: &SafeTensors<'a>,
    taken: &mut BTreeSet<&'a str>,
) -> JobResult<Vec<(&'a str, Output)>> {
    Call::new(job, tensors, taken)?.run()
}

fn print(answers: &[Answer]) -> std::io::Result<()> {
    let mut stdout = std::io::BufWriter::new(std::io::stdout().lock());
    for answer in answers {
        serde_json::to_writer(&mut stdout, answer)?;
        stdout.write_all(b"\n")?;
    }
    stdout.flush()
}
