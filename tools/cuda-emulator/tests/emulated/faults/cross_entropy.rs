//! Faults in the kernels of the cross-entropy.

use super::{Fault, Outcome, fault};
use crate::cross_entropy::{at_the_ends, dloss, longest_row, options, targets};
use crate::support::cross_entropy::{Call, case, first_refused, sums};
use crate::support::norm::{Operand, operand};
use crate::support::{How, KINDS, peaked_row, row};
use evenkeel::cuda::DeviceElement;
use evenkeel_cuda_emulator::{Emulator, Order};
use half::{bf16, f16};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

pub const FAULTS: &[Fault] = &[
    fault(
        "no barrier before the target is written",
        "cross_entropy.cu",
        "        }\n        __syncthreads();\n        if (threadIdx.x == 0) {\n            to[target] = (Bits)store_wide<S>(gradient",
        "        }\n        if (threadIdx.x == 0) {\n            to[target] = (Bits)store_wide<S>(gradient",
    ),
    fault(
        "no barrier before the target of a first row is written",
        "cross_entropy.cu",
        "low, to);\n        __syncthreads();\n",
        "low, to);\n",
    ),
    fault(
        "the target gets the gradient of other classes",
        "cross_entropy.cu",
        "to[target] = (Bits)store_wide<S>(factors.at_target);",
        "",
    ),
    fault(
        "the factors are read before they are written",
        "cross_entropy.cu",
        "        __syncthreads();\n        if (!factors.is_plain",
        "        if (!factors.is_plain",
    ),
    fault("first rows are never dominated", "cross_entropy.cu", "is_max_dominated(powers.units, a.cols)", "false"),
    fault("first rows leave out smoothing", "cross_entropy.cu", "a.label_smoothing != 0.0 || !Softmax", "!Softmax"),
    fault("an edge element is not added", "block_scores.cuh", "add_terms<1>(sum, &e, len);", ""),
    fault(
        "a long row is summed in the units of other rows",
        "cross_entropy.cu",
        "exps.template sum<true>",
        "exps.template sum<false>",
    ),
    fault(
        "the target of a row in memory gets the gradient of other classes",
        "cross_entropy.cu",
        "to[target] = (Bits)store_wide<S>(gradient.at_target);",
        "",
    ),
    fault("the ignored class counts", "cross_entropy.cuh", "return !is_ignored(a, target) && ", "return "),
    fault("one class too many", "cross_entropy.cuh", "(u64)target < a.cols", "(u64)target <= a.cols"),
    fault(
        "smoothing leaves out the logarithm",
        "cross_entropy.cuh",
        "entropy += distances + times(",
        "entropy += distances + 0.0 * times(",
    ),
    fault("a small rest of the sum comes from the integers", "cross_entropy.cuh", "is_little ? powers.rest :", ""),
    fault("factors are rounded to one f32", "block_exps.cuh", "fmaf(e, high, e * low)", "e * high"),
    fault("small factors are computed in f32", "cross_entropy.cuh", "magnitude >= 1e-24", "true"),
    fault(
        "weights are added instead of counted",
        "cross_entropy.cu",
        "own[1] += 1.0;",
        "own[1] += weight_of(a, (u32)target);",
    ),
    fault("class weights are ignored", "cross_entropy.cu", "if (a.weight_type != NO_OPERAND)", "if (false)"),
    fault("the last refused row is reported", "cross_entropy.cu", "&& row < first", ""),
    fault("the multiple is not subtracted from the rest", "sum.cuh", "                rest -= multiple;\n", ""),
    fault(
        "only one bin is used",
        "sum.cuh",
        "bin < 4; bin++) {\n                const",
        "bin < 1; bin++) {\n                const",
    ),
    fault("bins of other threads are not added", "sum.cuh", "            own += lane_beside(own, distance);\n", ""),
    fault("no barrier after the bins' units", "sum.cuh", "    __syncthreads();\n    row.each(", "    row.each("),
    fault("tiles are added to another lane", "sum.cuh", "(first + threadIdx.x) % 64", "threadIdx.x"),
    fault("tables do not match the form of the exponential", "cross_entropy.cu", "        exp.narrow = false;\n", ""),
    fault(
        "every row reads the first gradient of the loss",
        "cross_entropy.cuh",
        "a.reduction == NO_REDUCTION ? index : 0",
        "0",
    ),
    fault("factors overflow f64", "cross_entropy.cuh", "return saturate(value, fabs(dloss));", "return value;"),
    fault(
        "the z-loss overflows before a product with 0",
        "cross_entropy.cuh",
        "finite(finite(a.z_loss * over(by.z)) * lse * 2.0)",
        "finite(2.0 * a.z_loss * over(by.z)) * lse",
    ),
    fault("infinite losses with weight 0 count", "cross_entropy.cuh", "weight_of(a, target) != 0.0 ||", "true ||"),
    fault(
        "the mean of z-losses is divided by the weights",
        "cross_entropy.cu",
        "part(sums[1], by.z)",
        "part(sums[1], by.entropy)",
    ),
    fault(
        "a row of NaN is lost if the weights sum to 0",
        "cross_entropy.cu",
        "divisor == 0.0 && sum == sum",
        "divisor == 0.0",
    ),
];

