//! Faults of RMSNorm's kernels, and of what norms share.

use super::{Fault, Found, fault};
use crate::support::How;
use crate::support::norm::{RowKind, operand, row_of};
use crate::support::rms_norm::{Limit, at_limits, case, limits};
use evenkeel::cuda::DeviceElement;
use evenkeel::{RmsNorm, Rounding};
use evenkeel_emulated::{Emulator, Order};
use half::{bf16, f16};
use rand::SeedableRng;
use rand::rngs::StdRng;
use std::sync::OnceLock;

pub const FAULTS: &[Fault] = &[
    fault(
        "all rows in f64",
        "rms_norm.cu",
        "bool is_narrow = may_be_narrow",
        "bool is_narrow = false && may_be_narrow",
    ),
    fault(
        "results lose their low parts",
        "rms_norm.cuh",
        "return (double)found.smallest",
        "return true || (double)found.smallest",
    ),
    fault("zeros behind a row's end are not met", "rms_norm.cuh", "cols % 64 != 0", "false"),
    fault("the factor in one f32", "rms_norm.cuh", "fmaf(n, weight, rest * weight)", "n * weight"),
    fault("a residual in f32", "rms_norm.cu", "x[i] = S::widen(bits[i]);", "x[i] = sum;"),
    fault("the row without its residual is written", "rms_norm.cu", "from = (const Bits*)a.sum + start;", ""),
    fault("rounded once all the same", "rms_norm.cuh", "if (before_weight)", "if (false)"),
    fault("rounded twice", "norm.cuh", "S::narrow(float_of(odd))", "S::narrow(nearest)"),
    fault("truncation goes up", "norm.cuh", "fabs(back) > fabs(v) ? 1 : 0", "back > v ? 1 : 0"),
    fault("zeros among weights are not met", "norm.cuh", "least > 0 && !is_padded", "!is_padded"),
    fault("zeros behind the weights are not met", "norm.cuh", "cols % 16 != 0", "false"),
    fault("weights' limits are not looked at", "norm.cuh", "found.largest <= bits_of(most) &&", ""),
    fault("each warp's own magnitudes", "norm.cuh", "found.join_lanes(WARPS / 2);", ""),
    fault(
        "the weights' first half only",
        "norm.cuh",
        "column < cols; column += blockDim.x",
        "column < cols / 2; column += blockDim.x",
    ),
    fault("bf16 for f16", "norm.cuh", "type == F16_OPERAND", "type == BF16_OPERAND"),
    fault("no room for large rows", "norm.cuh", "square < 0x1p120", "square < 0x1p119"),
];

/// What is found of all types.
pub fn look(emulator: &Emulator) -> Found {
    look_at::<f32>(emulator)?;
    look_at::<f16>(emulator)?;
    look_at::<bf16>(emulator)?;
    type Limits<E> = Vec<Limit<E>>;
    static LIMITS: OnceLock<(Limits<f32>, Limits<bf16>)> = OnceLock::new();
    let (of_f32, of_bf16) = LIMITS.get_or_init(|| {
        let mut rng = StdRng::seed_from_u64(5);
        (limits(&mut rng, &[128, 100]), limits(&mut rng, &[128]))
    });
    at_limits(emulator, of_f32).and(at_limits(emulator, of_bf16))
}

/// What is found of a type's rows.
fn look_at<E: DeviceElement>(emulator: &Emulator) -> Found {
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
