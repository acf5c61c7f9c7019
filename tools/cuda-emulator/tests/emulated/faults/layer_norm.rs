//! Faults in LayerNorm's kernels, and in tiled sums, on which its means depend.

use super::{Fault, Outcome, fault};
use crate::support::How;
use crate::support::layer_norm::{Limit, at_limits, case, limits};
use crate::support::norm::{RowKind, operand, row_of};
use evenkeel::LayerNorm;
use evenkeel::cuda::DeviceElement;
use evenkeel_cuda_emulator::{Emulator, Order};
use half::{bf16, f16};
use rand::SeedableRng;
use rand::rngs::StdRng;
use std::sync::OnceLock;

pub const FAULTS: &[Fault] = &[
    fault("the variance is always computed in one pass", "norm.cuh", "if (!(mean", "if (false && !(mean"),
    fault(
        "the second pass does not subtract the mean",
        "tile_row.cuh",
        "add_powers((double)row.value(i, w, k) - mean, sums[k])",
        "add_powers((double)row.value(i, w, k), sums[k])",
    ),
    fault("the mean is rounded to one f32", "layer_norm.cu", "x - high - low", "x - high"),
    fault("all rows are computed in f64", "layer_norm.cu", "if (IS_F32 || is_narrow)", "if (IS_F32)"),
    fault("the bias is not checked", "layer_norm.cu", "shared.of_biases.is_within(a.cols)", "true"),
    fault("the weight is not checked", "layer_norm.cu", "shared.of_weights.is_within(a.cols)", "true"),
    fault("smaller weights are accepted", "layer_norm.cu", "LEAST_WEIGHT = 0x1p-60f", "LEAST_WEIGHT = 0x1p-61f"),
    fault(
        "the variance leaves out the mean",
        "norm.cuh",
        "columns.mean(sums[1] - sums[0] * mean)",
        "columns.mean(sums[1])",
    ),
    fault(
        "the factor is not rounded",
        "layer_norm.cu",
        "fmaf(x - high - low, (float)scale * weight, bias)",
        "fmaf((x - high - low) * (float)scale, weight, bias)",
    ),
    fault(
        "lanes are added in another order",
        "norm_row.cuh",
        "own[2 * k][n] + own[2 * k + 1][n]",
        "own[k][n] + own[k + width][n]",
    ),
    fault(
        "tiles are added in another order",
        "sum.cuh",
        "distance = 1; distance < threads; distance *= 2",
        "distance = threads / 2; distance > 0; distance /= 2",
    ),
    fault(
        "no barrier before tiles are added",
        "norm_row.cuh",
        "        __syncthreads();\n        // One thread",
        "        // One thread",
    ),
    fault(
        "no barrier before lanes are added",
        "norm_row.cuh",
        "        __syncthreads();\n    }\n    for (u32 n",
        "    }\n    for (u32 n",
    ),
    fault(
        "lanes keep the last row's sums",
        "norm_row.cuh",
        "start == 0 ? 0.0 : shared.lanes[n][lane]",
        "shared.lanes[n][lane]",
    ),
    fault(
        "no barrier after the row is copied",
        "norm_row.cuh",
        "    await_copies();\n    __syncthreads();",
        "    await_copies();",
    ),
    fault(
        "the next row overwrites the copy",
        "layer_norm.cu",
        "        __syncthreads();\n        row.x.copy",
        "        row.x.copy",
    ),
    fault(
        "pieces that are not copied are read from the copy",
        "norm_row.cuh",
        "(of.count - skipped(of, head) - 1) * COUNT",
        "(of.count - skipped(of, head)) * COUNT",
    ),
    fault(
        "results and rows of different alignments are mixed up",
        "norm_row.cuh",
        "copied(of.copied + skipped(of, head))",
        "copied(of.copied)",
    ),
    fault(
        "operands of unaligned rows are not checked",
        "layer_norm.cu",
        "of_weights.is_within(a.cols) && of_biases.is_within(a.cols)",
        "true",
    ),
    fault("tiles that a short block lacks are added", "tile_row.cuh", "lane < count ?", "lane < TileRow<S>::TILES ?"),
    fault(
        "the second pass of long rows does not subtract the mean",
        "norm_row.cuh",
        "add_powers((double)x.value(0, first + k) - mean, own[k])",
        "add_powers((double)x.value(0, first + k), own[k])",
    ),
    fault(
        "the second pass adds columns behind an unaligned row",
        "norm_row.cuh",
        "k < PART && column + first + k < row.cols",
        "k < PART",
    ),
    fault(
        "the second pass adds columns behind the row",
        "tile_row.cuh",
        "k < TileRow<S>::IN_WORD && TileRow<S>::is_there(i, cols)",
        "k < TileRow<S>::IN_WORD",
    ),
    fault(
        "words are added in another order",
        "tile_row.cuh",
        "(of_words[0][n] + of_words[1][n]) + (of_words[2][n] + of_words[3][n])",
        "(of_words[0][n] + of_words[2][n]) + (of_words[1][n] + of_words[3][n])",
    ),
    fault(
        "no barrier before tiles of held rows are added",
        "tile_row.cuh",
        "        __syncthreads();\n        for (u32 n = 0; n < N; n++) {\n            sums[n]",
        "        for (u32 n = 0; n < N; n++) {\n            sums[n]",
    ),
    fault("the next row overwrites tiles of held rows", "tile_row.cuh", "turn ^= 1;", ""),
    fault("sums are divided by the next power of two", "norm.cuh", "(2046ll << 52)", "(2045ll << 52)"),
];

pub fn look(emulator: &Emulator) -> Outcome {
    look_at::<f32>(emulator)?;
    look_at::<f16>(emulator)?;
    look_at::<bf16>(emulator)?;
    static LIMITS: OnceLock<Vec<Limit<bf16>>> = OnceLock::new();
    at_limits(emulator, LIMITS.get_or_init(|| limits(&mut StdRng::seed_from_u64(5), &[128, 100])))
}

fn look_at<E: DeviceElement>(emulator: &Emulator) -> Outcome {
    let mut rng = StdRng::seed_from_u64(3);
    for (i, cols) in [1, 7, 24, 200, 512, 1000, 1024, 3000, 4096, 70_000].into_iter().enumerate() {
        for (k, kind) in [RowKind::Normal, RowKind::Offset, RowKind::Cancelling].into_iter().enumerate() {
            let x: Vec<E> = (0..2).flat_map(|_| row_of(&mut rng, kind, cols)).collect();
            let (weight, bias) = (operand(&mut rng, E::DTYPE, cols), operand(&mut rng, E::DTYPE, cols));
            // The mean of numbers that cancel is as small as a rounding error. A bias would hide such a small mean.
            let bias = bias.filter(|_| !matches!(kind, RowKind::Cancelling));
            for shift in [0, 1] {
                let how = How { shift, one_block: true, order: Order::ALL[(i + k) % 3] };
                let operands = ([weight.as_ref(), bias.as_ref()], 0);
                case(emulator, &x, (2, cols), operands, &LayerNorm::default(), how)?;
            }
        }
    }
    Ok(())
}
