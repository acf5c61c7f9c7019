//! Faults in the gradient kernels of softmax, log_softmax and logsumexp.

use super::{Fault, Outcome, fault};
use crate::support::backward::{case, sums_that_cancel};
use crate::support::masked::Op;
use crate::support::{How, KINDS, row};
use evenkeel::cuda::DeviceElement;
use evenkeel_cuda_emulator::{Emulator, Order};
use half::{bf16, f16};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

pub const FAULTS: &[Fault] = &[
    fault("the mean is a sum", "softmax_backward.cu", "MEAN = true", "MEAN = false"),
    fault("the mean is subtracted twice", "softmax_backward.cu", "y * (dy - mean)", "y * (dy - mean - mean)"),
    fault(
        "weights are rounded to f32",
        "softmax_backward.cuh",
        "(double)power(x[i]) * reciprocal",
        "(float)((double)power(x[i]) * reciprocal)",
    ),
    fault("masked scores have gradients", "softmax_backward.cuh", "is_kept(x[i]) ? narrow_once", "true ? narrow_once"),
    fault("infinite gradients pass", "softmax_backward.cuh", "if (!(fabs(of_row) < (double)INFINITE))", "if (false)"),
    fault("NaN is counted as infinite", "softmax_backward.cuh", "own |= is_kept(x[i]) && of", "own |= false && of"),
    fault(
        "masked columns of non-finite rows are NaN",
        "softmax_backward.cuh",
        "is_kept(x[i]) ? S::NOT",
        "true ? S::NOT",
    ),
    fault("wide rows take narrow tables", "softmax_backward.cuh", "exp.narrow = false;", ""),
    fault("every approximation is certain", "softmax_backward.cu", "MARGIN = 0x1.5p-22f", "MARGIN = 0.0f"),
    fault("small differences from the mean are certain", "near_gradient.cuh", "least >= near.enough", "true"),
    fault(
        "another element is computed in f64",
        "softmax_backward.cuh",
        "to[k] = (Bits)exact(e, dy);",
        "to[k ^ 1] = (Bits)exact(e, dy);",
    ),
    fault(
        "tiles in registers are stored at index 0",
        "softmax_backward.cuh",
        "tiles[step * At::tiles() + threadIdx.x / At::GROUP] = tile;",
        "tiles[0] = tile;",
    ),
    fault("pieces at odd addresses are one element off", "unaligned_row.cuh", "halves % 2 * 16", "0"),
    fault("pieces are two elements off", "unaligned_row.cuh", "halves & 2 ? w[i + 1] : w[i]", "w[i]"),
    fault("pieces are four elements off", "unaligned_row.cuh", "halves & 4 ? w[i + 2] : w[i]", "w[i]"),
    fault(
        "elements behind an unaligned row count",
        "unaligned_row.cuh",
        "column + k < cols ? from[k] : fill",
        "from[k]",
    ),
    fault(
        "elements behind the last whole piece are not written",
        "softmax_backward_any.cuh",
        "dx[parts.edge()] = (Bits)",
        "(void)",
    ),
    fault(
        "pieces behind the row count",
        "register_exps.cuh",
        "is_there ? with_piece.high : sum.high",
        "with_piece.high",
    ),
];

pub const FAULTS_OF_LOG: &[Fault] = &[
    fault(
        "masked gradients are read",
        "softmax_backward.cuh",
        "is_kept(x[i]) ? (double)of_results",
        "true ? (double)of_results",
    ),
    fault("all tiles are added to one lane", "sum.cuh", "(step * tiles + i) % 64", "i % 64"),
    fault(
        "all elements of a partial tile are added to one lane",
        "sum.cuh",
        "is_odd = piece % 2 == 1",
        "is_odd = false",
    ),
    fault("tiles are stored at index 0", "sum.cuh", "[threadIdx.x / At::GROUP] = tile", "[0] = tile"),
    fault(
        "all tiles of a group are added to one lane",
        "softmax_backward_any.cuh",
        "step % LANES_OF_GROUP == i ? tile",
        "i == 0 ? tile",
    ),
    fault("the sum is divided like a mean", "log_softmax_backward.cu", "MEAN = false", "MEAN = true"),
    fault("a product is rounded before the subtraction", "log_softmax_backward.cu", "fma(-y, sum, dy)", "dy - y * sum"),
    fault(
        "terms are multiplied by a factor",
        "log_softmax_backward.cu",
        "{ return sum + dy; }",
        "{ return sum + dy * 0.5; }",
    ),
    fault("the sum is rounded to f32", "softmax_backward.cuh", ": sums[0];", ": (float)sums[0];"),
    fault(
        "results are rounded twice",
        "softmax_backward.cuh",
        "narrow_once<S>(gradient)",
        "S::narrow((float)gradient)",
    ),
    fault("every approximation is certain", "log_softmax_backward.cu", "MARGIN = 0x1.9p-23f", "MARGIN = 0.0f"),
    fault("the factor is rounded to one f32", "log_softmax_backward.cu", "fmaf(-e, low, fmaf(", "fmaf(-e, 0.0f, fmaf("),
];

