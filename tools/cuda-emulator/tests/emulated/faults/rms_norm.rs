//! Faults in RMSNorm's kernels, and in the code shared by the norms.

use super::{Fault, Outcome, fault};
use crate::support::How;
use crate::support::norm::{RowKind, operand, row_of};
use crate::support::rms_norm::{Limit, at_limits, case, limits};
use evenkeel::cuda::DeviceElement;
use evenkeel::{RmsNorm, Rounding};
use evenkeel_cuda_emulator::{Emulator, Order};
use half::{bf16, f16};
use rand::SeedableRng;
use rand::rngs::StdRng;
use std::sync::OnceLock;

pub const FAULTS: &[Fault] = &[
    fault(
        "all rows are computed in f64",
        "rms_norm.cu",
        "a.may_be_narrow && range.is_within(a.cols)",
        "false && range.is_within(a.cols)",
    ),
    fault(
        "results lose their low parts",
        "rms_norm.cuh",
        "return (double)found.smallest",
        "return true || (double)found.smallest",
    ),
    fault("padding zeros of a row are not considered", "rms_norm.cuh", "cols % 64 != 0", "false"),
    fault("the factor is rounded to one f32", "rms_norm.cuh", "fmaf(n, weight, rest * weight)", "n * weight"),
    fault(
        "the sum with the residual is not rounded",
        "rms_norm.cu",
        "return sum != sum ? S::NOT_A_NUMBER : S::narrow(sum);",
        "return S::narrow(sum + x * 0x1p-8f);",
    ),
    fault("the row is normalised without its residual", "rms_norm.cu", "from = (const Bits*)a.sum + start;", ""),
    fault("results are not rounded before the weight", "rms_norm.cuh", "if (before_weight)", "if (false)"),
    fault("results are rounded twice", "norm.cuh", "S::narrow(float_of(odd))", "S::narrow(nearest)"),
    fault("truncation rounds up", "norm.cuh", "fabs(back) > fabs(v) ? 1 : 0", "back > v ? 1 : 0"),
    fault("zeros among weights are not considered", "norm.cuh", "has_zero || cols % 16 != 0", "cols % 16 != 0"),
    fault("padding zeros of the weights are not considered", "norm.cuh", "has_zero || cols % 16 != 0", "has_zero"),
    fault("the weights' upper limit is not checked", "norm.cuh", "own.largest > bits_of(most) || ", ""),
    fault(
        "magnitudes of other warps are ignored",
        "rms_norm.cu",
        "keeps_low_parts(magnitudes->over_warp()",
        "keeps_low_parts(*magnitudes",
    ),
    fault(
        "only the first half of the weights is checked",
        "norm.cuh",
        "column < cols; column += blockDim.x",
        "column < cols / 2; column += blockDim.x",
    ),
    fault("f16 operands are not recognised", "norm.cuh", "type == F16_OPERAND", "type == BF16_OPERAND"),
    fault("large rows are computed in f64", "norm.cuh", "square < 0x1p120", "square < 0x1p119"),
    fault(
        "the registers keep the row without its residual",
        "rms_norm.cu",
        "row.words[i][0] = v.x, row.words[i][1] = v.y, row.words[i][2] = v.z, row.words[i][3] = v.w;",
        "",
    ),
    fault("tiles after the first 64 are left out", "tile_row.cuh", "first + of[64 + lane] : first", "first : first"),
    fault(
        "weights just below the limit are accepted",
        "norm.cuh",
        "own.below < below_limit",
        "own.below + 1 < below_limit",
    ),
    fault("the mark of no nonzero magnitude is lost", "norm.cuh", "found == HIGHEST ? ~0u : found", "found"),
];

pub fn look(emulator: &Emulator) -> Outcome {
    look_at::<f32>(emulator)?;
    look_at::<f16>(emulator)?;
    look_at::<bf16>(emulator)?;
    type Limits<E> = Vec<Limit<E>>;
    static LIMITS: OnceLock<(Limits<f32>, Limits<bf16>)> = OnceLock::new();
    let (of_f32, of_bf16) = LIMITS.get_or_init(|| {
        let mut rng = StdRng::seed_from_u64(5);
        (limits(&mut rng, &[128, 100, 1032]), limits(&mut rng, &[128]))
    });
    at_limits(emulator, of_f32).and(at_limits(emulator, of_bf16))?;
    // This row is computed in float-float pairs, which lose the sign of -0. A kernel that computes the row in f64 keeps
    // the sign.
    let how = How { shift: 0, one_block: true, order: Order::Forward };
    case(emulator, (&[-0.0f32; 64], None), (1, 64), (None, 0), &RmsNorm::default(), how)
}

fn look_at<E: DeviceElement>(emulator: &Emulator) -> Outcome {
    let mut rng = StdRng::seed_from_u64(3);
    for (i, cols) in [1, 7, 24, 200, 512, 1000, 1024, 3000, 4096, 24_576].into_iter().enumerate() {
        for (k, kind) in [RowKind::Normal, RowKind::Sparse, RowKind::Scaled].into_iter().enumerate() {
            let mut numbers = || -> Vec<E> { (0..2).flat_map(|_| row_of(&mut rng, kind, cols)).collect() };
            let (x, residual) = (numbers(), numbers());
            let residual = ((i + k) % 2 == 0).then_some(&residual[..]);
            let weight = operand(&mut rng, E::DTYPE, cols);
            let rounding = [Rounding::Once, Rounding::BeforeWeight, Rounding::Once][(i + k) % 3];
            let options = RmsNorm::default().rounding(rounding).eps([0.0, 1.0][i % 2]);
            let options = options.weight_offset([0.0, 0.3][usize::from(k == i % 4)]);
            for shift in [0, 1] {
                let how = How { shift, one_block: true, order: Order::ALL[(i + k) % 3] };
                case(emulator, (&x, residual), (2, cols), (weight.as_ref(), 0), &options, how)?;
            }
        }
    }
    Ok(())
}
