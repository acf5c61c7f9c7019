//! Faults in the kernels of attention over pages.

use super::{Fault, Outcome, fault};
use crate::support::attention_decode::{case_of_many, cases};
use evenkeel_cuda_emulator::Emulator;
use half::bf16;

pub const FAULTS: &[Fault] = &[
    fault(
        "chains of products are added in the reverse order",
        "attention_decode.cu",
        "total += __shfl_sync(0xffffffffu, sums[row], first_lane + other);",
        "total = __shfl_sync(0xffffffffu, sums[row], first_lane + other) + __shfl_sync(0xffffffffu, sums[row], first_lane + chains - other);",
    ),
    fault("a thread block skips keys", "attention_decode.cu", "block += a.splits) {", "block += a.splits + 1) {"),
    fault(
        "the window is one key too short",
        "attention_decode.cuh",
        "high > a.window ? high - a.window : 0;",
        "high > a.window ? high - a.window + 1 : 0;",
    ),
    fault(
        "all queries use the first head of keys",
        "attention_decode.cuh",
        "position * pages.position + key_head * pages.head",
        "position * pages.position",
    ),
    fault(
        "a page's first position is used for all",
        "attention_decode.cuh",
        "position = key - index * a.page_size;",
        "position = 0;",
    ),
    fault(
        "another page replaces an unknown one",
        "attention_decode.cuh",
        "[sequence * a.table_stride + index];",
        "[sequence * a.table_stride + index] % a.pages;",
    ),
    fault(
        "products that f32 cannot represent are kept",
        "attention_decode.cu",
        "is_finite && fabsf(score) < INFINITE;",
        "is_finite;",
    ),
    fault(
        "weighted sums that f32 cannot represent are kept",
        "attention_decode.cu",
        "shared.ends[row + of_row].sum = -1.0;",
        "",
    ),
    fault(
        "all scales are used in f32",
        "attention_decode.cu",
        "bool is_finite = !a.in_wide,",
        "bool is_finite = true,",
    ),
    fault("capped logits are rounded to f32", "attention_decode.cu", "is_exact = is_exact && (double)z == wide;", ""),
    fault("a sink is not counted", "attention_decode.cu", "sink_value[0] == -INFINITE ? 0.0 : 1.0", "0.0"),
    fault(
        "a block with a smaller maximum is not rescaled",
        "attention_decode.cu",
        "shared.factors[threadIdx.x] = merge_weight(is_larger ? before - own.max : own.max - before);",
        "shared.factors[threadIdx.x] = is_larger ? merge_weight(before - own.max) : 1.0;",
    ),
    fault(
        "blocks are merged after an earlier maximum",
        "attention_decode.cu",
        "before = larger(shared.ends[i].max, before);",
        "",
    ),
    fault(
        "the weights are read before they are written",
        "attention_decode.cu",
        "        __syncthreads();
        const u32 slot = block",
        "        const u32 slot = block",
    ),
    fault(
        "a too long sequence is read",
        "attention_decode.cuh",
        "fits = high <= a.capacity;",
        "fits = true; high = high < a.capacity ? high : a.capacity;",
    ),
    fault("a chain in f64 replaces the earlier ones", "attention_decode.cuh", "value += chain;", "value = chain;"),
];

pub fn look(emulator: &Emulator) -> Outcome {
    cases::<f32>(emulator, 1000, 0..120, |_| ())?;
    cases::<bf16>(emulator, 3000, 0..60, |_| ())?;
    case_of_many(emulator)
}