pub const FAULTS_OF_LOGSUMEXP: &[Fault] = &[
    fault(
        "every row reads the first row's gradient",
        "softmax_backward.cuh",
        "index * (Gradient::IS_OF_ROWS ? 1 : a.cols)",
        "index * (Gradient::IS_OF_ROWS ? 0 : a.cols)",
    ),
    fault("gradients are not multiplied by weights", "logsumexp_backward.cu", "return y * dy;", "return dy;"),
    fault("NaN is counted as infinite", "softmax_backward.cuh", "return of_row != of_row;", "return false;"),
    fault("infinite gradients pass", "softmax_backward.cuh", "if (!(fabs(of_row) < (double)INFINITE))", "if (false)"),
    fault("masked scores have gradients", "softmax_backward.cuh", "is_kept(x[i]) ? narrow_once", "true ? narrow_once"),
    fault(
        "weights are rounded to f32",
        "softmax_backward.cuh",
        "(double)power(x[i]) * reciprocal",
        "(float)((double)power(x[i]) * reciprocal)",
    ),
    fault("wide rows take narrow tables", "softmax_backward.cuh", "exp.narrow = false;", ""),
    fault("every approximation is certain", "logsumexp_backward.cu", "MARGIN = 0x1.9p-23f", "MARGIN = 0.0f"),
];

fn look_at<E: DeviceElement>(emulator: &Emulator, op: Op) -> Outcome {
    let mut rng = StdRng::seed_from_u64(22);
    for (i, cols) in [1, 7, 24, 200, 512, 1000, 2048].into_iter().enumerate() {
        for (k, kind) in KINDS.into_iter().enumerate() {
            let x: Vec<E> = (0..2).flat_map(|_| row(&mut rng, kind, cols)).collect();
            let dy: Vec<E> = (0..2).flat_map(|_| row(&mut rng, KINDS[(i + k) % 5], cols)).collect();
            for shift in [0, 1] {
                let how = How { shift, one_block: true, order: Order::ALL[(i + k) % 3] };
                case(emulator, op, [&x, &dy], (2, cols), how)?;
            }
        }
    }
    // About one in a thousand f16 gradients is so close to a tie that an f32 approximation does not decide its
    // rounding. Each row runs in its own block, because a block holds only its first rows in registers. The gradients
    // are large enough to be normal numbers.
    let [x, dy] = [1.0, 1000.0].map(|scale| {
        let numbers: Vec<f64> = row(&mut rng, KINDS[0], 96 * 1024);
        numbers.into_iter().map(|z| E::from_wide(z * scale)).collect::<Vec<_>>()
    });
    let how = How { shift: 0, one_block: false, order: Order::Forward };
    case(emulator, op, [&x, &dy], (96, 1024), how)?;
    // In log_softmax, each dy is nearly equal to the element's probability times the sum of all dy, and the gradient is
    // their difference.
    let near = x[..16 * 1024].iter().map(|x| x.widen().exp() * rng.random_range(0.0098..0.0102));
    let dy: Vec<E> = near.map(E::from_wide).collect();
    case(emulator, op, [&x[..dy.len()], &dy], (16, 1024), how)?;
    // The smallest bf16 is 2^-133, so 2^-134 and -2^-134 are ties. The first two gradients of softmax are each 2^-153
    // below one of these ties, and the nearest f32 is the tie itself.
    let mut dy = vec![E::ZERO; 1024];
    for (i, v) in [2f64.powi(-124), -2f64.powi(-124), 2f64.powi(-133)].into_iter().enumerate() {
        dy[i] = E::from_wide(v);
    }
    case(emulator, op, [&[E::ZERO; 1024], &dy], (1, 1024), how)?;
    let how = How { one_block: true, ..how };
    // All dy are 1, so the exact gradients of softmax are 0. In f32, the sum of the probabilities is not exactly 1, so
    // dy minus the weighted mean of dy is a rounding error.
    case(emulator, op, [&x[..64], &[E::from_wide(1.0); 64]], (1, 64), how)?;
    // dy is 1 everywhere and the scores are equal, so every probability is 1/3. The exact gradients of softmax and
    // log_softmax are 0, so a nonzero result is the rounding error of a product.
    case(emulator, op, [&[E::ZERO; 3], &[E::from_wide(1.0); 3]], (1, 3), how)?;
    // A row with a NaN and an infinity is counted as a row with NaN.
    let dy = [f64::NAN, f64::INFINITY, 0.0].map(E::from_wide);
    case(emulator, op, [&[E::ZERO; 3], &dy], (1, 3), how)?;
    for x in sums_that_cancel() {
        case(emulator, op, [&vec![E::ZERO; x.len()], &x], (1, x.len()), how)?;
    }
    Ok(())
}

fn look_at_all(emulator: &Emulator, op: Op) -> Outcome {
    look_at::<f16>(emulator, op)?;
    look_at::<bf16>(emulator, op)?;
    look_at::<f32>(emulator, op)
}

pub fn look(emulator: &Emulator) -> Outcome {
    look_at_all(emulator, Op::Softmax)
}

pub fn look_at_log(emulator: &Emulator) -> Outcome {
    look_at_all(emulator, Op::LogSoftmax)
}

pub fn look_at_logsumexp(emulator: &Emulator) -> Outcome {
    look_at_all(emulator, Op::LogSumExp)
}
