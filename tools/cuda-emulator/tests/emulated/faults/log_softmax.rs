//! Faults in the kernels of log_softmax and logsumexp.

use super::{Fault, Outcome, fault};
use crate::support::log_softmax::{case, case_of_sums};
use crate::support::{How, KINDS, peaked_row, row};
use evenkeel::cuda::DeviceElement;
use evenkeel::{FullyMasked, Softmax};
use evenkeel_cuda_emulator::{Emulator, Order};
use half::{bf16, f16};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

pub const FAULTS: &[Fault] = &[
    fault(
        "the policies for fully masked rows are swapped",
        "log_softmax.cu",
        "a.uniform > 0.0f ? narrow_once",
        "a.uniform == 0.0f ? narrow_once",
    ),
    fault("-ln cols is rounded twice", "log_softmax.cu", "narrow_once<S>(-high)", "S::narrow((float)-high)"),
    fault(
        "all types are computed in f32",
        "log_softmax.cu",
        "sizeof(typename S::Bits) == 2",
        "sizeof(typename S::Bits) < 8",
    ),
    fault(
        "the terms of differences are grouped differently",
        "log_softmax.cu",
        "(z - max) - (float)log_sum",
        "z - (max + (float)log_sum)",
    ),
    fault(
        "the next row overwrites what this one reads",
        "log_softmax.cu",
        "        }\n        __syncthreads();\n",
        "        }\n",
    ),
    fault(
        "max-dominated rows are not detected",
        "log_row.cuh",
        "const bool max_dominated = is_max_dominated(units, cols);",
        "const bool max_dominated = false;",
    ),
    fault("max-dominated rows are detected too late", "log_sum.cuh", "(unit_bits - 21)", "(unit_bits - 33)"),
    fault("the error of 1 + rest is lost", "log_sum.cuh", "return high + (low + error)", "return high + low"),
    fault("the largest term is summed too", "log_sum.cuh", "e == 1.0f ? 0.0f : e * factor", "e * factor"),
    fault("the rest is not rescaled", "log_sum.cuh", "e == 1.0f ? 0.0f : e * factor", "e == 1.0f ? 0.0f : e"),
    fault("the largest logit counts as the second-largest", "log_sum.cuh", "z < max && z > own", "z > own"),
    fault("each thread keeps its own second-largest logit", "common.cuh", "own = beside > own ? beside : own;", ""),
    fault("tables of narrow rows are used for max-dominated ones", "log_row.cuh", "    exp.narrow = false;\n", ""),
    fault("all rows are taken for fast ones", "log_row.cuh", "fast = is_fast(found, cols)", "fast = true"),
    fault(
        "the logarithm is read before it is written",
        "log_softmax.cu",
        "            __syncthreads();\n            const Results",
        "            const Results",
    ),
    fault(
        "results of another alignment all get the value of a piece's first element",
        "block_row.cuh",
        "S::narrow(values[i])",
        "S::narrow(values[0])",
    ),
    fault(
        "pieces behind the registers are left out",
        "log_softmax.cu",
        "    row.each_behind(0,",
        "    if (false) row.each_behind(0,",
    ),
    fault(
        "another thread's pieces in shared memory are read",
        "block_row.cuh",
        "const uint4* stored = dynamic_shared + threadIdx.x;",
        "const uint4* stored = dynamic_shared + (threadIdx.x ^ 1);",
    ),
    fault("a polynomial one term short", "log_sum.cuh", "u32 i = 7; i > 0", "u32 i = 7; i > 1"),
];

pub const FAULTS_OF_SUMS: &[Fault] = &[
    fault("sums are rounded twice", "log_sum.cuh", "is_inexact ? bits", "false ? bits"),
    fault("sums are rounded to the wrong odd number", "log_sum.cuh", "is_beyond ? -1 : 1", "is_beyond ? 1 : -1"),
    fault("infinite rows are NaN", "logsumexp.cu", "S::narrow(found.max)", "S::NOT_A_NUMBER"),
    fault("rows without columns are counted", "logsumexp.cu", "a.cols > 0 ? a.guards : 0", "a.guards"),
    fault(
        "the sum with the maximum is rounded to f32",
        "logsumexp.cu",
        "(double)found.max + log_of_sum(",
        "found.max + (float)log_of_sum(",
    ),
    fault("all results are written to the first row", "logsumexp.cu", "a.y)[index]", "a.y)[0]"),
];

