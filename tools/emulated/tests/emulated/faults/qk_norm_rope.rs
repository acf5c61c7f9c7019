//! Faults of the kernels of RMSNorm and rope.

use super::{Fault, Found, fault};
use crate::qk_norm_rope::{at_limits, options};
use crate::support::How;
use crate::support::norm::{RowKind, operand, row_of};
use crate::support::qk_norm_rope::case;
use crate::support::rope::Table;
use evenkeel::cuda::DeviceElement;
use evenkeel_emulated::{Emulator, Order};
use half::{bf16, f16};
use rand::SeedableRng;
use rand::rngs::StdRng;

pub const FAULTS: &[Fault] = &[
    fault(
        "pairs before they are written",
        "qk_norm_rope.cu",
        "            __syncwarp();\n            ROLLED",
        "            ROLLED",
    ),
    fault("tiles one after the other", "qk_norm_rope.cu", "lane / GROUP * 256 + lane % GROUP", "lane % GROUP"),
    fault("the first tile's sum", "qk_norm_rope.cu", "sum = fold(own[0], lanes);", "sum = fold(own[0], GROUP);"),
    fault(
        "rows share their memory",
        "qk_norm_rope.cu",
        "(Bits*)rows + threadIdx.x / a.lanes * (",
        "(Bits*)rows + 0 * (",
    ),
    fault("the first position's table", "qk_norm_rope.cu", "a.cos + position * half + pair", "a.cos + pair"),
    fault("each warp's first row", "qk_norm_rope.cu", "item = first + threadIdx.x % WARP / a.lanes", "item = first"),
    fault("the first copy of each group", "qk_norm_rope.cu", "a.positions * a.each + i;", "a.positions * a.each;"),
    fault(
        "rows are always narrow",
        "qk_norm_rope.cu",
        "has_room(square, scale) && keeps_low_parts",
        "true || keeps_low_parts",
    ),
    fault("weights without their offset", "qk_norm_rope.cu", "(double)w + a.weight_offset", "(double)w"),
    fault("magnitudes of a part of the row", "qk_norm_rope.cu", "own.join_lanes(lanes / 2);", ""),
    fault("one weight for each piece", "qk_norm_rope.cu", "weights[column + i]", "weights[column]"),
    fault(
        "the last tile of single elements",
        "qk_norm_rope.cu",
        "sum += fold(own[0], WARP)",
        "sum = fold(own[0], WARP)",
    ),
    fault("the first position's sines", "qk_norm_rope.cu", "a.sin + position * half + pair", "a.sin + pair"),
    fault("neighbours a half apart", "qk_norm_rope.cu", "NEIGHBOURS ? COUNT : half", "half"),
];

fn look_at<E: DeviceElement>(emulator: &Emulator) -> Found {
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
    // Enough rows for threads to take several.
    let table = Table::new(&(0..40).collect::<Vec<_>>(), 16, false, false);
    let x: Vec<E> = (0..40 * 450).flat_map(|_| row_of(&mut rng, RowKind::Normal, 16)).collect();
    let how = How { shift: 1, one_block: false, order: Order::Forward };
    case(emulator, &x, None, (&table, &options(0)), how)
}

/// What is found of all types.
pub fn look(emulator: &Emulator) -> Found {
    look_at::<f32>(emulator)?;
    look_at::<f16>(emulator)?;
    look_at::<bf16>(emulator)?;
    at_limits::<f32>(emulator)
}
