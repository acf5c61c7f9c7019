//! Runs the training of `examples/sharded` on threads. The example itself runs one process per rank.

#[path = "../../examples/sharded/model.rs"]
mod model;

use crate::sharded_rows::{LONG, on_ranks};
use model::{ShardedClasses, Task, Unsharded, digest};

/// Checks that losses, norms and weights of 200 steps have the same bits as on one rank.
#[test]
fn two_hundred_steps_are_the_same_on_one_rank_and_on_four() {
    let (width, steps) = (16, 200);
    let task = Task::new(width).unwrap();
    let (alone, whole) = task.train(0..task.classes, steps, &Unsharded).unwrap();
    let loss = |step: usize| f64::from_bits(whole[step].loss);
    assert!(
        loss(steps - 1) < loss(0) - 1.0,
        "training in one process: the loss must fall by more than 1 in {steps} steps, but fell from {} to {}",
        loss(0),
        loss(steps - 1)
    );
    // In the first case, the cuts are even. In the second case, one rank has no columns.
    for cuts in [[512, 1024, 1536, 2048], [256, 256, 1792, 2048]] {
        let starts: Vec<usize> = [0].into_iter().chain(cuts).collect();
        let each = on_ranks(cuts.len(), LONG, |rank, comm| {
            let own = starts[rank]..cuts[rank];
            let (layer, done) =
                task.train(own.clone(), steps, &ShardedClasses { comm: &comm, own: own.clone(), task: &task }).unwrap();
            assert_eq!(layer.weight, alone.weight[own.start * width..own.end * width]);
            assert_eq!(layer.bias, alone.bias[own]);
            done
        });
        for done in each {
            assert_eq!(digest(&done), digest(&whole));
            assert_eq!(done, whole);
        }
    }
}
