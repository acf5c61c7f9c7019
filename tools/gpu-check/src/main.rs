//! Checks and measures Evenkeel's CUDA kernels on a device. `scripts/gpu-check` copies this program to the device's
//! machine.

mod check;
mod error;
mod memory;
mod numbers;
mod ops;
mod record;
mod report;
mod time;
mod watchdog;

use clap::{Args, Parser, Subcommand};
use error::{Error, Result};
use evenkeel::cuda::cudarc::driver::sys::{CUdevice_attribute, CUmemPool_attribute};
use evenkeel::cuda::cudarc::driver::{CudaContext, result};
use memory::Stream;
use record::{Checks, Device, Timings, read_json};
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::sync::Arc;

/// Checks and measures Evenkeel's CUDA kernels on the first device.
#[derive(Parser)]
#[command(about, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Print the device's name and properties.
    Device,
    /// Write the digests of the CPU's results. Needs no device.
    Digest(Cases),
    /// Compare each op's bits with the CPU's. Skips the checks that the file already has.
    Check {
        #[command(flatten)]
        cases: Cases,
        /// Check only calls with this number of blocks of 2^20 elements; 4097 blocks exceed 2^32 elements.
        #[arg(long, default_value_t = 0)]
        blocks: usize,
        /// Check only the K-th of N shares of the ops, for N processes in parallel. Each process needs its own file.
        #[arg(long, value_name = "K/N", default_value = "1/1", value_parser = share)]
        share: (usize, usize),
    },
    /// Measure the time of each op. Skips the timings that the file already has.
    Time {
        /// File for the timings.
        #[arg(long)]
        out: PathBuf,
        /// Time only this op; can be given several times.
        #[arg(long = "op")]
        ops: Vec<String>,
        /// Time only two shapes of each op, in bf16.
        #[arg(long)]
        quick: bool,
        /// Largest number of elements per call.
        #[arg(long, default_value_t = 1 << 30, value_parser = clap::value_parser!(u64).range(2..))]
        elements: u64,
    },
    /// Write a page and a data file about a run.
    Report {
        /// Folder of the run, with any of check*.json, time.json, peers.json, digest.json and steps.tsv.
        run: PathBuf,
        /// Folder for the page and the data file, which are named after the device and the date.
        #[arg(long)]
        docs: PathBuf,
        /// Date of the run.
        #[arg(long)]
        date: String,
    },
}

#[derive(Args)]
struct Cases {
    /// File for the results.
    #[arg(long)]
    out: PathBuf,
    /// Seed of the inputs.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Check only every PART-th shape.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    part: u64,
    /// Skip shapes with more elements than this. Below 100,000, shapes also have fewer rows, and slow ops run fewer
    /// calls.
    #[arg(long, default_value_t = 1 << 30)]
    elements: usize,
    /// Check only this op; can be given several times.
    #[arg(long = "op")]
    ops: Vec<String>,
    /// Name of the sources that this program was built from.
    #[arg(long, default_value = "unknown")]
    build: String,
}

fn device() -> Result<(Arc<CudaContext>, Device)> {
    let context = evenkeel::cuda::device(0)?;
    let (major, minor) = context.compute_capability()?;
    let output = Command::new("nvidia-smi")
        .args(["--query-gpu=driver_version,clocks.max.sm,clocks.max.mem", "--format=csv,noheader"])
        .output();
    let driver = output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_string()).unwrap_or_default();
    let device = Device {
        name: context.name()?,
        compute_capability: format!("{major}.{minor}"),
        multiprocessors: context.attribute(CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?,
        memory: context.total_mem()?,
        driver,
    };
    Ok((context, device))
}

/// Returns the device's default stream. The driver keeps freed memory for the process, so that allocating it again is
/// fast.
fn stream(context: &Arc<CudaContext>) -> Result<Stream> {
    let mut keep = u64::MAX;
    context.bind_to_thread()?;
    // SAFETY: the device belongs to the context, and the attribute has 64 bits.
    unsafe {
        let pool = result::device::get_default_mem_pool(context.cu_device())?;
        let threshold = CUmemPool_attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD;
        result::mem_pool::set_attribute(pool, threshold, (&raw mut keep).cast())?;
    }
    Ok(context.default_stream())
}

/// Returns the stored checks if their device, build, seed, part and elements equal this run's. Otherwise, returns no
/// checks.
fn begun(cases: &Cases, device: Option<Device>) -> Result<Checks> {
    let (seed, part, elements, build) = (cases.seed, cases.part as usize, cases.elements, cases.build.clone());
    let fresh = Checks { device, build, seed, part, elements, checks: Vec::new() };
    let before: Option<Checks> = read_json(&cases.out)?;
    let same = |before: &Checks| Checks { checks: Vec::new(), ..before.clone() } == fresh;
    Ok(before.filter(same).unwrap_or(fresh))
}

