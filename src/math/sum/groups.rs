//! First part of a tiled sum: the sum of each tile. Lanes are added pairwise, and each vector addition works on up to
//! sixteen tiles.

use super::{GROUP, SUM_LANES, TILE};
use crate::simd::{ArrayVec, BLOCK, Isa, Kernel, map_array};

/// Number of chains. A chain is a block of accumulators. All chains together hold the 64 lanes of a tile.
pub(super) const CHAINS: usize = SUM_LANES / BLOCK;
/// Number of terms in a quad, which has one block of terms for each chain.
pub(super) const QUAD: usize = SUM_LANES;
pub(super) const BLOCKS: usize = TILE / BLOCK;

/// Computes `N` sums over a tile, each as 16 partial sums. `quads` is the number of quads in the tile, each with
/// [`QUAD`] terms. A quad consists of [`CHAINS`] blocks of 16 terms. `add` gets the index of a quad, the index of a
/// block in this quad, and the accumulators of this block's chain. It returns the accumulators plus the block's terms.
#[inline(always)]
pub(super) fn sums_of_tile<I: Isa, const N: usize>(
    isa: I,
    quads: usize,
    mut add: impl FnMut(usize, usize, [I::F64; N]) -> [I::F64; N],
) -> [I::F64; N] {
    let mut chains = [[isa.f64(0.0); N]; CHAINS];
    // These are `while` loops, because many kernels contain this code, and `for` loops take longer to compile.
    let mut quad = 0;
    while quad < quads {
        let mut j = 0;
        while j < CHAINS {
            chains[j] = add(quad, j, chains[j]);
            j += 1;
        }
        quad += 1;
    }
    fold_chains(isa, chains)
}

/// Adds a tile's 64 lanes in pairs, and then adds the 32 results in pairs. This leaves one block of 16 partial sums.
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

/// Up to sixteen neighbouring tiles, each as a block of 16 partial sums.
pub(super) struct Group<const N: usize>(ArrayVec<[[f64; BLOCK]; N], GROUP>);

impl<const N: usize> Group<N> {
    #[inline(always)]
    pub(super) fn new() -> Self {
        Group(ArrayVec::new())
    }

    #[inline(always)]
    pub(super) fn push<I: Isa>(&mut self, isa: I, tile: [I::F64; N]) {
        let mut blocks = [[0.0; BLOCK]; N];
        for n in 0..N {
            blocks[n] = isa.array_f64(tile[n]);
        }
        self.0.push(blocks);
    }

    /// Returns the sums of the tiles in order, with +0 for missing tiles.
    #[inline(always)]
    pub(super) fn sums<I: Isa>(&mut self, isa: I) -> [[f64; GROUP]; N] {
        fold_tiles(isa, self.0.as_mut_slice())
    }
}

/// Returns the sums of up to sixteen tiles, with +0 for missing tiles. Each tile is given as `N` blocks of 16 partial
/// sums.
#[inline(always)]
pub(crate) fn fold_tiles<I: Isa, const N: usize>(isa: I, tiles: &mut [[[f64; BLOCK]; N]]) -> [[f64; GROUP]; N] {
    isa.outline(FoldTiles(tiles))
}

/// Adds the partial sums of each tile pairwise, for up to sixteen tiles, until each tile has one sum. These sums are
/// the lanes of one block.
struct FoldTiles<'a, const N: usize>(&'a mut [[[f64; BLOCK]; N]]);

impl<const N: usize> Kernel for FoldTiles<'_, N> {
    type Out = [[f64; GROUP]; N];

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> [[f64; GROUP]; N] {
        let tiles = self.0;
        let mut width = tiles.len();
        for _ in 0..GROUP.ilog2() {
            for i in 0..width.div_ceil(2) {
                for n in 0..N {
                    let a = isa.load_f64(&tiles[2 * i][n]);
                    let b = tiles.get(2 * i + 1).filter(|_| 2 * i + 1 < width);
                    let b = b.map_or(
                        isa.f64(0.0),
                        #[inline(always)]
                        |b| isa.load_f64(&b[n]),
                    );
                    tiles[i][n] = isa.array_f64(isa.fold_pairs(a, b));
                }
            }
            width = width.div_ceil(2);
        }
        tiles.first().copied().unwrap_or([[0.0; GROUP]; N])
    }
}

/// Computes the sums of a row of `len` terms. `tile` returns the sums of a tile, each as a block of 16 partial sums.
#[inline(always)]
pub(super) fn of_tiles<I: Isa, const N: usize>(
    isa: I,
    len: usize,
    mut tile: impl FnMut(usize) -> [I::F64; N],
) -> [f64; N] {
    let tiles = len.div_ceil(TILE);
    let mut group = Group::new();
    let mut lanes = Lanes(None);
    let mut t = 0;
    while t < tiles {
        let sums = tile(t);
        if tiles == 1 {
            return map_array(
                sums,
                #[inline(always)]
                |sum| isa.fold_all(sum) + 0.0,
            );
        }
        group.push(isa, sums);
        t += 1;
        if group.0.is_full() || t == tiles {
            lanes.add(t - 1, &group.sums(isa));
            group.0.clear();
        }
    }
    lanes.folded(tiles)
}

/// Lanes of `N` tiled sums, 64 for each sum; `None` before the first group of tiles.
struct Lanes<const N: usize>(Option<[[f64; SUM_LANES]; N]>);

impl<const N: usize> Lanes<N> {
    /// Adds the sums of a group of tiles. `last` is the index of the group's last tile.
    #[inline(never)]
    fn add(&mut self, last: usize, sums: &[[f64; GROUP]; N]) {
        let first = last / GROUP * GROUP;
        for (lanes, sums) in self.0.get_or_insert([[0.0; SUM_LANES]; N]).iter_mut().zip(sums) {
            let lanes = &mut lanes[first % SUM_LANES..][..GROUP];
            for (lane, sum) in lanes.iter_mut().zip(&sums[..=last - first]) {
                *lane += sum;
            }
        }
    }

    /// Adds the lanes of each tiled sum, and returns the `N` sums.
    #[inline(never)]
    fn folded(&mut self, tiles: usize) -> [f64; N] {
        let mut sums = [0.0; N];
        if let Some(lanes) = &mut self.0 {
            for (sum, lanes) in sums.iter_mut().zip(lanes) {
                *sum = fold_lanes(lanes, tiles);
            }
        }
        sums
    }
}

/// Computes the last step of a tiled sum: the reduction of all tile sums, in order.
pub(crate) fn sum_of_tiles(tiles: &[f64]) -> f64 {
    let mut lanes = [0.0f64; SUM_LANES];
    for (t, sum) in tiles.iter().enumerate() {
        lanes[t % SUM_LANES] += sum;
    }
    fold_lanes(&mut lanes, tiles.len())
}

/// Returns the sum of the 64 lanes. It is defined as six rounds of pairwise additions, followed by an addition of +0.
/// Lanes without a tile hold +0, which does not change a sum, so only the first `tiles` lanes are added here.
fn fold_lanes(lanes: &mut [f64; SUM_LANES], tiles: usize) -> f64 {
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
