//! The command line.

use clap::Parser;
use evenkeel::registry::Backend;
use evenkeel::simd::Level;
use std::path::PathBuf;

/// Runs ops on tensors read from files. Prints one JSON answer per job on stdout.
#[derive(Parser)]
#[command(name = "apply", max_term_width = 120, after_help = crate::ops::help())]
pub struct Arguments {
    /// File with the jobs: a JSON array of objects with id, op, inputs, attrs and outputs.
    #[arg(value_name = "JOBS.json")]
    pub jobs: PathBuf,
    /// File with the input tensors, which jobs refer to by name.
    #[arg(long, value_name = "IN.safetensors")]
    pub tensors: PathBuf,
    /// File for the output tensors. An existing file is replaced atomically, by a rename.
    #[arg(long, value_name = "OUT.safetensors")]
    pub out: PathBuf,
    /// Backend to compute on: cpu, cuda or neuron.
    #[arg(long, default_value = "cpu", value_parser = backend)]
    pub backend: Backend,
    /// Instruction set of the CPU: auto (the best available), portable, avx2 or avx512. The choice does not change the
    /// results.
    #[arg(long, env = "EVENKEEL_SIMD", default_value = "auto")]
    pub simd: Level,
    /// Number of threads, 1 to 1024; by default one per core. The number does not change the results.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub threads: Option<u16>,
}

fn backend(name: &str) -> Result<Backend, String> {
    let names = || Backend::ALL.iter().map(|backend| backend.name()).collect::<Vec<_>>().join(", ");
    Backend::ALL
        .iter()
        .copied()
        .find(|backend| backend.name() == name)
        .ok_or_else(|| format!("the backend must be one of {}", names()))
}
