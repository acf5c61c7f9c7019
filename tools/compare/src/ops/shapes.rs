//! Which shapes ops are compared in.

use crate::problem::Shape;

/// In the second-level cache of a core, out of it, long rows, much memory; and rows so short that the call counts.
pub const ROWS: &[Shape] = &[
    Shape(&[8, 4096]),
    Shape(&[1024, 4096]),
    Shape(&[64, 32768]),
    Shape(&[16, 131_072]),
    Shape(&[4096, 4096]),
    Shape(&[65_536, 16]),
    Shape(&[4096, 128]),
];

/// For functions of single elements.
pub const ELEMENTS: &[Shape] = &[Shape(&[8, 4096]), Shape(&[1024, 4096]), Shape(&[4096, 4096])];

/// Heads, queries and keys.
pub const SCORES: &[Shape] = &[Shape(&[2, 128, 128]), Shape(&[4, 1024, 1024]), Shape(&[16, 1024, 1024])];

/// For gradients.
pub const TRAINED: &[Shape] = &[Shape(&[8, 4096]), Shape(&[1024, 4096]), Shape(&[64, 32768])];

/// Gradients: tensors and elements of each.
pub const GRADIENTS: &[Shape] = &[Shape(&[100, 500_000])];

/// Logits: sequences and tokens.
pub const LOGITS: &[Shape] = &[Shape(&[1, 131_072]), Shape(&[64, 32768]), Shape(&[1, 32768])];

/// Heads, positions and features: queries of a prompt.
pub const PROMPTS: &[Shape] = &[Shape(&[8, 1024, 64]), Shape(&[8, 128, 64])];

/// Heads, positions and features: keys that one query meets.
pub const CACHES: &[Shape] = &[Shape(&[8, 32_768, 64]), Shape(&[8, 2048, 64])];

/// Heads, positions and features: queries or keys before their rotation.
pub const HEADS: &[Shape] = &[Shape(&[8, 1024, 128]), Shape(&[32, 4096, 128]), Shape(&[8, 1, 128])];

/// Hidden states of one token, and of a prompt.
pub const HIDDEN: &[Shape] = &[Shape(&[1, 4096]), Shape(&[128, 1024])];
