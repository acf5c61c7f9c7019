//! Faults in the gradient kernels of the norms.

use super::{Fault, Outcome, fault};
use crate::support::How;
use crate::support::norm::{RowKind, operand, row_of};
use crate::support::norm_backward::{Norm, case};
use evenkeel::cuda::DeviceElement;
use evenkeel::{DType, LayerNorm, RmsNorm, Rounding};
use evenkeel_cuda_emulator::{Emulator, Order};
use half::{bf16, f16};
use rand::SeedableRng;
use rand::rngs::StdRng;

pub const FAULTS: &[Fault] = &[
    fault("the term along the row has the wrong sign", "norm_near.cuh", "? -mean_hn", "? mean_hn"),
    fault("the mean of h is left out", "norm_near.cuh", "is_centred ? columns.mean(sums[1]) : 0.0", "0.0"),
    fault(
        "an infinity spoils one element",
        "norm_near.cuh",
        "fabs(mean_hn) <= 0x1.fffffffffffffp1023 ? -mean_hn : mean_hn - mean_hn",
        "-mean_hn",
    ),
    fault(
        "sums leave out the weight's offset",
        "norm_backward.cu",
        "gradient.h(dy, weights[k]);",
        "(double)dy * (double)weights[k];",
    ),
    fault(
        "sums of unaligned rows leave out the weight's offset",
        "norm_gradient_row.cuh",
        "gradient.h(gradients[k], weights[k])",
        "(double)gradients[k] * (double)weights[k]",
    ),
    fault(
        "later rows read the moments of earlier ones",
        "norm_near.cuh",
        "(double*)to + 3 * index",
        "(double*)to + 3 * (index % 256)",
    ),
    fault("the mean is stored as the factor", "norm_near.cuh", "moments[1] = scale;", "moments[1] = mean;"),
    fault(
        "lanes fold in another order",
        "norm_columns.cuh",
        "sums[2 * w] + sums[2 * w + 1]",
        "sums[w] + sums[w + width]",
    ),
    fault("a lane skips every other row", "norm_columns.cuh", "ROWS = TILE_ROWS / 64", "ROWS = TILE_ROWS / 128"),
    fault("a lane skips every other tile", "norm_columns.cuh", "tile += 64", "tile += 128"),
    fault("results are not rounded before the weight", "norm_columns.cuh", "if (IS_ROUNDED)", "if (false)"),
    fault(
        "moments are read before they are written",
        "norm_columns.cuh",
        "        __syncthreads();\n        const Bits* x",
        "        const Bits* x",
    ),
    fault(
        "sums of warps are read before they are written",
        "norm_columns.cuh",
        "    __syncthreads();\n    const u32 i = threadIdx.x;",
        "    const u32 i = threadIdx.x;",
    ),
    fault("the bias gets the gradient of the weight", "norm_columns.cuh", "+= from[a.cols];", "+= from[0];"),
    fault("a sum has the wrong sign", "norm_columns.cuh", "values[c][0] += d * n;", "values[c][0] -= d * n;"),
    fault(
        "sums of columns are overwritten while they are read",
        "norm_columns.cuh",
        "        __syncthreads();\n        fold_columns<1>",
        "        fold_columns<1>",
    ),
    fault(
        "both columns of a word are the first",
        "norm_columns.cuh",
        "i == 0 ? S::low_of(word) : S::high_of(word)",
        "S::low_of(word)",
    ),
    fault("the error bound of f32 is 0", "norm_near.cuh", "fmaf(fabsf(r) + fabsf(t), 5.5f * 0x1p-24f, floor)", "0.0f"),
    fault("uncertain elements stay in f32", "norm_near.cuh", "if (any != 0)", "if (false)"),
    fault(
        "the difference of the sums is ignored",
        "norm_near_row.cuh",
        "gradient.scale * most * (IS_CENTRED ? 0x1p-42 : 0x1p-46)",
        "0.0",
    ),
    fault("uncertain rows are not computed again", "norm_near_row.cuh", "shared.uncertain_row != index", "true"),
    fault("rows far from zero take one pass", "norm_near_row.cuh", "if (!is_one_pass)", "if (false)"),
    fault(
        "the sum of h is not multiplied by the mean",
        "norm_near_row.cuh",
        "fma(-found.mean, sums[3], sums[1])",
        "sums[1]",
    ),
    fault("every row is computed in f32", "norm_backward.cu", "if (IS_F32 || near.serves)", "if (true)"),
    fault(
        "the term of the mean has the wrong sign",
        "norm_near.cuh",
        "(of_shift - of_mean) - of_h",
        "(of_shift + of_mean) - of_h",
    ),
    fault(
        "f32 weights are read as words of the rows' type",
        "tile_row.cuh",
        "is_wide ? float_of(wide) : to[k]",
        "to[k]",
    ),
];

