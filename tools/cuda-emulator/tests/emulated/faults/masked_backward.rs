//! Faults in the gradient kernels of rows with masks, scale and softcap.

use super::{Fault, Outcome, fault};
use crate::support::backward::{masked_case, steep, window_of_a_long_row};
use crate::support::masked::{Beside, Op, beside, scores};
use crate::support::{How, KINDS, row};
use evenkeel::cuda::DeviceElement;
use evenkeel_cuda_emulator::{Emulator, Order};
use half::{bf16, f16};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

pub const FAULTS: &[Fault] = &[
    fault(
        "the mean is a sum",
        "masked_backward.cu",
        "common = is_mean ? sums[0] * reciprocal : sums[0]",
        "common = sums[0]",
    ),
    fault("masked gradients are read", "masked_backward.cu", "if (e[i] >= 0.0f) {", "if (true) {"),
    fault("masked scores have gradients", "masked_backward.cu", "e[i] >= 0.0f ? narrow_once", "true ? narrow_once"),
    fault(
        "sums start at the window instead of at a tile",
        "masked_backward.cu",
        "mask.low / ORDERED * ORDERED",
        "mask.low",
    ),
    fault(
        "columns outside of the window are not written",
        "masked_backward.cu",
        "fill_beside<S>(dx, row.cols, row.first, row.first + row.held.cols, 0);",
        "",
    ),
    fault(
        "a product is rounded before the subtraction",
        "masked_backward.cu",
        "fma(-y, of_row, of_result)",
        "of_result - y * of_row",
    ),
    fault(
        "gradients of other rows are read",
        "masked_backward.cu",
        "OF_LOGSUMEXP ? 1 : row.cols",
        "OF_LOGSUMEXP ? 0 : row.cols",
    ),
    fault(
        "infinite gradients pass",
        "masked_backward.cu",
        "if (!(fabs(common) < (double)INFINITE)) {\n            return false;\n        }\n        powers",
        "if (false) {\n            return false;\n        }\n        powers",
    ),
    fault("NaN is counted as infinite", "masked_backward.cu", "own |= of_result != of_result &&", "own |= false &&"),
    fault(
        "masked columns of non-finite rows are NaN",
        "masked_backward.cu",
        "INFINITE ? 0 : S::NOT",
        "INFINITE ? S::NOT_A_NUMBER : S::NOT",
    ),
    fault(
        "tables are read before they are written",
        "masked_backward.cu",
        "row.prepare(shared.tables);\n        __syncthreads();",
        "row.prepare(shared.tables);",
    ),
    fault("derivatives leave out the scale", "masked.cuh", "(one * one) * scale", "(one * one)"),
    fault(
        "derivatives leave out the softcap in their argument",
        "masked.cuh",
        "fabs(scaled(x) / softcap)",
        "fabs(scaled(x))",
    ),
    fault(
        "subnormal powers of two are applied in one step",
        "masked.cuh",
        "power_of_two(half) * power_of_two(n - half)",
        "power_of_two(n)",
    ),
    fault("masked scores are not marked", "masked_backward.cu", "x.at(e) == -INFINITE ? -1.0f : power", "power"),
    fault(
        "pieces outside of the bounds are not marked",
        "masked_backward.cu",
        "powers.values[i][e] = -1.0f;",
        "powers.values[i][e] = 0.0f;",
    ),
    fault(
        "fully masked rows are not counted",
        "masked_backward.cu",
        "count_guards(scores.guards, index, false, true);",
        "",
    ),
];

fn look_at<E: DeviceElement>(emulator: &Emulator) -> Outcome {
    let mut rng = StdRng::seed_from_u64(37);
    for i in 0..60 {
        let cols = [3, 8, 33, 64, 200, 320][i % 6];
        let dims = [rng.random_range(1..4), rng.random_range(1..4), cols];
        let (x, beside) = (scores::<E>(&mut rng, &dims), beside(&mut rng, &dims));
        let dy: Vec<E> = row(&mut rng, KINDS[i % 5], x.len());
        let how = How { shift: [0, 0, 3][i % 3], one_block: true, order: Order::ALL[i % 3] };
        for op in Op::ALL {
            masked_case(emulator, op, [&x, &dy], &beside, how)?;
        }
    }
    // dy is 1 everywhere and all probabilities are 1/3. The exact gradients are 0, so a result that is not 0 is the
    // rounding error of a product.
    let how = How { shift: 0, one_block: true, order: Order::Forward };
    let bare = Beside::nothing(&[1, 3]);
    masked_case(emulator, Op::LogSoftmax, [&[E::ZERO; 3], &[E::from_wide(1.0); 3]], &bare, how)?;
    // Masked columns have a gradient of +0. A probability of 0 times a difference below 0 would give -0.
    let short = Beside { lengths: vec![vec![100]], ..Beside::nothing(&[1, 320]) };
    masked_case(emulator, Op::Softmax, [&[E::ZERO; 320], &[E::from_wide(1.0); 320]], &short, how)?;
    // A row with a NaN and an infinity is counted as a row with NaN.
    let dy = [f64::INFINITY, f64::NAN, 0.0].map(E::from_wide);
    masked_case(emulator, Op::Softmax, [&[E::ZERO; 3], &dy], &bare, how)
}

pub fn look(emulator: &Emulator) -> Outcome {
    look_at::<f32>(emulator)?;
    look_at::<f16>(emulator)?;
    look_at::<bf16>(emulator)?;
    let how = How { shift: 0, one_block: true, order: Order::Forward };
    let (dy, beside) = window_of_a_long_row();
    masked_case(emulator, Op::LogSoftmax, [&vec![0.0; dy.len()], &dy], &beside, how)?;
    let (x, beside) = steep(&[1, 64]);
    masked_case(emulator, Op::LogSumExp, [&x, &[1.0]], &beside, how)
}
