//! The command line.

use clap::{Parser, ValueEnum};
use evenkeel::simd::Level;
use std::path::PathBuf;

/// Runs ops on tensors from files, one JSON answer a job on stdout.
#[derive(Parser)]
#[command(name = "apply", max_term_width = 120, after_help = crate::ops::help())]
pub struct Arguments {
    /// The jobs: a JSON array of objects with id, op, inputs, attrs and outputs.
    #[arg(value_name = "JOBS.json")]
    pub jobs: PathBuf,
    /// The tensors that inputs name.
    #[arg(long, value_name = "IN.safetensors")]
    pub tensors: PathBuf,
    /// Where outputs go; replaced whole, by rename.
    #[arg(long, value_name = "OUT.safetensors")]
    pub out: PathBuf,
    /// What computes.
    #[arg(long, value_enum, default_value_t = Backend::Cpu)]
    pub backend: Backend,
    /// The CPU's instruction set: auto (the best there is), portable, avx2 or avx512. All give the same bits.
    #[arg(long, env = "EVENKEEL_SIMD", default_value = "auto")]
    pub simd: Level,
    /// Threads to spread rows over, 1 to 1024; by default one a core. Any number gives the same bits.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub threads: Option<u16>,
}

/// A backend that jobs can ask for.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Backend {
    Cpu,
    Cuda,
    Neuron,
}

impl Backend {
    /// The backend's name, as on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Backend::Cpu => "cpu",
            Backend::Cuda => "cuda",
            Backend::Neuron => "neuron",
        }
    }
}
