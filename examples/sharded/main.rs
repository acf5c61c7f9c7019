//! Ops over rows that are dealt out to the processes of MPI, beside the same ops over whole rows; a run of training on all
//! of them, beside the same on one; or what becomes of the others when something is wrong with one of them.
//!
//! ```sh
//! cargo build --release --features mpi --example sharded
//! mpirun -n 4 --oversubscribe target/release/examples/sharded
//! mpirun -n 4 --oversubscribe target/release/examples/sharded --train 200
//! mpirun -n 4 --oversubscribe target/release/examples/sharded --fail shape
//! ```
//!
//! Exit status: 0 where all is as it should be, 1 where a rank has other bits, or an error that it should not have. With
//! `--fail` it is 2 where every rank had the error that it should. Of a rank that is gone mpirun says 1 in any case, since
//! then nobody can end as MPI wants it.

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

/// Ops over rows that are dealt out to ranks.
#[derive(Parser)]
pub struct Arguments {
    /// Columns, of all ranks together.
    #[arg(long, default_value_t = 1100)]
    columns: usize,
    /// Seconds that a rank waits for the others.
    #[arg(long, default_value_t = 5.0)]
    timeout: f64,
    /// Steps of training, whose losses are to be those of one rank; instead of single ops.
    #[arg(long)]
    train: Option<usize>,
    /// Numbers that a class has in training.
    #[arg(long, default_value_t = 128)]
    width: usize,
    /// What is wrong with the last rank.
    #[arg(long)]
    fail: Option<Failure>,
}

#[derive(Clone, Copy, ValueEnum)]
pub enum Failure {
    /// A NaN among its gradients.
    Nan,
    /// A row less than the others.
    Shape,
    /// Another scale.
    Parameters,
    /// It does not come.
    Gone,
}

type Comm = Counted<Mpi<SimpleCommunicator>>;

/// This rank among the others.
pub struct Rank {
    comm: Comm,
    rank: usize,
    size: usize,
    timeout: Duration,
}

impl Rank {
    /// The columns of this rank, cut at multiples of 256.
    fn columns(&self, all: usize) -> Range<usize> {
        let tiles = all.div_ceil(256);
        let cut = |rank: usize| (tiles * rank / self.size * 256).min(all);
        cut(self.rank)..cut(self.rank + 1)
    }
}

fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    let timeout = Duration::try_from_secs_f64(arguments.timeout)?;
    let Some(universe) = mpi::initialize() else { anyhow::bail!("MPI is initialised already") };
    let world = universe.world();
    let comm = Counted::new(Mpi::new(world.duplicate()).timeout(timeout));
    let rank = Rank { comm, rank: world.rank() as usize, size: world.size() as usize, timeout };
    anyhow::ensure!(arguments.fail.is_none() || rank.size > 1, "--fail needs two ranks or more");
    match arguments.fail {
        None => match arguments.train {
            Some(steps) => training::run(&rank, steps, &arguments),
            None => cases::run(&rank, &arguments),
        },
        Some(Failure::Gone) => {
            let status = failures::gone(&rank, &arguments)?;
            // MPI would wait for the rank that is gone, and for what others asked of it.
            std::process::exit(status.into());
        }
        Some(failure) => failures::run(&rank, failure, &arguments),
    }
}
