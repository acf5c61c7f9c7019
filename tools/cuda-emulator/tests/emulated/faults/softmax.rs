//! Faults in softmax's kernels, and in the code that these kernels share with other kernels.

use super::{Fault, Outcome, fault};
use crate::support::softmax::case;
use crate::support::{How, KINDS, row};
use evenkeel::cuda::DeviceElement;
use evenkeel::{FullyMasked, Softmax};
use evenkeel_cuda_emulator::{Emulator, Order};
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
    fault("only one lane's extremes are used", "scores.cuh", "{ return own.of_warp(); }", "{ return own; }"),
    fault(
        "only half of a block's warps are read",
        "common.cuh",
        "threadIdx.x & (warps - 1)",
        "threadIdx.x & (warps - 1) & ~1u",
    ),
    fault("the table of a wrong lane is read", "softmax_exp.cuh", "own.low, j)", "own.low, j ^ 1)"),
    fault("words of a vector are swapped", "common.cuh", "words[i / 2] >>", "words[i / 2 ^ 1] >>"),
    fault(
        "words of a vector in registers are swapped",
        "register_row.cuh",
        "words[i][1] = v.y, words[i][2] = v.z",
        "words[i][1] = v.z, words[i][2] = v.y",
    ),
    fault(
        "a vector beyond the end is written",
        "register_row.cuh",
        "f(At::column(i) < cols, i);",
        "f(At::column(i) < cols + 1, i);",
    ),
    fault("a vector beyond the end is summed", "softmax.cu", "is_there ? e : 0.0f", "e"),
    fault(
        "the last piece of a row in memory is left out",
        "block_row.cuh",
        "column < parts.inner; column +=",
        "column + COUNT < parts.inner; column +=",
    ),
    fault(
        "the last edge element is left out",
        "block_row.cuh",
        "threadIdx.x < cols - inner",
        "threadIdx.x + 1 < cols - inner",
    ),
    fault(
        "edge elements behind the pieces are read from the pieces",
        "block_row.cuh",
        "threadIdx.x : inner + threadIdx.x",
        "threadIdx.x : inner / 2 + threadIdx.x",
    ),
    fault(
        "pieces behind the registers begin at the wrong place",
        "block_row.cuh",
        "HELD * COUNT * blockDim.x - warp",
        "HELD * COUNT * blockDim.x + OF_WARP - warp",
    ),
    fault(
        "pieces behind shared memory begin at the wrong place",
        "block_row.cuh",
        "u32 offset = beyond; offset",
        "u32 offset = beyond + stride; offset",
    ),
    fault(
        "the last piece in shared memory is not copied",
        "block_row.cuh",
        "at < beyond && at < end;",
        "at + COUNT * blockDim.x < beyond && at < end;",
    ),
    fault(
        "a warp's last piece behind the registers is left out",
        "block_row.cuh",
        "if (at < end_of_warp) {",
        "if (at + OF_WARP < end_of_warp) {",
    ),
    fault("missing elements are summed", "block_scores.cuh", "S::narrow(max - 60.0f)", "S::narrow(max - 15.0f)"),
    fault("missing edge elements are not filled", "block_row.cuh", "edge = S::low_of(fill);", ""),
    fault(
        "missing words of a partly filled warp are not filled",
        "block_row.cuh",
        "end_of_warp > 0 && end_of_warp < HELD * OF_WARP",
        "end_of_warp > HELD * OF_WARP",
    ),
    fault(
        "the exponentials of a piece's halves are swapped",
        "block_exps.cuh",
        "others[piece][w] = e[COUNT - 4 + w]",
        "others[piece][w] = e[COUNT - 1 - w]",
    ),
    fault(
        "results of another alignment all get the value of a piece's first element",
        "block_row.cuh",
        "S::narrow(values[i])",
        "S::narrow(values[0])",
    ),
    fault(
        "sums of pieces behind the registers are collected too late",
        "block_scores.cuh",
        "sum.count >= 256",
        "sum.count >= 2560",
    ),
    fault("bf16 is rounded half up", "common.cuh", "bits + 0x7fff + (bits >> 16 & 1)", "bits + 0x8000"),
    fault("halves of a word are swapped", "common.cuh", "i % 2 * 16", "(i + 1) % 2 * 16"),
    fault(
        "the low half of a word in registers is used twice",
        "register_row.cuh",
        "S::high_of(words[i][w])",
        "S::low_of(words[i][w])",
    ),
    fault(
        "tables are read before they are written",
        "softmax.cu",
        "exp.fill(shared.tables);\n        __syncthreads();",
        "exp.fill(shared.tables);",
    ),
    fault(
        "the next row overwrites what this one reads",
        "softmax.cu",
        "softmax_again<true, S>(a, index, from, found, shared);\n        }\n        __syncthreads();",
        "softmax_again<true, S>(a, index, from, found, shared);\n        }",
    ),
    fault("each thread uses its own minimum", "scores.cuh", "smallest_of_warp(min)", "min"),
    fault("NaN in one half of a word is ignored", "scores.cuh", "max_or_nan(S::low_of(max)", "fmaxf(S::low_of(max)"),
    fault("negative numbers are ordered by their bits", "scores.cuh", "bits ^ (bits >> 31 & 0x7fffffff);", "bits;"),
    fault("the sum's middle part is lost", "scores.cuh", "((u64)middle << BITS)", "0"),
    fault("partial sums of a larger block are summed too", "scores.cuh", "lane < blockDim.x / WARP", "lane < WARPS"),
    fault(
        "the policies for fully masked rows are swapped",
        "softmax.cu",
        "S::narrow(a.uniform)",
        "S::narrow(1.0f / a.cols - a.uniform)",
    ),
    fault("rows with NaN are counted as infinite", "scores.cuh", "(nan ? 0 :", "(nan ? 1 :"),
    fault("infinite rows become zeros", "softmax.cu", "found.is_masked() ? S::narrow", "!found.is_nan() ? S::narrow"),
    fault("sums are collected too late", "softmax.cu", "sum.count >= 256", "sum.count >= 2560"),
    fault("the reciprocal is rounded to one f32", "block_exps.cuh", "fmaf(e, high, e * low)", "e * high"),
    fault("every row is narrow", "softmax_exp.cuh", "fabsf(max) < 256.0f && min >= max - 87.0f", "fabsf(max) < 256.0f"),
    fault("far rows are not shifted", "softmax_exp.cuh", "shift = fabsf(max) < 256.0f", "shift = max < 4096.0f"),
    fault("subnormal results are lost", "softmax_exp.cuh", "deepest = m - 104.0f", "deepest = m - 87.0f"),
    fault("a digit of the table", "softmax_exp.cuh", "0x3f9837f0", "0x3f9837f1"),
    fault(
        "sums leave out their last digits",
        "softmax_exp.cuh",
        "bits_of(e + ((1.0f + grid()) - u))",
        "bits_of(grid())",
    ),
    fault(
        "steps are rounded down instead of to nearest",
        "softmax_exp.cuh",
        "rint((double)m * STEPS_OF_ONE)",
        "floor((double)m * STEPS_OF_ONE)",
    ),
];

