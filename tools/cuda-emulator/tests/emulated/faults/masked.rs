//! Faults in the kernels of rows with masks, scale and softcap.

use super::{Fault, Outcome, fault};
use crate::support::masked::{Beside, Op, beside, cancelling, case, scores};
use crate::support::{How, KINDS, row};
use evenkeel::cuda::DeviceElement;
use evenkeel_cuda_emulator::{Emulator, Order};
use half::{bf16, f16};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

pub const FAULTS: &[Fault] = &[
    fault("lengths are not read", "masked.cuh", "high = length < high ? (u32)length : high;", ""),
    fault("the causal mask includes one key too many", "masked.cuh", "a.offset + query + 1", "a.offset + query + 2"),
    fault("windows are one key too short", "masked.cuh", "low = behind - a.window <", "low = 1 + behind - a.window <"),
    fault(
        "flags of other rows are read",
        "masked.cuh",
        "start_of(a, a.keep[p], row)",
        "start_of(a, a.keep[p], row / 2)",
    ),
    fault(
        "the query index comes from another axis",
        "masked.cuh",
        "row % a.dims[a.axes - 1] : row",
        "row / a.dims[a.axes - 1] : row",
    ),
    fault("the first axis is not counted", "masked.cuh", "return start + row * part.strides[0];", "return start;"),
    fault("flags that all columns share are ignored", "masked.cuh", "*keep[p] != 0 ? high : 0", "high"),
    fault("flags are combined with or", "masked.cuh", "is_kept = is_kept && keep", "is_kept = is_kept || keep"),
    fault(
        "most flags other than 0 are ignored",
        "masked_row.cuh",
        "((bytes & 0x7f7f7f7f) + 0x7f7f7f7f)",
        "((bytes & 0x04040404) + 0x7f7f7f7f)",
    ),
    fault(
        "flags of 16-bit types are exchanged",
        "masked_row.cuh",
        "0x9988 + word % 2 * 0x2222",
        "0xbbaa - word % 2 * 0x2222",
    ),
    fault(
        "the second part of the flags is ignored",
        "masked_row.cuh",
        "if (p < mask.keeps && mask.keep_step[p] > 0) {",
        "if (p < 1 && p < mask.keeps && mask.keep_step[p] > 0) {",
    ),
    fault("pieces across the end are not masked", "masked_row.cuh", "|| column + COUNT > mask.high)) {", "))  {"),
    fault(
        "pieces across the start are not masked",
        "masked_row.cuh",
        "(column < mask.low || column + COUNT > mask.high)",
        "(column + COUNT > mask.high)",
    ),
    fault("the last pieces of a warp are left out", "masked_row.cuh", "first + SPAN > mask.low", "first > mask.low"),
    fault("the scale is rounded to one f32", "masked_row.cuh", "(float)(wide - (double)scale)", "0.0f"),
    fault(
        "the rounding error of products is ignored",
        "masked_row.cuh",
        "return {x * scale, rest(x)};",
        "return {x * scale, 0.0f};",
    ),
    fault(
        "low scores count",
        "masked_row.cuh",
        "(max.high - 108.0f) / products.scale",
        "(max.high - 90.0f) / products.scale",
    ),
    fault(
        "large maxima are not subtracted",
        "masked_row.cuh",
        "fmaf(x, scale, 0.0f - exp.shift)",
        "fmaf(x, scale, 0.0f)",
    ),
    fault(
        "rows near 256 use two f32",
        "softmax_masked.cu",
        "} else if (fabsf(max.high) < 256.0f) {",
        "} else if (fabsf(max.high) < 300.0f) {",
    ),
    fault(
        "biased rows near 256 use two f32",
        "softmax_masked.cu",
        "is_small = fabsf(max.high) < 256.0f",
        "is_small = fabsf(max.high) < 300.0f",
    ),
    fault(
        "the maximum's low part is lost",
        "masked_row.cuh",
        "tables(exp.lane_tables(max.low)),\n          lowest",
        "tables(exp.lane_tables(0.0f)),\n          lowest",
    ),
    fault(
        "biases are masked like the neighbours of their scores",
        "masked_row.cuh",
        "i % 2 == 0 ? kept << 16 : kept",
        "i % 2 == 1 ? kept << 16 : kept",
    ),
    fault(
        "biases are rounded to f32",
        "masked_row.cuh",
        "is_of_f32 && ((double)to.biases[0][0] == bias || bias != bias)",
        "is_of_f32",
    ),
    fault("low parts of masked sums count", "masked_row.cuh", "z.high > exp.deepest ? z.low : 0.0f", "z.low"),
    fault(
        "columns outside of the window are not written",
        "softmax_masked.cu",
        "fill_beside<S>(to, a.cols, low, high, beside);",
        "",
    ),
    fault(
        "the largest rounded sum is used as the largest logit",
        "masked_row.cuh",
        "near = max - 1.0f / 256.0f;",
        "near = max;",
    ),
    fault(
        "logits are not normalised before the maximum",
        "masked_row.cuh",
        "normalised(BiasedLogits::logit(products, x.at(i), biases[i]))",
        "BiasedLogits::logit(products, x.at(i), biases[i])",
    ),
    fault("large products use two f32", "masked_row.cuh", "fabsf(product) >= 16384.0f", "fabsf(product) >= 65536.0f"),
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
        "row.prepare(shared.tables);\n        __syncthreads();",
        "row.prepare(shared.tables);",
    ),
];

