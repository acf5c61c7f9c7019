//! Trains on all ranks together, and on each rank alone. The losses, norms and weights must have the same bits.

use crate::model::{ShardedClasses, Task, Unsharded, digest};
use crate::table::differing;
use crate::{Arguments, Rank};
use evenkeel::sharded::Collective;
use std::process::ExitCode;

pub fn run(rank: &Rank, steps: usize, arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let task = Task::new(arguments.width)?;
    let own = rank.columns(task.classes);
    rank.comm.take();
    let (layer, done) =
        task.train(own.clone(), steps, &ShardedClasses { comm: &rank.comm, own: own.clone(), task: &task })?;
    let exchanged = rank.comm.take();
    let (alone, whole) = task.train(0..task.classes, steps, &Unsharded)?;
    let width = arguments.width;
    let differ = done.iter().zip(&whole).filter(|(done, whole)| done != whole).count() as u64
        + differing(&layer.weight, &alone.weight[own.start * width..own.end * width])
        + differing(&layer.bias, &alone.bias[own]);
    let mut differ = [differ];
    rank.comm.sum(&mut differ)?;
    if rank.rank == 0 {
        let loss = |step: usize| whole.get(step).map_or(f64::NAN, |step| f64::from_bits(step.loss));
        let (size, got) = (rank.size, exchanged.got / (steps as u64).max(1));
        println!("{steps} steps on {size} ranks, {} classes of {width} numbers, {got} bytes got a step", task.classes);
        println!("loss from {} to {}", loss(0), loss(steps.saturating_sub(1)));
        let bits = if differ == [0] { "the same as on one rank".to_string() } else { format!("{} differ", differ[0]) };
        println!("digest of losses and norms {:016x}: {bits}", digest(&done));
    }
    Ok(ExitCode::from(u8::from(differ != [0])))
}
