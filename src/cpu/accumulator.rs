//! Accumulation of gradients.

use crate::error::Result;
use crate::floats::Floats;
use crate::simd::{self, Isa, Kernel, Span, Work};

/// Number of elements processed together. They fit in the first-level cache.
const CHUNK: usize = 1024;

/// Adds each number to the sum at the same index.
pub fn add(sums: &mut [f32], numbers: Floats<'_>) -> Result<()> {
    simd::run(Add { sums, numbers, start: 0 })
}

struct Add<'a> {
    sums: &'a mut [f32],
    /// All numbers of the call. A thread that computes only a part of the sums reads only the numbers that belong to
    /// this part.
    numbers: Floats<'a>,
    /// Index in `numbers` of the number that belongs to `sums[0]`.
    start: usize,
}

impl Work for Add<'_> {
    fn rows(&self) -> usize {
        self.sums.len().div_ceil(CHUNK)
    }

    fn cols(&self) -> usize {
        CHUNK
    }

    fn split_at(self, at: usize) -> (Self, Self) {
        let at = at * CHUNK;
        let (a, b) = self.sums.split_at_mut(at);
        (Add { sums: a, ..self }, Add { sums: b, start: self.start + at, ..self })
    }
}

impl Kernel for Add<'_> {
    type Out = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let mut wide = [0.0; CHUNK];
        for (i, sums) in self.sums.chunks_mut(CHUNK).enumerate() {
            let first = self.start + i * CHUNK;
            let numbers = self.numbers.wide(isa, first..first + sums.len(), &mut wide[..sums.len()]);
            Span::in_place(sums).map_with(
                isa,
                [numbers],
                #[inline(always)]
                |_, sum: I::F64, [number]| sum + isa.load_f64(number),
            );
        }
    }
}
