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
