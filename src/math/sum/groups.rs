//! Groups of sixteen tiles, whose sums are folded pairwise.

use super::{GROUP, SUM_LANES, TILE};
use crate::simd::{BLOCK, Isa};

/// Number of chains: blocks of accumulators that hold the 64 lanes of a tile.
pub(super) const CHAINS: usize = SUM_LANES / BLOCK;
/// Number of terms in a quad: one block of terms for each chain.
pub(super) const QUAD: usize = SUM_LANES;
/// Number of blocks in a tile.
pub(super) const BLOCKS: usize = TILE / BLOCK;

/// Folded sums of up to sixteen consecutive tiles.
pub(super) struct Group<I: Isa, const N: usize> {
    /// Blocks of partial sums that wait for their neighbour to be folded with it. Level k holds 2^k tiles. A single
    /// tile is a block of sixteen partial sums, since its 64 lanes are folded twice; each further fold halves that
    /// number.
    waiting: [[I::F64; N]; LEVELS],
    count: usize,
}

/// Folds a tile's 64 lanes twice, into one block.
#[inline(always)]
pub(super) fn fold_chains<I: Isa, const N: usize>(isa: I, chains: [[I::F64; N]; CHAINS]) -> [I::F64; N] {
    let mut tile = [isa.f64(0.0); N];
    for n in 0..N {
        let low = isa.fold_pairs(chains[0][n], chains[1][n]);
        let high = isa.fold_pairs(chains[2][n], chains[3][n]);
        tile[n] = isa.fold_pairs(low, high);
    }
    tile
}

const LEVELS: usize = GROUP.ilog2() as usize + 1;

impl<I: Isa, const N: usize> Group<I, N> {
    #[inline(always)]
    pub(super) fn new(isa: I) -> Self {
        Group { waiting: [[isa.f64(0.0); N]; LEVELS], count: 0 }
    }

    /// Adds the next tile, which has `quads` runs of [`QUAD`] terms. `add` gets the index of a run and of a chain, and
    /// the chain's sums. It adds the run's block for this chain to the sums.
    #[inline(always)]
    pub(super) fn push(&mut self, isa: I, quads: usize, mut add: impl FnMut(usize, usize, [I::F64; N]) -> [I::F64; N]) {
        let mut chains = [[isa.f64(0.0); N]; CHAINS];
        for quad in 0..quads {
            for (j, sums) in chains.iter_mut().enumerate() {
                *sums = add(quad, j, *sums);
            }
        }
        self.wait(isa, fold_chains(isa, chains));
    }

    /// Adds the next tile, already folded twice.
    #[inline(always)]
    pub(super) fn wait(&mut self, isa: I, mut tile: [I::F64; N]) {
        let mut level = 0;
        while self.count >> level & 1 == 1 {
            for (tile, waiting) in tile.iter_mut().zip(self.waiting[level]) {
                *tile = isa.fold_pairs(waiting, *tile);
            }
            level += 1;
        }
        self.waiting[level] = tile;
        self.count += 1;
    }

    /// Returns the sums of a row that has a single tile.
    #[inline(always)]
    fn only(self, isa: I) -> [f64; N] {
        let mut sums = [0.0; N];
        for (sum, tile) in sums.iter_mut().zip(self.waiting[0]) {
            *sum = isa.fold_all(tile) + 0.0;
        }
        sums
    }

    /// Returns the sums of the tiles in order: `[tile 0 .. tile 15]`.
    #[inline(always)]
    pub(super) fn sums(self, isa: I) -> [I::F64; N] {
        if self.count == GROUP {
            return self.waiting[LEVELS - 1];
        }
        // This is the row's last group. Missing tiles count as zeros.
        let mut sums = [isa.f64(0.0); N];
        for level in 0..LEVELS - 1 {
            for (sum, waiting) in sums.iter_mut().zip(self.waiting[level]) {
                *sum = if self.count >> level & 1 == 1 {
                    isa.fold_pairs(waiting, *sum)
                } else {
                    isa.fold_pairs(*sum, isa.f64(0.0))
                };
            }
        }
        sums
    }
}

/// Returns the sums of a row of `len` terms. `group` returns the group that starts at a given tile.
#[inline(always)]
pub(super) fn of_groups<I: Isa, const N: usize>(
    isa: I,
    len: usize,
    mut group: impl FnMut(usize) -> Group<I, N>,
) -> [f64; N] {
    let tiles = len.div_ceil(TILE);
    let mut lanes = [[0.0f64; SUM_LANES]; N];
    for first in (0..tiles).step_by(GROUP) {
        let group = group(first);
        if tiles == 1 {
            return group.only(isa);
        }
        let sums = group.sums(isa);
        if tiles <= GROUP {
            return fold_group(isa, sums, tiles);
        }
        for n in 0..N {
            let sums = isa.array_f64(sums[n]);
            for (t, sum) in sums[..GROUP.min(tiles - first)].iter().enumerate() {
                lanes[n][(first + t) % SUM_LANES] += sum;
            }
        }
    }
    let mut result = [0.0; N];
    for n in 0..N {
        result[n] = fold_lanes(lanes[n], tiles);
    }
    result
}

/// Returns the sums of a row whose tiles all fit in one group, from the tile sums.
#[inline(always)]
fn fold_group<I: Isa, const N: usize>(isa: I, sums: [I::F64; N], tiles: usize) -> [f64; N] {
    let mut result = [0.0; N];
    for n in 0..N {
        let (mut sum, mut width) = (sums[n], tiles);
        while width > 1 {
            sum = isa.fold_pairs(sum, isa.f64(0.0));
            width = width.div_ceil(2);
        }
        result[n] = isa.array_f64(sum)[0] + 0.0;
    }
    result
}

/// Computes the last step of a tiled sum: the reduction of all tile sums, in order.
pub(crate) fn sum_of_tiles(tiles: &[f64]) -> f64 {
    let mut lanes = [0.0f64; SUM_LANES];
    for (t, sum) in tiles.iter().enumerate() {
        lanes[t % SUM_LANES] += sum;
    }
    fold_lanes(lanes, tiles.len())
}

/// Folds the lanes six times and adds +0. Lanes without a tile hold +0 and do not change the others, so only as many
/// lanes as there are `tiles` are folded.
#[inline(always)]
fn fold_lanes(mut lanes: [f64; SUM_LANES], tiles: usize) -> f64 {
    let mut width = tiles.min(SUM_LANES);
    while width > 1 {
        width = width.div_ceil(2);
        for j in 0..width {
            lanes[j] = lanes[2 * j] + lanes[2 * j + 1];
        }
        if width < SUM_LANES / 2 {
            lanes[width] = 0.0;
        }
    }
    lanes[0] + 0.0
}