/// Checks rows of two types, and many rows.
pub fn look(emulator: &Emulator) -> Outcome {
    look_at::<f32>(emulator)?;
    look_at::<bf16>(emulator)?;
    let mut rng = StdRng::seed_from_u64(4);
    // About one in a thousand of these gradients is so close to a rounding tie of f16 that f32 cannot tell its side.
    let mut numbers = || -> Vec<f16> { row_of(&mut rng, RowKind::Normal, 64 * 1024) };
    let how = How { shift: 0, one_block: true, order: Order::Forward };
    let norm = Norm::Rms(RmsNorm::default().weight_offset(1.0));
    case(emulator, [&numbers(), &numbers()], (64, 1024), None, norm, (None, how))?;
    // The exact gradient of equal elements is zero, so the computed gradient depends on the rounding of each sum. Rows
    // whose numbers are far from zero need two passes.
    for (kind, norm) in [
        (RowKind::Same, Norm::Rms(RmsNorm::default().eps(0.0))),
        (RowKind::Offset, Norm::Layer(LayerNorm::default())),
        (RowKind::Normal, Norm::Layer(LayerNorm::default())),
    ] {
        for _ in 0..16 {
            let mut numbers = || -> Vec<bf16> { row_of(&mut rng, kind, 512) };
            case(emulator, [&numbers(), &numbers()], (1, 512), None, norm, (None, how))?;
        }
    }
    let norm = Norm::Layer(LayerNorm::default());
    // The sum of each column is 1 or 0, depending on the order of additions. Its terms are in lanes of different warps.
    let mut dy = vec![0.0; 64 * 8];
    for (row, term) in [(0, 1e30), (8, -1e30), (16, 1.0)] {
        dy[row * 8..][..8].fill(term);
    }
    case(
        emulator,
        [&row_of::<f32>(&mut rng, RowKind::Normal, 64 * 8), &dy],
        (64, 8),
        None,
        norm,
        (Some(DType::F32), how),
    )?;
    for (i, (rows, cols)) in [(100, 3), (300, 130), (33_000, 1)].into_iter().enumerate() {
        let mut numbers = || -> Vec<f32> { row_of(&mut rng, RowKind::Cancelling, rows * cols) };
        let how = How { shift: 1, one_block: true, order: Order::ALL[i] };
        case(emulator, [&numbers(), &numbers()], (rows, cols), None, norm, (Some(DType::F32), how))?;
    }
    Ok(())
}

fn look_at<E: DeviceElement>(emulator: &Emulator) -> Outcome {
    let mut rng = StdRng::seed_from_u64(3);
    let options = RmsNorm::default().weight_offset(0.5).rounding(Rounding::BeforeWeight);
    for (i, cols) in [7, 200, 512, 1024, 3000, 24_576].into_iter().enumerate() {
        for (k, kind) in [RowKind::Normal, RowKind::Cancelling, RowKind::Any].into_iter().enumerate() {
            let mut numbers = |kind| -> Vec<E> { (0..3).flat_map(|_| row_of(&mut rng, kind, cols)).collect() };
            let (x, dy) = (numbers(RowKind::Normal), numbers(kind));
            let weight = operand(&mut rng, E::DTYPE, cols);
            for (shift, norm) in [(0, Norm::Rms(options)), (1, Norm::Layer(LayerNorm::default()))] {
                let how = How { shift: (shift + i) % 2, one_block: true, order: Order::ALL[(i + k) % 3] };
                let columns = (Some(DType::BF16), how);
                case(emulator, [&x, &dy], (3, cols), weight.as_ref(), norm, columns)?;
            }
        }
    }
    Ok(())
}
