//! Faults in rope's kernels.

use super::{Fault, Outcome, fault};
use crate::heads;
use crate::support::rope::{Table, case};
use crate::support::{How, KINDS, Shapes, row};
use evenkeel::cuda::DeviceElement;
use evenkeel_cuda_emulator::{Emulator, Order};
use half::{bf16, f16};
use rand::SeedableRng;
use rand::rngs::StdRng;

pub const FAULTS: &[Fault] = &[
    fault("interleaved pairs are not recognised", "rope.cuh", "NEIGHBOURS ? 2 * i : i;", "i;"),
    fault("the rotation has the wrong direction in f64", "rope.cuh", "fma(a, c, 0.0 - b * s)", "fma(a, c, b * s)"),
    fault("the rotation has the wrong direction in f32", "rope.cuh", "cos[i], -of_sine)", "cos[i], of_sine)"),
    fault("the gradient rotates forward", "rope.cuh", "factor(wide_sin[i] * direction)", "factor(wide_sin[i])"),
    fault("no rounding is uncertain", "rope.cuh", "uncertain |= word != other ? pairs << pair : 0;", ""),
    fault("the error bound is too small", "rope.cuh", "5.0f / (1 << 24)", "0.1f / (1 << 24)"),
    fault(
        "products may be subnormal",
        "rope.cuh",
        "const float LEAST_TURN = 0x1p-100f",
        "const float LEAST_TURN = 0.0f",
    ),
    fault(
        "an uncertain pair gets the results of the first pair",
        "rope.cuh",
        "one = first(i), other",
        "one = first(0), other",
    ),
    fault(
        "all positions use the first position's table",
        "rope.cu",
        "of_pair = position * at.half + pair",
        "of_pair = pair",
    ),
    fault("all pairs of a position use its first sines", "rope.cu", "at.sin + of_pair", "at.sin + position * at.half"),
    fault("results have the strides of the rows", "rope.cu", "token * at.y_token", "token * at.x_token"),
    fault("columns behind the pairs are not copied", "rope.cu", "copy_piece<S, By>(from, to);", ""),
    fault(
        "an unknown position is the first one",
        "rope.cuh",
        "id < positions ? id : positions",
        "id < positions ? id : 0",
    ),
    fault(
        "positions of 64 bits are read as 32 bits",
        "rope.cuh",
        "wide_ids ? ((const u64*)ids)",
        "false ? ((const u64*)ids)",
    ),
    fault("a thread skips a vector", "rope.cu", "index += threads", "index += threads + 1"),
    fault("only the first copy is rotated", "rope.cu", "+ head * at.x_head + column", "+ column"),
    fault("the first half is stored twice", "rope.cuh", "store(to + apart, bits + COUNT)", "store(to + apart, bits)"),
    fault("interleaved pairs are read as halves", "rope.cu", "NEIGHBOURS ? 2 * pair : pair", "pair"),
    fault("results are rounded twice", "wide.cuh", "(double)near != v ? 1 : 0", "0"),
];

pub fn look(emulator: &Emulator) -> Outcome {
    look_at::<f32>(emulator)?;
    look_at::<f16>(emulator)?;
    look_at::<bf16>(emulator)?;
    heads::cases::<bf16>(emulator, 6, 60, false, &mut Shapes::default())
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
