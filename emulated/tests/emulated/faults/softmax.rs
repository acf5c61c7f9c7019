//! Faults of softmax's kernels, and of what they share with others.

use super::{Fault, Found, fault};
use crate::support::softmax::case;
use crate::support::{How, KINDS, row};
use evenkeel::cuda::DeviceElement;
use evenkeel::{FullyMasked, Softmax};
use evenkeel_emulated::{Emulator, Order};
use half::{bf16, f16};
use rand::SeedableRng;
use rand::rngs::StdRng;

pub const FAULTS: &[Fault] = &[
    fault(
        "no barrier before partial results are read",
        "common.cuh",
        "    __syncthreads();\n    // A block may",
        "    // A block may",
    ),
    fault("half of a warp's lanes", "common.cuh", "warp(value, WARP / 2)", "warp(value, WARP / 4)"),
    fault("half of a block's warps", "common.cuh", "warps], warps / 2)", "warps], warps / 4)"),
    fault("a wrong lane beside", "common.cuh", "value, distance);\n}", "value, distance ^ 1);\n}"),
    fault("words of a piece changed places", "common.cuh", "words[i / 2] >>", "words[i / 2 ^ 1] >>"),
    fault(
        "a piece beyond the end is written",
        "common.cuh",
        "            if (At::column(i) < cols) {\n                f",
        "            if (At::column(i) < cols + 1) {\n                f",
    ),
    fault(
        "the last piece is left out",
        "common.cuh",
        "i / At::PIECES * (At::TILES * 256) < cols",
        "(i / At::PIECES + 1) * (At::TILES * 256) < cols + 256",
    ),
    fault("bf16 rounded half up", "common.cuh", "bits + 0x7fff + (bits >> 16 & 1)", "bits + 0x8000"),
    fault("halves of a word changed places", "common.cuh", "i % 2 * 16", "(i + 1) % 2 * 16"),
    fault(
        "tables read before they are written",
        "softmax.cu",
        "exp.fill(tables);\n            __syncthreads();",
        "exp.fill(tables);",
    ),
    fault(
        "the next row overwrites what this one reads",
        "softmax.cu",
        "        }\n        __syncthreads();\n    }\n}",
        "        }\n    }\n}",
    ),
    fault(
        "the smallest is a thread's own",
        "scores.cuh",
        "own.min = fminf(own.min, lane_beside(own.min, distance));",
        "",
    ),
    fault("NaN is a thread's own", "scores.cuh", "max_or_nan(own.max, lane", "fmaxf(own.max, lane"),
    fault("masked rows the other way round", "softmax.cu", "a.uniform ? S::narrow", "!a.uniform ? S::narrow"),
    fault("rows with NaN are counted as infinite", "scores.cuh", "(nan ? 0 :", "(nan ? 1 :"),
    fault(
        "infinite rows become zeros",
        "softmax.cu",
        "found.is_masked() ? masked : S::NOT_A_NUMBER",
        "!found.is_nan() ? masked : S::NOT_A_NUMBER",
    ),
    fault("sums are collected too late", "softmax.cu", "sum.count >= 256", "sum.count >= 2560"),
    fault("the reciprocal in one f32", "softmax.cu", "fmaf(e, high, e * low)", "e * high"),
    fault(
        "every row is narrow",
        "softmax_exp.cuh",
        "narrow = min - shift >= m - 87.0f && shift == 0.0f",
        "narrow = shift == 0.0f",
    ),
    fault("far rows are not shifted", "softmax_exp.cuh", "fabsf(max) < 256.0f", "max < 4096.0f"),
    fault("subnormal results are lost", "softmax_exp.cuh", "deepest = m - 104.0f", "deepest = m - 87.0f"),
    fault("a digit of the table", "softmax_exp.cuh", "0x3f9837f0", "0x3f9837f1"),
    fault("sums without their last digits", "softmax_exp.cuh", "bits_of(e + ((1.0f + grid) - u))", "bits_of(grid)"),
    fault(
        "a step rounded down",
        "softmax_exp.cuh",
        "rint((double)m * (1.0 / STEP))",
        "floor((double)m * (1.0 / STEP))",
    ),
];

/// What is found of all types.
pub fn look(emulator: &Emulator) -> Found {
    look_at::<f32>(emulator).and(look_at::<f16>(emulator)).and(look_at::<bf16>(emulator))
}

/// What is found of a type's rows.
fn look_at<E: DeviceElement>(emulator: &Emulator) -> Found {
    let mut rng = StdRng::seed_from_u64(3);
    for (i, cols) in [1, 7, 24, 200, 512, 1000, 1024, 3000, 4096].into_iter().enumerate() {
        for (k, kind) in KINDS.into_iter().enumerate() {
            let x: Vec<E> = (0..3).flat_map(|_| row(&mut rng, kind, cols)).collect();
            let policy = [FullyMasked::Zeros, FullyMasked::Uniform][(i + k) % 2];
            for shift in [0, 1] {
                let how = How { shift, one_block: true, order: Order::ALL[(i + k) % 3] };
                case(emulator, &x, (3, cols), &Softmax::default().fully_masked(policy), how)?;
            }
        }
    }
    // Sums that wrap where they are collected too late.
    let long = vec![E::from_wide(1.0); 300_000];
    let how = How { shift: 1, one_block: true, order: Order::Backward };
    case(emulator, &long, (1, long.len()), &Softmax::default(), how)
}