/// Faults in the kernels of log_softmax and logsumexp.
pub const FAULTS_OF_SUMS: &[Fault] = &[
    fault("f16 biases are read as bf16", "masked.cuh", "(double)F16::widen", "(double)BF16::widen"),
    fault(
        "sums of finite numbers overflow",
        "masked.cuh",
        "return from < (double)INFINITE ? clamped : value",
        "return value",
    ),
    fault(
        "biases of other rows are read",
        "masked.cuh",
        "start_of(a, a.bias[p], row)",
        "start_of(a, a.bias[p], row / 2)",
    ),
    fault(
        "column indices ignore the skipped columns",
        "masked.cuh",
        "logits.at(first + column, x)",
        "logits.at(column, x)",
    ),
    fault(
        "16-bit types are always computed in f32",
        "log_sum_masked.cu",
        "row.found.inexact ? narrow_once",
        "sizeof(Bits) == 4 && row.found.inexact ? narrow_once",
    ),
    fault(
        "all products count as f32 values",
        "masked_products.cuh",
        "a.logits == PRODUCTS ? 1 : 0",
        "a.logits == PRODUCTS ? 0 : 0",
    ),
    fault("low parts of differences are lost", "masked_products.cuh", "return low + rest; }", "return low; }"),
    fault(
        "rows in registers are never max-dominated",
        "log_sum_masked.cu",
        "if (is_max_dominated(sum, row.cols)) {",
        "if (false) {",
    ),
    fault(
        "max-dominated rows are not detected",
        "masked.cuh",
        "max_dominated = is_max_dominated(sum, cols)",
        "max_dominated = false",
    ),
    fault(
        "fully masked rows are not counted",
        "log_sum_masked.cu",
        "row.found.nan, row.found.is_masked());",
        "row.found.nan, false);",
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
        let (x, beside) = cancelling(&mut rng, [2, 5, 33][i % 3], [0.01, 0.0005][i % 2]);
        for &op in ops {
            case(emulator, op, &x, &beside, How { shift: 0, one_block: true, order: Order::Forward })?;
        }
    }
    let how = How { shift: 0, one_block: true, order: Order::Forward };
    // f32 cannot represent the products of score and scale, and many exponentials contribute to the sum of a row. In
    // the last row, products reach 280, beyond the limit of 256 for float-float pairs.
    let scaled = Beside { scale: 0.7, ..Beside::nothing(&[33, 64]) };
    let mut near: Vec<f64> = row::<f64>(&mut rng, KINDS[0], 33 * 64).iter().map(|z| z * 0.25).collect();
    near[32 * 64..].iter_mut().for_each(|z| *z += 400.0);
    let near: Vec<E> = near.into_iter().map(E::from_wide).collect();
    // The products of score and scale exceed f64's range.
    let (huge, beyond) = (E::LIMITS.max, Beside { dims: vec![1, 3], scale: 1e306, ..Beside::default() });
    for &op in ops {
        case(emulator, op, &near, &scaled, how)?;
        case(emulator, op, &[huge, -huge, 1.0].map(E::from_wide), &beyond, how)?;
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
