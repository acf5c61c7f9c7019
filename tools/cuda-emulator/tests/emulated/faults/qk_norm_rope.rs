//! Faults in the fused kernels of RMSNorm and rope.

use super::{Fault, Outcome, fault};
use crate::qk_norm_rope::{at_limits, options};
use crate::support::How;
use crate::support::norm::{RowKind, operand, row_of};
use crate::support::qk_norm_rope::case;
use crate::support::rope::Table;
use evenkeel::cuda::DeviceElement;
use evenkeel_cuda_emulator::{Emulator, Order};
use half::{bf16, f16};
use rand::SeedableRng;
use rand::rngs::StdRng;

pub const FAULTS: &[Fault] = &[
    fault(
        "pairs are read before they are written",
        "qk_norm_rope.cu",
        "            __syncwarp();\n            ROLLED",
        "            ROLLED",
    ),
    fault("lanes read the wrong tiles", "qk_norm_rope.cu", "lane / GROUP * 256 + lane % GROUP", "lane % GROUP"),
    fault(
        "only the first tile is summed",
        "qk_norm_rope.cu",
        "sum = fold(own[0], lanes);",
        "sum = fold(own[0], GROUP);",
    ),
    fault("rows share memory", "qk_norm_rope.cu", "(Bits*)rows + threadIdx.x / a.lanes * (", "(Bits*)rows + 0 * ("),
    fault("all positions use the first position's table", "qk_norm_rope.cu", "at.cos + of_pair", "at.cos + pair"),
    fault(
        "all rows of a warp use its first row",
        "qk_norm_rope.cu",
        "item = first + threadIdx.x % WARP / a.lanes",
        "item = first",
    ),
    fault(
        "all copies of a group use its first one",
        "qk_norm_rope.cu",
        "at.tokens * at.each + i;",
        "at.tokens * at.each;",
    ),
    fault(
        "all rows are computed in f32",
        "qk_norm_rope.cu",
        "has_room(square, scale) && keeps_low_parts",
        "true || keeps_low_parts",
    ),
    fault("weights leave out their offset", "qk_norm_rope.cu", "(double)w + a.weight_offset", "(double)w"),
    fault("only part of the row's magnitudes is checked", "qk_norm_rope.cu", "own.join_lanes(lanes / 2);", ""),
    fault("all elements of a vector share a weight", "qk_norm_rope.cu", "weights[column + i]", "weights[column]"),
    fault(
        "only the last tile of single elements is summed",
        "qk_norm_rope.cu",
        "sum += fold(own[0], WARP)",
        "sum = fold(own[0], WARP)",
    ),
    fault("all positions use the first position's sines", "qk_norm_rope.cu", "at.sin + of_pair", "at.sin + pair"),
    fault("interleaved pairs are read as halves", "qk_norm_rope.cu", "NEIGHBOURS ? COUNT : half", "half"),
];

fn look_at<E: DeviceElement>(emulator: &Emulator) -> Outcome {
    let mut rng = StdRng::seed_from_u64(44);
    for (i, cols) in [2, 10, 32, 64, 128, 256, 384, 512].into_iter().enumerate() {
        for (k, kind) in [RowKind::Normal, RowKind::Sparse, RowKind::Scaled].into_iter().enumerate() {
            let table = Table::new(&[3, 0, 70_001], cols, (i + k) % 2 == 1, false);
            let x: Vec<E> = (0..12).flat_map(|_| row_of(&mut rng, kind, cols)).collect();
            for shift in [0, 1] {
                let weight = operand(&mut rng, E::DTYPE, cols);
                let how = How { shift, one_block: k % 2 == 0, order: Order::ALL[(i + k) % 3] };
                case(emulator, &x, weight.as_ref(), (&table, &options(i + k)), how)?;
            }
        }
    }
    // There are so many rows that each thread processes several.
    let table = Table::new(&(0..40).collect::<Vec<_>>(), 16, false, false);
    let x: Vec<E> = (0..40 * 450).flat_map(|_| row_of(&mut rng, RowKind::Normal, 16)).collect();
    let how = How { shift: 1, one_block: false, order: Order::Forward };
    case(emulator, &x, None, (&table, &options(0)), how)
}

pub fn look(emulator: &Emulator) -> Outcome {
    look_at::<f32>(emulator)?;
    look_at::<f16>(emulator)?;
    look_at::<bf16>(emulator)?;
    at_limits::<f32>(emulator)
}
