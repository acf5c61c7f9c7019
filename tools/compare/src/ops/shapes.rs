//! Shapes of the ops.

use crate::problem::Shape;

/// Shapes for ops on rows. The first fits in a core's second-level cache, and the second does not. The others are two
/// shapes of long rows, a large matrix, and two matrices whose rows are so short that the cost of each row matters.
pub const ROWS: &[Shape] = &[
    Shape(&[8, 4096]),
    Shape(&[1024, 4096]),
    Shape(&[64, 32768]),
    Shape(&[16, 131_072]),
    Shape(&[4096, 4096]),
    Shape(&[65_536, 16]),
    Shape(&[4096, 128]),
];

/// Shapes for functions of single elements.
pub const ELEMENTS: &[Shape] = &[Shape(&[8, 4096]), Shape(&[1024, 4096]), Shape(&[4096, 4096])];

/// Shapes of attention scores: heads, queries and keys.
pub const SCORES: &[Shape] = &[Shape(&[2, 128, 128]), Shape(&[4, 1024, 1024]), Shape(&[16, 1024, 1024])];

/// Shapes for ops that compute gradients.
pub const TRAINED: &[Shape] = &[Shape(&[8, 4096]), Shape(&[1024, 4096]), Shape(&[64, 32768])];

/// Shapes of gradients to clip: number of tensors, and elements per tensor.
pub const GRADIENTS: &[Shape] = &[Shape(&[100, 500_000])];

/// Shapes of logits: number of sequences, and number of tokens in the vocabulary.
pub const LOGITS: &[Shape] = &[Shape(&[1, 131_072]), Shape(&[64, 32768]), Shape(&[1, 32768])];

/// Shapes of a prompt's queries: heads, positions and features.
pub const PROMPTS: &[Shape] = &[Shape(&[8, 1024, 64]), Shape(&[8, 128, 64])];

/// Shapes of the keys for one query: heads, positions and features.
pub const CACHES: &[Shape] = &[Shape(&[8, 32_768, 64]), Shape(&[8, 2048, 64])];

/// Shapes of queries or keys before their rotation: heads, positions and features.
pub const HEADS: &[Shape] = &[Shape(&[8, 1024, 128]), Shape(&[32, 4096, 128]), Shape(&[8, 1, 128])];

/// Shapes of hidden states: of one token, and of a prompt.
pub const HIDDEN: &[Shape] = &[Shape(&[1, 4096]), Shape(&[128, 1024])];
