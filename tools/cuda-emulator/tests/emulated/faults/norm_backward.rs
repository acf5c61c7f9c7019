//! Faults in the gradient kernels of the norms.

use super::{Fault, Outcome, fault};
use crate::support::How;
use crate::support::norm::{RowKind, operand, row_of};
use crate::support::norm_backward::{Norm, case};
use evenkeel::cuda::DeviceElement;
use evenkeel::{DType, LayerNorm, RmsNorm, Rounding};
use evenkeel_cuda_emulator::{Emulator, Order};
use half::bf16;
use rand::SeedableRng;
use rand::rngs::StdRng;

pub const FAULTS: &[Fault] = &[
    fault("the term along the row has the wrong sign", "norm_backward.cu", "? -along", "? along"),
    fault("the mean of h is left out", "norm_backward.cu", "a.is_centred ? sums[1] / count : 0.0", "0.0"),
    fault(
        "an infinity spoils one element",
        "norm_backward.cu",
        "fabs(along) <= 0x1.fffffffffffffp1023 ? -along : along - along",
        "-along",
    ),
    fault(
        "sums leave out the weight's offset",
        "norm_backward.cu",
        "+ a.weight_offset);\n                lane",
        ");\n                lane",
    ),
    fault(
        "later rows read the moments of earlier ones",
        "norm_backward.cu",
        "(double*)a.moments + 3 * index",
        "(double*)a.moments + 3 * (index % 256)",
    ),
    fault("the mean is stored as the factor", "norm_backward.cu", "moments[1] = own;", "moments[1] = mean;"),
    fault("lanes fold in another order", "norm_backward.cu", "index >> level & 1", "index >> (5 - level) & 1"),
    fault("a lane skips every other row", "norm_backward.cu", "row += 64", "row += 128"),
    fault("a lane skips every other tile", "norm_backward.cu", "tile += 64", "tile += 128"),
    fault("results are not rounded before the weight", "norm_backward.cu", "if (a.is_rounded)", "if (false)"),
    fault(
        "moments are read before they are written",
        "norm_backward.cu",
        "        __syncthreads();\n        if (column < a.cols)",
        "        if (column < a.cols)",
    ),
    fault(
        "moments are overwritten while they are read",
        "norm_backward.cu",
        "        __syncthreads();\n        for (u32 row = threadIdx.x",
        "        for (u32 row = threadIdx.x",
    ),
    fault(
        "the bias's gradient is that of the weight",
        "norm_backward.cu",
        "to[a.cols] = sums[1];",
        "to[a.cols] = sums[0];",
    ),
    fault("a sum has the wrong sign", "norm_backward.cu", "sum[0] += d * n;", "sum[0] -= d * n;"),
];

/// Checks rows of two types, and many rows.
pub fn look(emulator: &Emulator) -> Outcome {
    look_at::<f32>(emulator)?;
    look_at::<bf16>(emulator)?;
    let mut rng = StdRng::seed_from_u64(4);
    let norm = Norm::Layer(LayerNorm::default());
    for (i, (rows, cols)) in [(100, 3), (300, 130), (33_000, 1)].into_iter().enumerate() {
        let mut numbers = || -> Vec<f32> { row_of(&mut rng, RowKind::Cancelling, rows * cols) };
        let how = How { shift: 1, one_block: true, order: Order::ALL[i] };
        case(emulator, [&numbers(), &numbers()], (rows, cols), None, norm, (Some(DType::F32), how))?;
    }
    Ok(())
}

fn look_at<E: DeviceElement>(emulator: &Emulator) -> Outcome {
    let mut rng = StdRng::seed_from_u64(3);
    let options = RmsNorm::default().weight_offset(0.3).rounding(Rounding::BeforeWeight);
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