pub fn look(emulator: &Emulator) -> Outcome {
    look_at::<f32>(emulator).and(look_at::<f16>(emulator)).and(look_at::<bf16>(emulator))?;
    // Each thread adds 512 terms, nearly all of them 1. Because the logits have a wide range, separate code collects
    // the threads' partial sums.
    let mut wide = vec![1.0f32; 1 << 18];
    wide[0] = -200.0;
    let how = How { shift: 1, one_block: true, order: Order::Forward };
    case(emulator, &wide, (1, wide.len()), &Softmax::default(), how)
}

fn look_at<E: DeviceElement>(emulator: &Emulator) -> Outcome {
    let mut rng = StdRng::seed_from_u64(3);
    // The last length runs in smaller blocks than the other lengths.
    for (i, cols) in [1, 7, 24, 200, 512, 1000, 1024, 3000, 4096, 1032].into_iter().enumerate() {
        for (k, kind) in KINDS.into_iter().enumerate() {
            let x: Vec<E> = (0..3).flat_map(|_| row(&mut rng, kind, cols)).collect();
            let policy = [FullyMasked::Zeros, FullyMasked::Uniform][(i + k) % 2];
            for shift in [0, 1, 2] {
                let how = How { shift, one_block: true, order: Order::ALL[(i + k) % 3] };
                case(emulator, &x, (3, cols), &Softmax::default().fully_masked(policy), how)?;
            }
        }
    }
    // The first row has the largest length at which the fixed-point sum is in units of 2^-45. Each thread collects its
    // partial sums twice. The sum of the second row is in units of 2^-48.
    for cols in [1 << 18, 300_000] {
        let long = vec![E::from_wide(1.0); cols];
        let how = How { shift: 1, one_block: true, order: Order::Backward };
        case(emulator, &long, (1, cols), &Softmax::default(), how)?;
    }
    Ok(())
}
