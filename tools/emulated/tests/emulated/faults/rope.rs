//! Faults of rope's kernels.

use super::{Fault, Found, fault};
use crate::support::rope::{Table, case};
use crate::support::{How, KINDS, row};
use evenkeel::cuda::DeviceElement;
use evenkeel_emulated::{Emulator, Order};
use half::{bf16, f16};
use rand::SeedableRng;
use rand::rngs::StdRng;

pub const FAULTS: &[Fault] = &[
    fault("neighbours are not together", "rope.cuh", "NEIGHBOURS ? 2 * i : i;", "i;"),
    fault("turned back", "rope.cuh", "0.0 - b * sin[i]", "b * sin[i]"),
    fault("never turned back", "rope.cuh", "* direction;", ";"),
    fault("the first position's table", "rope.cu", "of_pair = position * a.half + pair", "of_pair = pair"),
    fault("the first piece's table", "rope.cu", "a.sin + of_pair", "a.sin + position * a.half"),
    fault("a thread skips a piece", "rope.cu", "index += threads", "index += threads + 1"),
    fault("the first copy only", "rope.cu", "(copy * a.positions + position)", "position"),
    fault("one half twice", "rope.cuh", "store(to + apart, bits + COUNT)", "store(to + apart, bits)"),
    fault("neighbours a half apart", "rope.cu", "NEIGHBOURS ? 2 * pair : pair", "pair"),
    fault("rounded twice", "wide.cuh", "(double)near != v ? 1 : 0", "0"),
];

/// What is found of all types.
pub fn look(emulator: &Emulator) -> Found {
    look_at::<f32>(emulator).and(look_at::<f16>(emulator)).and(look_at::<bf16>(emulator))
}

fn look_at<E: DeviceElement>(emulator: &Emulator) -> Found {
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