/// Returns an error if an op has none of the known names.
fn refuse_unknown(ops: &[String], known: &[&str]) -> Result<()> {
    match ops.iter().find(|op| !known.contains(&op.as_str())) {
        Some(unknown) => Err(Error::UnknownOp(unknown.clone(), known.join(", "))),
        None => Ok(()),
    }
}

/// Parses `K/N`, with K from 1 to N.
fn share(text: &str) -> std::result::Result<(usize, usize), String> {
    let parts = text.split_once('/').and_then(|(k, n)| Some((k.parse().ok()?, n.parse().ok()?)));
    parts.filter(|(k, n)| (1..=*n).contains(k)).ok_or_else(|| "it must be K/N with K from 1 to N".to_string())
}

fn check(
    cases: &Cases,
    stream: Option<&Stream>,
    device: Option<Device>,
    blocks: usize,
    (k, n): (usize, usize),
) -> Result<()> {
    refuse_unknown(&cases.ops, &ops::names())?;
    let ops: Vec<&str> = ops::names()
        .into_iter()
        .filter(|name| cases.ops.is_empty() || cases.ops.iter().any(|op| op == name))
        .skip(k - 1)
        .step_by(n)
        .collect();
    let plan = check::Plan { stream, ops: &ops, blocks, out: &cases.out };
    let mut checks = begun(cases, device)?;
    check::run(&plan, &mut checks)?;
    let wrong = checks.checks.iter().filter(|check| check.mismatches > 0 || check.stopped.is_some()).count();
    println!("{} checks; {wrong} failed (different bits, refused arguments, or not finished)", checks.checks.len());
    if wrong > 0 { Err(Error::OtherBits(wrong)) } else { Ok(()) }
}

fn run(what: What) -> Result<()> {
    match what {
        What::Device => {
            let (_, device) = device()?;
            let Device { name, compute_capability, multiprocessors, memory, driver } = device;
            println!("{name}, {compute_capability}, {multiprocessors} multiprocessors, {memory} bytes, {driver}");
            Ok(())
        }
        What::Digest(cases) => check(&cases, None, None, 0, (1, 1)),
        What::Check { cases, blocks, share } => {
            let (context, device) = device()?;
            check(&cases, Some(&stream(&context)?), Some(device), blocks, share)
        }
        What::Time { out, ops, quick, elements } => {
            refuse_unknown(&ops, &time::names())?;
            let (context, device) = device()?;
            let mut timings = Timings { device, ..read_json(&out)?.unwrap_or_default() };
            let stream = stream(&context)?;
            let elements = elements as usize;
            let plan = time::Plan { stream: &stream, ops: &ops, elements, is_quick: quick, out: &out };
            time::run(&plan, &mut timings)?;
            match timings.timings.iter().filter(|timing| timing.us == 0.0).count() {
                0 => Ok(()),
                failed => Err(Error::NotTimed(failed)),
            }
        }
        What::Report { run, docs, date } => {
            for path in report::write(&run, &docs, &date)? {
                println!("{}", path.display());
            }
            Ok(())
        }
    }
}

fn main() -> ExitCode {
    let Err(error) = run(Arguments::parse().what) else { return ExitCode::SUCCESS };
    eprintln!("gpu-check: {error}");
    // If the device can still be opened, the exit status requests a new process, which continues with the next op.
    let goes_on = error.is_of_device() && evenkeel::cuda::device(0).is_ok();
    if goes_on { watchdog::GO_ON.into() } else { ExitCode::FAILURE }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_one_of_a_number_of_processes() {
        assert_eq!(share("2/6"), Ok((2, 6)));
        for wrong in ["0/6", "7/6", "6", "1/0", "a/6", ""] {
            assert!(share(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn unknown_ops_are_refused_with_the_list_of_known_ops() {
        let named = |name: &str| [name.to_string()];
        let known = time::names();
        assert!(known.iter().all(|name| ops::names().contains(name)), "{known:?}");
        assert_eq!(known.iter().filter(|name| **name == "sample").count(), 1);
        refuse_unknown(&named("exp2"), &known).unwrap();
        let refused = refuse_unknown(&named("sqrt"), &known).unwrap_err().to_string();
        assert!(refused.starts_with("`--op sqrt`: unknown op; it must be one of softmax, "), "{refused}");
    }
}
