//! Compares ops on rows that are sharded across MPI processes with the same ops on unsharded rows. It also compares
//! training on all ranks with training on one rank, and tests how the ranks behave if one of them fails.
//!
//! ```sh
//! cargo build --release --features mpi --example sharded
//! mpirun -n 4 --oversubscribe target/release/examples/sharded
//! mpirun -n 4 --oversubscribe target/release/examples/sharded --train 200
//! mpirun -n 4 --oversubscribe target/release/examples/sharded --fail shape
//! ```
//!
//! Exit status: 0 if everything agrees, 1 if a rank has different bits or an unexpected error. With `--fail`, the
//! status is 3 if every rank got the expected error. With `--fail gone` and `--fail message`, no process can finalize
//! MPI, and mpirun may report 1.

#![forbid(unsafe_code)]

mod attention;
mod cases;
mod clipping;
mod failures;
mod hostile;
mod losses;
mod model;
mod norms;
mod sampling;
mod scores;
mod table;
mod training;

use clap::{Parser, ValueEnum};
use evenkeel::sharded::{Counted, Mpi};
use mpi::topology::SimpleCommunicator;
use mpi::traits::Communicator;
use std::ops::Range;
use std::process::ExitCode;
use std::time::Duration;

/// Compares ops on rows sharded across MPI ranks with the same ops on unsharded rows.
#[derive(Parser)]
pub struct Arguments {
    /// Total number of columns over all ranks.
    #[arg(long, default_value_t = 1100)]
    columns: usize,
    /// Seconds that a rank waits for the others.
    #[arg(long, default_value_t = 5.0)]
    timeout: f64,
    /// Trains for this many steps instead of testing single ops; the losses must have the same bits as on one rank.
    #[arg(long)]
    train: Option<usize>,
    /// Number of weights per class in training.
    #[arg(long, default_value_t = 128)]
    width: usize,
    /// Error to cause on the last rank.
    #[arg(long)]
    fail: Option<Failure>,
}

#[derive(Clone, Copy, ValueEnum)]
pub enum Failure {
    /// The last rank's gradients contain a NaN.
    Nan,
    /// The last rank has one row fewer than the others.
    Shape,
    /// The last rank uses another scale than the others.
    Parameters,
    /// The last rank exchanges more words than the others.
    Words,
    /// The last rank does not take part.
    Gone,
    /// The last rank sends a longer message than the others expect, which MPI reports as an error.
    Message,
}

type Comm = Counted<Mpi<SimpleCommunicator>>;

/// Communicator of this rank, the rank's number, and the number of ranks.
pub struct Rank {
    comm: Comm,
    rank: usize,
    size: usize,
    timeout: Duration,
}

impl Rank {
    /// Returns the columns of this rank. The boundaries between ranks are multiples of 256.
    fn columns(&self, all: usize) -> Range<usize> {
        let tiles = all.div_ceil(256);
        let cut = |rank: usize| (tiles * rank / self.size * 256).min(all);
        cut(self.rank)..cut(self.rank + 1)
    }
}

fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    let timeout = Duration::try_from_secs_f64(arguments.timeout)?;
    let Some(universe) = mpi::initialize() else { anyhow::bail!("can't initialise MPI: it is initialised already") };
    let world = universe.world();
    let comm = Counted::new(Mpi::new(world.duplicate()).timeout(timeout));
    let rank = Rank { comm, rank: world.rank() as usize, size: world.size() as usize, timeout };
    anyhow::ensure!(arguments.fail.is_none() || rank.size > 1, "`--fail` needs at least two ranks, got {}", rank.size);
    match arguments.fail {
        None => match arguments.train {
            Some(steps) => training::run(&rank, steps, &arguments),
            None => cases::run(&rank, &arguments),
        },
        Some(Failure::Gone) => {
            let status = failures::gone(&rank, &arguments)?;
            // Returning would finalize MPI, which waits for the missing rank and for pending requests.
            std::process::exit(status.into());
        }
        Some(Failure::Message) => {
            let status = failures::message(&rank, &universe)?;
            // After an error of MPI, finalizing it may wait forever.
            std::process::exit(status.into());
        }
        Some(failure) => failures::run(&rank, failure, &arguments),
    }
}