pub const FAULTS_OF_SOFTCAPS: &[Fault] = &[
    fault(
        "gradients leave out the softcap's derivative",
        "cross_entropy_softcap.cu",
        " * derivative((double)*x, a.softcap)",
        "",
    ),
    fault(
        "powers of two are applied in one step",
        "masked.cuh",
        "power_of_two(half) * power_of_two(n - half)",
        "power_of_two(n)",
    ),
    fault(
        "the target's gradient leaves out the softcap's derivative",
        "cross_entropy_softcap.cu",
        " * derivative((double)score, a.softcap)",
        "",
    ),
    fault("exponentials are flushed to zero too early", "masked.cuh", "least = -746.1332191019411", "least = -700.0"),
    fault(
        "the target's gradient overflows before the softcap's derivative",
        "cross_entropy_softcap.cu",
        "gradient.finite(gradient.at_target)",
        "gradient.at_target",
    ),
    fault(
        "a gradient overflows before the softcap's derivative",
        "cross_entropy_softcap.cu",
        "gradient.finite(gradient.of(e, weight_of(a, column)))",
        "gradient.of(e, weight_of(a, column))",
    ),
    fault("logits leave out the softcap", "cross_entropy_softcap.cu", "row(1.0, a.softcap,", "row(1.0, 0.0,"),
    fault(
        "distances are computed from scores instead of logits",
        "cross_entropy_softcap.cu",
        "max, row.logits.at(column, x))",
        "max, (double)x)",
    ),
    fault(
        "the target's score is used as its logit",
        "cross_entropy_softcap.cu",
        "logit = row.logits.at(target, score)",
        "logit = (double)score",
    ),
    fault(
        "no barrier before the target is written",
        "cross_entropy_softcap.cu",
        "    });\n    __syncthreads();\n    if (threadIdx.x == 0) {",
        "    });\n    if (threadIdx.x == 0) {",
    ),
    fault("the derivative's divisor is not squared", "cross_entropy_softcap.cu", "(one * one)", "one"),
];

fn look_at<E: DeviceElement>(emulator: &Emulator, softcap: bool) -> Outcome {
    let mut rng = StdRng::seed_from_u64(34);
    for (i, cols) in [1, 7, 24, 200, 512, 1000, 2048].into_iter().enumerate() {
        for k in 0..6 {
            let logits = (0..3).flat_map(|_| match KINDS.get(k) {
                Some(&kind) => row(&mut rng, kind, cols),
                None => peaked_row(&mut rng, [14.0, 30.0][i % 2], cols),
            });
            let logits: Vec<E> = logits.collect();
            for shift in [0, 1] {
                let options = options(&mut rng, softcap);
                let weight = operand(&mut rng, E::DTYPE, cols);
                let targets = targets(&mut rng, &logits, cols, &options);
                let dloss = dloss(&mut rng, 3, &options);
                let call =
                    Call { logits: &logits, targets: &targets, weight: weight.as_ref(), dloss: &dloss, cols, options };
                case(emulator, &call, How { shift, one_block: k % 2 == 0, order: Order::ALL[(i + k) % 3] })?;
            }
        }
    }
    Ok(())
}

fn look_at_ends(emulator: &Emulator, softcap: bool) -> Outcome {
    let how = How { shift: 0, one_block: true, order: Order::Forward };
    for (logits, targets, weight, dloss, options) in at_the_ends() {
        if options.softcap.is_some() == softcap {
            let weight = weight.map(|weight| Operand::F32(weight.to_vec()));
            let (dloss, weight) = (&[dloss], weight.as_ref());
            case(emulator, &Call { logits: &logits, targets: &targets, weight, dloss, cols: 2, options }, how)?;
        }
    }
    Ok(())
}

/// Checks all types, and the sums of many rows.
pub fn look(emulator: &Emulator) -> Outcome {
    look_at_ends(emulator, false)?;
    let mut rng = StdRng::seed_from_u64(35);
    let targets: Vec<i64> = (0..20_000).map(|_| rng.random_range(0..100)).collect();
    // All bits of these numbers are random, so their sum depends on the order of additions.
    let parts: Vec<f64> = (0..40_000).map(|_| rng.random_range(-1.0..1.0)).collect();
    sums(emulator, &targets, &parts, &row(&mut rng, KINDS[0], 100))?;
    first_refused(emulator, &targets)?;
    look_at::<f16>(emulator, false)?;
    look_at::<bf16>(emulator, false)?;
    look_at::<f32>(emulator, false)?;
    longest_row(emulator)
}

/// Checks logits with a softcap.
pub fn look_at_softcaps(emulator: &Emulator) -> Outcome {
    look_at_ends(emulator, true)?;
    look_at::<f16>(emulator, true)?;
    look_at::<f32>(emulator, true)
}
