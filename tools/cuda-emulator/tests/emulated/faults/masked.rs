//! Faults in the kernels of rows with masks, scale and softcap.

use super::{Fault, Outcome, fault};
use crate::support::How;
use crate::support::masked::{Beside, Op, beside, cancelling, case, scores};
use evenkeel::cuda::DeviceElement;
use evenkeel_cuda_emulator::{Emulator, Order};
use half::{bf16, f16};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

pub const FAULTS: &[Fault] = &[
    fault("lengths are not read", "masked.cuh", "high = length < high ? (u32)length : high;", ""),
    fault("the causal mask includes one key too many", "masked.cuh", "a.offset + query + 1", "a.offset + query + 2"),
    fault("windows are one key too short", "masked.cuh", "low = behind - a.window <", "low = 1 + behind - a.window <"),
    fault("flags of other rows are read", "masked.cuh", "at * a.keep[p].strides", "at + a.keep[p].strides"),
    fault(
        "the query index comes from another axis",
        "masked.cuh",
        "axis == a.axes ? at : query",
        "axis == 1 ? at : query",
    ),
    fault("flags do not broadcast", "masked.cuh", "(u64)column * keep_step[p]", "(u64)column"),
    fault("flags are combined with or", "masked.cuh", "is_kept = is_kept && keep", "is_kept = is_kept || keep"),
    fault("the scale is rounded to one f32", "masked.cuh", "(float)(a.scale - (double)scale)", "0.0f"),
    fault(
        "the rounding error of products is ignored",
        "masked.cuh",
        "return {product, rest(x)};",
        "return {product, 0.0f};",
    ),
    fault("rows near 256 use two f32", "masked.cuh", "fabsf(max.high) < 256.0f", "fabsf(max.high) < 300.0f"),
    fault(
        "the maximum's low part is lost",
        "softmax_masked.cu",
        "exp.fill(shared.tables, row.max.low)",
        "exp.fill(shared.tables)",
    ),
    fault(
        "columns outside of the window are not written",
        "softmax_masked.cu",
        "fill_beside<S, WARPS>(to, a.cols, low, high, beside);",
        "",
    ),
    fault("the largest rounded sum is used as the largest logit", "masked.cuh", "if (z >= near)", "if (z == max.high)"),
    fault(
        "logits are not normalised before the maximum",
        "masked.cuh",
        "larger(own.max, normalised(logit(column, x)))",
        "larger(own.max, logit(column, x))",
    ),
    fault("large products use two f32", "masked.cuh", "fabsf(product) >= 16384.0f", "fabsf(product) >= 65536.0f"),
    fault(
        "every logit counts as exact in f32",
        "masked.cuh",
        "own.inexact |= (double)(float)z != z",
        "own.inexact |= 0",
    ),
    fault(
        "every logit counts as inexact in f32",
        "masked.cuh",
        "own.inexact |= (double)(float)z != z",
        "own.inexact |= 1",
    ),
    fault("the softcap saturates too early", "masked.cuh", "20.0 < magnitude ? 20.0", "2.0 < magnitude ? 2.0"),
    fault(
        "tables are read before they are written",
        "softmax_masked.cu",
        "exp.fill(shared.tables, row.max.low);\n        __syncthreads();",
        "exp.fill(shared.tables, row.max.low);",
    ),
];

/// Faults in kernels that read biases.
pub const FAULTS_OF_SUMS: &[Fault] = &[
    fault("f16 biases are read as bf16", "masked.cuh", "(double)F16::widen", "(double)BF16::widen"),
    fault(
        "sums of finite numbers overflow",
        "masked.cuh",
        "return from < (double)INFINITE ? clamped : value",
        "return value",
    ),
    fault("biases of other rows are read", "masked.cuh", "at * a.bias[p].strides", "at + a.bias[p].strides"),
    fault(
        "column indices ignore the skipped columns",
        "masked.cuh",
        "logits.at(first + column, x)",
        "logits.at(column, x)",
    ),
    fault("16-bit types are always computed in f32", "log_sum_masked.cu", "== 2 && !found.inexact", "== 2"),
    fault(
        "max-dominated rows are not detected",
        "masked.cuh",
        "max_dominated = is_max_dominated(sum, cols)",
        "max_dominated = false",
    ),
    fault(
        "fully masked rows are not counted",
        "log_sum_masked.cu",
        "row.found.nan, row.found.is_masked());\n        }\n        fill",
        "row.found.nan, false);\n        }\n        fill",
    ),
];

fn look_at<E: DeviceElement>(emulator: &Emulator, ops: &[Op]) -> Outcome {
    let mut rng = StdRng::seed_from_u64(15);
    for i in 0..90 {
        let cols = [3, 8, 33, 64, 200, 320][i % 6];
        let dims = [rng.random_range(1..4), rng.random_range(1..4), cols];
        let (x, beside) = (scores::<E>(&mut rng, &dims), beside(&mut rng, &dims));
        let how = How { shift: [0, 0, 3][i % 3], one_block: true, order: Order::ALL[i % 3] };
        for &op in ops {
            case(emulator, op, &x, &beside, how)?;
        }
    }
    for i in 0..40 {
        let (x, beside) = cancelling(&mut rng, [2, 5, 33][i % 3]);
        for &op in ops {
            case(emulator, op, &x, &beside, How { shift: 0, one_block: true, order: Order::Forward })?;
        }
    }
    // The products of score and scale exceed f64's range.
    let (huge, made) = (E::LIMITS.max, Beside { dims: vec![1, 3], scale: 1e306, ..Beside::default() });
    let how = How { shift: 0, one_block: true, order: Order::Forward };
    for &op in ops {
        case(emulator, op, &[huge, -huge, 1.0].map(E::from_wide), &made, how)?;
    }
    Ok(())
}

pub fn look(emulator: &Emulator) -> Outcome {
    let ops = [Op::Softmax];
    look_at::<f32>(emulator, &ops)?;
    look_at::<f16>(emulator, &ops)?;
    look_at::<bf16>(emulator, &ops)
}

pub fn look_at_sums(emulator: &Emulator) -> Outcome {
    let ops = [Op::LogSoftmax, Op::LogSumExp];
    look_at::<f32>(emulator, &ops)?;
    look_at::<f16>(emulator, &ops)?;
    look_at::<bf16>(emulator, &ops)
}
