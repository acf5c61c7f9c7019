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
        "sample_filters.cuh",
        "highest_first ? equals - count : count - 1",
        "count - 1",
    ),
    fault(
        "one equal logit too many is kept",
        "sample_filters.cuh",
        "(needed - reached + each_of_them - 1) / each_of_them",
        "(needed - reached) / each_of_them + 1",
    ),
    fault("zeros of both signs are different", "sample.cuh", "bits_of(z + 0.0f)", "bits_of(z)"),
    fault(
        "sums of warps are read before they are written",
        "sample_row.cuh",
        "        partial[warp] = upto;
    }
    __syncthreads();",
        "        partial[warp] = upto;
    }",
    ),
    fault(
        "the list is sorted without barriers",
        "sample_row.cuh",
        "                __syncthreads();
                ROLLED",
        "                ROLLED",
    ),
    fault("neighbouring tokens are exchanged", "sample_row.cuh", "<< 32 | ~index;", "<< 32 | ~(index ^ 1);"),
    fault("a piece is read twice", "sample_row.cuh", "next = second;", "next = words;"),
    fault("partial pieces are not read", "sample_row.cuh", "at < cols ? x[at] : NOTHING >> REST", "NOTHING >> REST"),
    fault(
        "tokens equal to the k-th largest of the threads are dropped",
        "sample_filters.cuh",
        "if (z >= from) {",
        "if (z > from) {",
    ),
    fault(
        "a row with k listed tokens is not shortened",
        "sample_filters.cuh",
        "if (needed <= kept) {",
        "if (needed < kept) {",
    ),
    fault(
        "tokens above the listed bins have no mass",
        "sample_filters.cuh",
        "shared.runs[threadIdx.x] = shared.sums[threadIdx.x];",
        "shared.runs[threadIdx.x] = 0;",
    ),
    fault(
        "the sum above the listed bins is not counted",
        "sample_filters.cuh",
        "reached = base + list.sum(",
        "reached = list.sum(",
    ),
    fault(
        "a product is rounded down",
        "sample.cuh",
        "low >> shift) + ((low & (((u64)1 << shift) - 1)) != 0)",
        "low >> shift)",
    ),
    fault("the counter is not added", "sample.cuh", "*(const u64*)request.counter", "0"),
    fault("the generator runs one round less", "philox.cuh", "round < 10", "round < 9"),
    fault(
        "the mask is inverted",
        "sample_row.cuh",
        "(word & mask) | (NOTHING & ~mask)",
        "(word & ~mask) | (NOTHING & mask)",
    ),
    fault("a penalty is added", "sample.cu", "(double)z - request.presence", "(double)z + request.presence"),
    fault("tokens of the prompt count as output", "sample.cu", "*to = 1;", "*to = 2;"),
    fault(
        "min-p drops tokens of enough mass",
        "sample.cuh",
        "from += step * (others - 1) + 1;",
        "from += step * others;",
    ),
    fault(
        "sums of earlier warps are not subtracted",
        "sample_filters.cuh",
        "above -= shared.sums[warp];",
        "above -= 0;",
    ),
    fault(
        "a top-p counts only half of each run",
        "sample_parts.cuh",
        "work.totals[run] = total;",
        "work.totals[run] = total / 2;",
    ),
    fault(
        "the largest logit of a group misses half of the lanes",
        "sample_parts.cuh",
        "distance < logits.GROUP;",
        "distance < logits.GROUP / 2;",
    ),
    fault(
        "high halves of masses are halved",
        "sample_parts.cuh",
        "masses.is_long() ? 19 : 22)",
        "masses.is_long() ? 19 : 21)",
    ),
    fault("kept tokens of parts are not counted", "sample_filters.cuh", "is_run ? work->kept[threadIdx.x] : 0", "0"),
    fault(
        "groups whose largest logit equals the bound are not read",
        "sample_groups.cuh",
        "if (tops[group] >= from) {",
        "if (tops[group] > from) {",
    ),
    fault(
        "fewer than k groups reach the bound",
        "sample_groups.cuh",
        "return logit_of(shared.digit);",
        "return logit_of(shared.digit + 0x800000);",
    ),
];

pub const FAULTS_OF_LOGPROBS: &[Fault] = &[
    fault(
        "the first of the equal logits is not kept",
        "sample_logprobs.cu",
        "kept.first <= i && i <= kept.last",
        "kept.first < i && i <= kept.last",
    ),
    fault("rows are never dominated by their largest logit", "sample_logprobs.cu", "logits.cols * 0x1p-34", "0.0"),
    fault(
        "the rounding error of 1 plus the sum is dropped",
        "sample_logprobs.cu",
        "log.hi + (log.lo + low / sum)",
        "log.hi + log.lo",
    ),
    fault(
        "a coefficient of the exponential is used twice",
        "sample_logprobs.cu",
        "EXP_POLY[2 * i]",
        "EXP_POLY[2 * i - 1]",
    ),
    fault("equal logits are in descending order", "sample_logprobs.cu", "<< 32 | ~i;", "<< 32 | i;"),
    fault("infinite logits have distances", "sample_logprobs.cu", "z == INFINITE ? 0.0 : ", ""),
    fault(
        "partial sums are overwritten before they are read",
        "sample_logprobs.cu",
        "    DEVICE double total(double own) {
        __syncthreads();",
        "    DEVICE double total(double own) {",
    ),
    fault("only the first digit of an order is compared", "sample_logprobs.cu", "shift < DIGIT_BITS) {", "true) {"),
    fault("the temperature is ignored", "sample_logprobs.cu", " * kept.inverse + 0.0", " + 0.0"),
];

/// Checks some rows of every kind.
pub fn look(emulator: &Emulator) -> Outcome {
    look_at((emulator, None))
}

/// Checks log-probabilities. Kernels without faults draw the tokens.
pub fn look_at_logprobs(emulator: &Emulator) -> Outcome {
    look_at((&Emulator::linked(), Some(emulator)))
}

fn look_at(emulators: (&Emulator, Option<&Emulator>)) -> Outcome {
    let mut rng = StdRng::seed_from_u64(5);
    for i in 0..140 {
        let cols = [3, 5, 40, 300, 1000, 3000, 9000][i / 5 % 7];
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
        case(emulators, &x, cols, &asked, how)?;
    }
    Ok(())
}
