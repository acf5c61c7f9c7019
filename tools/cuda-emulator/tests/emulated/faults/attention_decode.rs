//! Faults in the kernels of attention over pages.

use super::{Fault, Outcome, fault};
use crate::support::attention_decode::{case_of_long, case_of_many, cases};
use evenkeel_cuda_emulator::Emulator;
use half::bf16;

pub const FAULTS: &[Fault] = &[
    fault(
        "chains of products are added in the reverse order",
        "attention_decode.cu",
        "partial[of_row][place(group, chain)];",
        "partial[of_row][place(group, chains - chain)];",
    ),
    fault("a thread block skips keys", "attention_decode.cu", "block.index + a.splits;", "block.index + a.splits + 1;"),
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
        "attention_weights.cuh",
        "is_finite &= !is_visible | (fabsf(score) < INFINITE);",
        "",
    ),
    fault(
        "weighted sums that f32 cannot represent are kept",
        "attention_decode.cu",
        "shared.ends[row + of_row].sum = -1.0;",
        "",
    ),
    fault(
        "all scales are used in f32",
        "attention_weights.cuh",
        "bool is_finite = !a.in_wide;",
        "bool is_finite = true;",
    ),
    fault("capped logits are rounded to f32", "attention_weights.cuh", "is_exact = is_exact && (double)z == wide;", ""),
    fault("a sink is not counted", "attention_merge.cuh", "sink_value[0] == -INFINITE ? 0.0 : 1.0", "0.0"),
    fault(
        "a block with a smaller maximum is not rescaled",
        "attention_merge.cuh",
        "shared.factors[threadIdx.x] = merge_weight(is_larger ? before - own.max : own.max - before);",
        "shared.factors[threadIdx.x] = is_larger ? merge_weight(before - own.max) : 1.0;",
    ),
    fault(
        "blocks are merged after an earlier maximum",
        "attention_merge.cuh",
        "lane > 0 ? larger(before, max) : max;",
        "max;",
    ),
    fault(
        "the maxima of other warps are ignored",
        "attention_merge.cuh",
        "i < warp ? larger(maxima[i], largest) : largest;",
        "largest;",
    ),
    fault("a batch of blocks is merged twice", "attention_merge.cuh", "values[j] = next[j];", ""),
    fault(
        "chains of other lanes are read before they are written",
        "attention_decode.cu",
        "        __syncwarp();
        ROLLED",
        "        ROLLED",
    ),
    fault(
        "the next block of keys is read before it is written",
        "attention_decode.cu",
        "            block.index = next_index;
        }
        __syncthreads();",
        "            block.index = next_index;
        }",
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
    case_of_many(emulator)?;
    case_of_long(emulator)
}