fn inputs<E: DeviceElement>(mut each: impl FnMut(&[E], (usize, usize), FullyMasked, How) -> Outcome) -> Outcome {
    let mut rng = StdRng::seed_from_u64(6);
    for (i, cols) in [1, 7, 24, 200, 512, 1000, 3000, 8200].into_iter().enumerate() {
        for k in 0..if cols < 2000 { 6 } else { 1 } {
            let mut made = |r: usize| match KINDS.get(k).filter(|_| cols < 2000) {
                Some(&kind) => row(&mut rng, kind, cols),
                None => peaked_row(&mut rng, [15.0, 3.0, 40.0][(i + r) % 3], cols),
            };
            let x: Vec<E> = (0..3).flat_map(&mut made).collect();
            let policy = [FullyMasked::Zeros, FullyMasked::Uniform][(i + k) % 2];
            for shift in [0, 1, 2] {
                let how = How { shift, one_block: true, order: Order::ALL[(i + k) % 3] };
                each(&x, (3, cols), policy, how)?;
            }
        }
    }
    // A block holds only the first elements of a row of this length in registers.
    let x = row::<E>(&mut rng, KINDS[0], 40_000);
    each(&x, (1, 40_000), FullyMasked::Zeros, How { shift: 1, one_block: true, order: Order::Backward })
}

/// Checks rows of log_softmax in a type.
fn look_at<E: DeviceElement>(emulator: &Emulator) -> Outcome {
    inputs::<E>(|x, shape, policy, how| case(emulator, x, shape, &Softmax::default().fully_masked(policy), how))?;
    // The results of a fully masked row are `-ln(cols)`. The number of columns is chosen so that two roundings, to f32
    // and then to `E`, give another result than one rounding to `E`.
    let how = How { shift: 1, one_block: true, order: Order::Forward };
    let cols = (1..300_000usize).find(|&cols| is_rounded_twice::<E>(-(cols as f64).ln()));
    if let Some(cols) = cols {
        let policy = Softmax::default().fully_masked(FullyMasked::Uniform);
        case(emulator, &vec![E::NEG_INFINITY; cols], (1, cols), &policy, how)?;
    }
    // A warp that is done with the masked row must wait before it stores the extremes of the next row.
    let how = How { shift: 0, one_block: true, order: Order::Backward };
    let mut rows = vec![E::NEG_INFINITY; 3000];
    rows.extend([E::ZERO; 3000]);
    case(emulator, &rows, (2, 3000), &Softmax::default(), how)
}

/// Returns whether rounding the value to f32 and then to `E` gives another result than rounding it directly to `E`.
fn is_rounded_twice<E: DeviceElement>(value: f64) -> bool {
    E::from_wide(f64::from(value as f32)).bits() != E::from_wide(value).bits()
}

pub fn look(emulator: &Emulator) -> Outcome {
    look_at::<f32>(emulator)?;
    look_at::<f16>(emulator)?;
    look_at::<bf16>(emulator)
}

/// Checks rows of logsumexp in a type.
fn look_at_sums_of<E: DeviceElement>(emulator: &Emulator) -> Outcome {
    let case =
        |x: &[E], shape, policy, how| case_of_sums(emulator, x, shape, &Softmax::default().fully_masked(policy), how);
    inputs::<E>(case)?;
    let how = How { shift: 0, one_block: true, order: Order::Forward };
    case(&[], (3, 0), FullyMasked::Zeros, how)?;
    // For these rows, rounding the log-sum-exp to f32 first gives another `E` than rounding it directly.
    let mut rng = StdRng::seed_from_u64(7);
    let rows = (0..600_000).map(|_| [(); 2].map(|()| E::from_wide(rng.random_range(-3.0..3.0))));
    let sum = |row: &[E; 2]| row.iter().map(|z| z.widen().exp()).sum::<f64>().ln();
    let rows: Vec<E> = rows.filter(|row| is_rounded_twice::<E>(sum(row))).take(8).flatten().collect();
    if rows.is_empty() {
        return Ok(());
    }
    case(&rows, (rows.len() / 2, 2), FullyMasked::Zeros, how)
}

pub fn look_at_sums(emulator: &Emulator) -> Outcome {
    look_at_sums_of::<f32>(emulator)?;
    look_at_sums_of::<f16>(emulator)?;
    look_at_sums_of::<bf16>(emulator)
}
