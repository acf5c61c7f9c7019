//! Faults in rope's kernels.

use super::{Fault, Outcome, fault};
use crate::support::rope::{Table, case};
use crate::support::{How, KINDS, row};
use evenkeel::cuda::DeviceElement;
use evenkeel_cuda_emulator::{Emulator, Order};
use half::{bf16, f16};
use rand::SeedableRng;
use rand::rngs::StdRng;

pub const FAULTS: &[Fault] = &[
    fault("interleaved pairs are not recognized", "rope.cuh", "NEIGHBOURS ? 2 * i : i;", "i;"),
    fault("the rotation has the wrong direction", "rope.cuh", "0.0 - b * sin[i]", "b * sin[i]"),
    fault("the gradient rotates forward", "rope.cuh", "* direction;", ";"),
    fault(
        "all positions use the first position's table",
        "rope.cu",
        "of_pair = position * a.half + pair",
        "of_pair = pair",
    ),
    fault("all pairs of a position use its first sines", "rope.cu", "a.sin + of_pair", "a.sin + position * a.half"),
    fault("a thread skips a vector", "rope.cu", "index += threads", "index += threads + 1"),
    fault("only the first copy is rotated", "rope.cu", "(copy * a.positions + position)", "position"),
    fault("the first half is stored twice", "rope.cuh", "store(to + apart, bits + COUNT)", "store(to + apart, bits)"),
    fault("interleaved pairs are read as halves", "rope.cu", "NEIGHBOURS ? 2 * pair : pair", "pair"),
    fault("results are rounded twice", "wide.cuh", "(double)near != v ? 1 : 0", "0"),
];

pub fn look(emulator: &Emulator) -> Outcome {
    look_at::<f32>(emulator).and(look_at::<f16>(emulator)).and(look_at::<bf16>(emulator))
}

fn look_at<E: DeviceElement>(emulator: &Emulator) -> Outcome {
    let mut rng = StdRng::seed_from_u64(5);
    for (i, cols) in [2, 10, 32, 64, 128].into_iter().enumerate() {
        for (k, kind) in KINDS.into_iter().enumerate() {
            let table = Table::new(&[3, 0, 70_001], cols, (i + k) % 2 == 1, k == 1);
            let x: Vec<E> = (0..60).flat_map(|_| row(&mut rng, kind, cols)).collect();
            for shift in [0, 1] {
                case(emulator, &x, &table, How { shift, one_block: k % 2 == 0, order: Order::ALL[i % 3] })?;
            }
        }
    }
    Ok(())
}
