//! Passes over a whole tensor, split between threads. They compute tiled sums, and other statistics in the same
//! pass.

use crate::element::Element;
use crate::error::Result;
use crate::math::sum::{GROUP, TILE, sum_of_tiles};
use crate::simd::{self, Isa, Join, Kernel, Work};

/// Number of elements in a run. The tiles of a run are folded together. When work is split between threads, each thread
/// gets whole runs.
pub const RUN: usize = GROUP * TILE;

/// Computation that a reduction applies to each run of [`RUN`] elements.
pub trait Pass<E: Element>: Copy + Send + Sync {
    /// Statistics other than the sum. The default describes an empty tensor.
    type Seen: Join + Copy + Default + Send;
    /// Whether the pass computes a sum.
    const SUMS: bool = true;
    /// Returns the sums of the run's tiles, and updates the statistics. `start` is the index of the run's first element
    /// in the tensor. Must be `#[inline(always)]`, like everything it calls.
    fn look<I: Isa>(&self, isa: I, start: usize, run: &[E], seen: &mut Self::Seen) -> [f64; GROUP];
}

/// Returns the sum over the tensor, and the statistics.
pub fn pass<E: Element, P: Pass<E>>(x: &[E], pass: P) -> Result<(f64, P::Seen)> {
    let (tiles, seen) = tiles(x, pass)?;
    Ok((sum_of_tiles(&tiles), seen))
}

/// Returns the sum of each tile, and the statistics.
pub fn tiles<E: Element, P: Pass<E>>(x: &[E], pass: P) -> Result<(Vec<f64>, P::Seen)> {
    let mut tiles = vec![0.0; if P::SUMS { x.len().div_ceil(TILE) } else { 0 }];
    let seen = simd::run(TensorPass { x, tiles: &mut tiles, start: 0, pass })?;
    Ok((tiles, seen))
}

struct TensorPass<'a, E, P> {
    x: &'a [E],
    /// Destination of the tile sums of `x`.
    tiles: &'a mut [f64],
    start: usize,
    pass: P,
}

impl<E: Element, P: Pass<E>> Work for TensorPass<'_, E, P> {
    fn rows(&self) -> usize {
        self.x.len().div_ceil(RUN)
    }

    fn cols(&self) -> usize {
        RUN
    }

    fn split_at(self, at: usize) -> (Self, Self) {
        let TensorPass { x, tiles, start, pass } = self;
        let (x_a, x_b) = x.split_at(at * RUN);
        let (tiles_a, tiles_b) = tiles.split_at_mut(if P::SUMS { at * GROUP } else { 0 });
        let rest = TensorPass { x: x_b, tiles: tiles_b, start: start + at * RUN, pass };
        (TensorPass { x: x_a, tiles: tiles_a, start, pass }, rest)
    }
}

impl<E: Element, P: Pass<E>> Kernel for TensorPass<'_, E, P> {
    type Out = P::Seen;

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> Self::Out {
        let mut seen = P::Seen::default();
        let mut tiles = self.tiles.chunks_mut(GROUP);
        for (i, run) in self.x.chunks(RUN).enumerate() {
            let sums = self.pass.look(isa, self.start + i * RUN, run, &mut seen);
            if let Some(tiles) = tiles.next() {
                tiles.copy_from_slice(&sums[..tiles.len()]);
            }
        }
        seen
    }
}

/// A tensor that a kernel overwrites.
pub struct Overwrite<'a, E, K> {
    pub x: &'a mut [E],
    pub kernel: K,
}

/// Kernel that overwrites a part of a tensor.
pub trait Overwriting<E: Element>: Copy + Send + Sync {
    /// Statistics of the pass. The default describes an empty tensor.
    type Seen: Join + Copy + Default + Send;
    /// Overwrites all of `x`. Must be `#[inline(always)]`, like everything it calls.
    fn write<I: Isa>(&self, isa: I, x: &mut [E]) -> Self::Seen;
}

impl<E: Element, K: Overwriting<E>> Work for Overwrite<'_, E, K> {
    fn rows(&self) -> usize {
        self.x.len().div_ceil(RUN)
    }

    fn cols(&self) -> usize {
        RUN
    }

    fn split_at(self, at: usize) -> (Self, Self) {
        let Overwrite { x, kernel } = self;
        let (a, b) = x.split_at_mut(at * RUN);
        (Overwrite { x: a, kernel }, Overwrite { x: b, kernel })
    }
}

impl<E: Element, K: Overwriting<E>> Kernel for Overwrite<'_, E, K> {
    type Out = K::Seen;

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> Self::Out {
        self.kernel.write(isa, self.x)
    }
}
