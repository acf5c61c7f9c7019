//! Errors on the last rank, and what the other ranks report about them.

use crate::hostile::numbers;
use crate::table::columns;
use crate::{Arguments, Failure, Rank};
use evenkeel::sharded::{Collective, GradShard, Mpi, Sharded, clip_grad_norm};
use evenkeel::{ClipGradNorm, Error, Result, Rows, Softmax};
use mpi::collective::SystemOperation;
use mpi::environment::Universe;
use mpi::request::StaticScope;
use mpi::traits::CommunicatorCollectives;
use std::process::ExitCode;
use std::time::Instant;

/// Number of rows on each rank.
const ROWS: usize = 3;

/// Exit status if the expected error was found. It is not 2, because invalid arguments give 2.
const FOUND: u8 = 3;
/// Exit status if there was no error, or an unexpected error.
const MISSED: u8 = 1;

/// Causes an error on the last rank, which still takes part in the call. Each rank prints its result.
pub fn run(rank: &Rank, failure: Failure, arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let last = rank.rank + 1 == rank.size;
    let start = Instant::now();
    let outcome = match failure {
        Failure::Nan => {
            let mut grad = [0.5f32; 10];
            grad[7] = if last { f32::NAN } else { 0.5 };
            let mut grads = [GradShard::whole(rank.rank, &mut grad)];
            clip_grad_norm(&rank.comm, &mut grads, &ClipGradNorm::new(1.0)).map(drop)
        }
        Failure::Words => rank.comm.gather(&[0; 3][..if last { 3 } else { 2 }]).map(drop),
        _ => {
            let (rows, all) = (ROWS, arguments.columns);
            let own = rank.columns(all);
            let part = columns(&numbers::<f32>(rows * all), all, &own);
            let rows_here = rows - usize::from(last && matches!(failure, Failure::Shape)).min(rows);
            let scale = if last && matches!(failure, Failure::Parameters) { 0.5 } else { 1.0 };
            let shard = Sharded::new(&rank.comm, own.clone(), all);
            let given = Rows::new(&part[..rows_here * own.len()], rows_here, own.len())?;
            shard.softmax(given, &Softmax::default().scale(scale)).map(drop)
        }
    };
    let in_time = start.elapsed() < rank.timeout;
    let found = match &outcome {
        // If ranks exchange different numbers of words, no rank knows which of them is wrong, so the error names no
        // rank.
        Err(Error::Collective { rank: None, .. }) => matches!(failure, Failure::Words),
        Err(Error::Collective { rank: Some(named), .. } | Error::NonFiniteShard { rank: named, .. }) => {
            *named == rank.size - 1
        }
        _ => false,
    };
    say(rank, start, &outcome);
    // mpirun terminates all processes when the first one exits, and returns only one status. So the ranks first add up
    // how many of them missed the error. The sum also waits until all have printed.
    let mut missed = [u64::from(!(found && in_time))];
    rank.comm.sum(&mut missed)?;
    Ok(ExitCode::from(if missed == [0] { FOUND } else { MISSED }))
}

/// Lets the last rank miss the call. The other ranks must report in time that the last rank is missing.
pub fn gone(rank: &Rank, arguments: &Arguments) -> anyhow::Result<u8> {
    let start = Instant::now();
    if rank.rank + 1 == rank.size {
        await_prints(rank, start);
        return Ok(FOUND);
    }
    let (rows, all) = (ROWS, arguments.columns);
    let own = rank.columns(all);
    let x = columns(&numbers::<f32>(rows * all), all, &own);
    let shard = Sharded::new(&rank.comm, own.clone(), all);
    let outcome = shard.softmax(Rows::new(&x, rows, own.len())?, &Softmax::default()).map(drop);
    let in_time = start.elapsed() < rank.timeout.mul_f64(1.5);
    say(rank, start, &outcome);
    await_prints(rank, start);
    Ok(if matches!(outcome, Err(Error::Collective { .. })) && in_time { FOUND } else { MISSED })
}

/// Lets the last rank send a longer message than the others expect. The first rank must get MPI's error, although MPI's
/// default handler would end the process.
pub fn message(rank: &Rank, universe: &Universe) -> anyhow::Result<u8> {
    let start = Instant::now();
    let comm = Mpi::new(universe.world()).timeout(rank.timeout);
    if rank.rank + 1 == rank.size {
        let (longer, received) = (Box::leak(Box::new([0u64; 3])), Box::leak(Box::new([0u64; 3])));
        // Messages of the library always have the expected length, so this one is sent by calling MPI directly. The
        // request is never completed.
        let sum = SystemOperation::sum();
        std::mem::forget(universe.world().immediate_all_reduce_into(StaticScope, &*longer, received, sum));
        await_prints(rank, start);
        return Ok(FOUND);
    }
    let outcome = comm.sum(&mut [0]);
    say(rank, start, &outcome);
    await_prints(rank, start);
    let found = matches!(&outcome, Err(Error::Collective { reason, .. }) if reason.contains("TRUNCATE"));
    Ok(if found { FOUND } else { MISSED })
}

/// Waits until all ranks have printed, because mpirun terminates all processes when the first one exits.
fn await_prints(rank: &Rank, start: Instant) {
    std::thread::sleep((2 * rank.timeout).saturating_sub(start.elapsed()));
}

fn say(rank: &Rank, start: Instant, outcome: &Result<()>) {
    let after = start.elapsed().as_secs_f64();
    let what = outcome.as_ref().map_or_else(Error::to_string, |()| "no error".into());
    println!("rank {} after {after:.3} s: {what}", rank.rank);
}
