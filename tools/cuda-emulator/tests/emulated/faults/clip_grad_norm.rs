//! Faults in clipping by the norm.

use super::{Fault, Outcome, fault};
use crate::support::clip_grad_norm::{Gradient, case};
use crate::support::{How, Kind, row};
use evenkeel::{ClipGradNorm, ClipMode};
use evenkeel_cuda_emulator::{Emulator, Order};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

pub const FAULTS: &[Fault] = &[
    fault("only the first run is read", "clip_grad_norm.cu", "tensor.address + run * RUN", "tensor.address"),
    fault("bf16 is read as f16", "clip_grad_norm.cu", "with_run<BF16>", "with_run<F16>"),
    fault(
        "single elements are added to one lane",
        "clip_grad_norm.cu",
        "At::COUNT == 1 ? piece % 2 : i",
        "At::COUNT == 1 ? 0 : i",
    ),
    fault(
        "lanes are added in another order",
        "clip_grad_norm.cu",
        "own[i] = own[2 * i] + own[2 * i + 1]",
        "own[i] = own[i] + own[i + width]",
    ),
    fault("tile sums are stored at wrong indices", "clip_grad_norm.cu", "sums[step * At::TILES + ", "sums[step + "),
    fault("later tiles are skipped", "clip_grad_norm.cu", "first += 64 * AT_ONCE", "first += 64 * AT_ONCE * 2"),
    fault(
        "no barrier before lanes are read",
        "clip_grad_norm.cu",
        "lanes[threadIdx.x] = own;\n    __syncthreads();",
        "lanes[threadIdx.x] = own;",
    ),
    fault(
        "partial sums go to another lane",
        "clip_grad_norm.cu",
        "threadIdx.x == tile % 64 ? sum",
        "threadIdx.x == 0 ? sum",
    ),
    fault("the root of the sum is not taken", "clip_grad_norm.cu", "sqrt(fold_block(own))", "fold_block(own)"),
    fault(
        "norms near the limit are not clipped",
        "clip_grad_norm.cu",
        "compared > a.max_norm",
        "compared > a.max_norm * 2.0",
    ),
    fault("1e-6 is not added", "clip_grad_norm.cu", "a.torch ? norm + 1e-6 : norm", "norm"),
    fault("tiny factors are not flushed to zero", "clip_grad_norm.cu", "exponent < -1000 ? 0.0 :", ""),
    fault("refused gradients are scaled", "clip_grad_norm.cu", "a.torch && !a.refuses", "a.torch"),
];

/// Checks lists of tensors.
pub fn look(emulator: &Emulator) -> Outcome {
    let mut rng = StdRng::seed_from_u64(6);
    let mut gradient = |kind: Kind, len: usize| match rng.random_range(0..3) {
        0 => Gradient::F32(row(&mut rng, kind, len)),
        1 => Gradient::F16(row(&mut rng, kind, len)),
        _ => Gradient::BF16(row(&mut rng, kind, len)),
    };
    // 1000 tensors give several tiles of partial sums.
    let many = (0..1000).map(|i| if i % 50 == 0 { 5 } else { 0 }).collect();
    for (i, lens) in [vec![1], vec![3, 0, 70], vec![9000, 20_000, 300, 8192, 40], many].into_iter().enumerate() {
        for limit in [1.0, 1e-320, 1e-300] {
            for mode in [ClipMode::Exact, ClipMode::Torch] {
                let grads: Vec<Gradient> = lens.iter().map(|&len| gradient(Kind::Normal, len)).collect();
                let how = How { shift: i % 2, one_block: i % 2 == 0, order: Order::ALL[i % 3] };
                case(emulator, &grads, &ClipGradNorm::new(limit).mode(mode), how)?;
            }
        }
    }
    let how = How { shift: 1, one_block: true, order: Order::Forward };
    case(emulator, &[gradient(Kind::Normal, 200_000)], &ClipGradNorm::new(1.0), how)?;
    // Each tensor is a single tile, so that an error in the last digits of a tile's sum still shows in the norm. A
    // longer sum could round the error away.
    let tiles: Vec<Gradient> = (0..40).map(|_| Gradient::F32(row(&mut rng, Kind::Normal, 256))).collect();
    case(emulator, &tiles, &ClipGradNorm::new(1.0), How { shift: 0, ..how })?;
    // The norm of (3, 4) is 5. The limit is 5 or slightly above 5. In the last case, the norm is infinite.
    let simple = |last: f32| [Gradient::F32(vec![3.0]), Gradient::F32(vec![last])];
    for mode in [ClipMode::Exact, ClipMode::Torch] {
        for (limit, last) in [(5.0, 4.0), (5.0000005, 4.0), (1.0, f32::INFINITY)] {
            case(emulator, &simple(last), &ClipGradNorm::new(limit).mode(mode), how)?;
        }
    }
    Ok(())
}
