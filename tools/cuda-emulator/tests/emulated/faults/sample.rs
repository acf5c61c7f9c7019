//! Faults in the sampler's kernels.

use super::{Fault, Outcome, fault};
use crate::support::How;
use crate::support::sample::{Asked, LOGITS, case, config, logits, with_penalties};
use evenkeel::Draw;
use evenkeel_cuda_emulator::{Emulator, Order};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

pub const FAULTS: &[Fault] = &[
    fault(
        "equal logits are counted from the wrong end",
        "sample.cu",
        "highest_first ? equals - count : count - 1",
        "count - 1",
    ),
    fault(
        "one equal logit too many is kept",
        "sample.cu",
        "(needed - reached + each_of_them - 1) / each_of_them",
        "(needed - reached) / each_of_them + 1",
    ),
    fault("zeros of both signs are different", "sample.cu", "bits_of(z + 0.0f)", "bits_of(z)"),
    fault(
        "sums of warps are read before they are written",
        "sample.cu",
        "shared.sums[threadIdx.x / WARP] = own;
            }
            __syncthreads();",
        "shared.sums[threadIdx.x / WARP] = own;
            }",
    ),
    fault(
        "a product is rounded down",
        "sample.cu",
        "low >> shift) + ((low & (((u64)1 << shift) - 1)) != 0)",
        "low >> shift)",
    ),
    fault("the generator runs one round less", "sample.cu", "round < 10", "round < 9"),
    fault(
        "the mask is inverted",
        "sample.cu",
        "allowed[i / 32] >> (i % 32) & 1 ? z",
        "!(allowed[i / 32] >> (i % 32) & 1) ? z",
    ),
    fault("a penalty is added", "sample.cu", "(double)z - request.presence", "(double)z + request.presence"),
    fault("a token is penalised twice", "sample.cu", "if (before > 0 ||", "if ("),
    fault(
        "running sums start from the wrong warp",
        "sample.cu",
        "above -= shared.sums[warp];",
        "above -= shared.sums[0];",
    ),
];

/// Checks some rows of every kind.
pub fn look(emulator: &Emulator) -> Outcome {
    let mut rng = StdRng::seed_from_u64(5);
    for i in 0..100 {
        let cols = [3, 5, 40, 300, 1000][i / 5 % 5];
        let asked: Vec<Asked> = (0..2)
            .map(|row| {
                let mut config = config(&mut rng, cols);
                let mut tokens = || (0..20).map(|_| rng.random_range(0..cols as u32)).collect::<Vec<_>>();
                let (prompt, output) = if i % 3 == 0 { (tokens(), tokens()) } else { (Vec::new(), Vec::new()) };
                if i % 3 == 0 {
                    config = with_penalties(&mut rng, config);
                }
                let words = (0..cols.div_ceil(32)).map(|_| rng.random::<u32>() | 1).collect();
                let draw = Draw { seed: rng.random(), row, draw: 3 };
                Asked { config, draw, allowed: (i % 4 == 1).then_some(words), prompt, output }
            })
            .collect();
        let x: Vec<f32> = asked.iter().flat_map(|_| logits(&mut rng, LOGITS[i % 6], cols)).collect();
        let how = How { shift: 0, one_block: true, order: Order::ALL[i % 3] };
        case(emulator, &x, cols, &asked, how)?;
    }
    Ok(())
}
