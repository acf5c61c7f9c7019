//! Definitions of the sums. A definition fixes every bit of a sum, so vector width, thread count, block size and
//! alignment never change a result.
//!
//! # Tiled sum (`tiled_sum`): every float sum outside the softmax family and attention
//!
//! The terms v_0 .. v_(n-1) are exact in f64: they are values of a narrower type, or products of two such values. Tile
//! t holds the terms with 256 t <= i < 256 (t + 1). Inside a tile, lane l = i mod 64 starts at +0 and adds its terms in
//! increasing i, in f64. The 64 lanes are then folded six times, `new[j] = old[2j] + old[2j+1]`, which leaves the
//! tile's sum. The tile sums are reduced in the same way, as if they were one long tile: lane t mod 64 adds them in
//! increasing t, and the lanes are folded six times. Finally, +0 is added.
//!
//! A missing or masked term adds +0 or is skipped. Both give the same bits, because a zero sum is +0 at the end.
//! The order of the additions depends only on the indices of the terms. Work is split between machines at multiples of
//! 256.
//!
//! A term passes through at most 3 additions in its lane, 12 in folds, and 1 for every 64 tiles. If all terms have one
//! sign, the relative error of the sum of n terms is therefore at most (15 + n / 16384) 2^-53. Rounding errors of
//! varied terms cancel: for 10^6 random terms the relative error is little more than 2^-53. If the terms take only a
//! few values, the roundings may all go in the same direction.
//!
//! # Fixed-point sum (`fixed_point_sum`): softmax, log-sum-exp and results derived from them
//!
//! The n terms e_i are f32 in [0, 1]. Each becomes the integer q_i = e_i 2^b, rounded to nearest even. The integers are
//! added exactly, so the order does not matter. b is 45 for n up to 262,144, so that the sum fits in 64 bits. For
//! larger n, up to 2^21, b is 48, and the sum takes up to 70 bits.
//!
//! A term of 2^(24-b) or more is a multiple of the unit 2^-b and is exact. Any other term loses at most half a unit.
//! The sum S is at least 1, since the largest term is 1. So the relative error of S is at most
//!
//! ```text
//! n/2 2^-b = n 2^-46 <= 2^-28   for n <= 2^18,
//!            n 2^-49 <= 2^-28   for 2^18 < n <= 2^21.
//! ```
//!
//! 2^-28 is a sixteenth of 2^-24, so a quotient e_i / S in f32 moves by at most 1/16 ULP. If S - 1 is at least n 2^-21,
//! the logarithm is computed from S. The relative error of S - 1 is then at most 2^-25 for n <= 2^18, which is half an
//! ULP of ln S in f32, and at most 2^-28 for larger n. If S - 1 is smaller, the logarithm is computed from the sum
//! without its largest term (see below).
//!
//! # Binned sum (`binned_sum`): the other sums of the softmax family
//!
//! f64 terms are split into multiples of fixed powers of two. The sums of these multiples are exact, so the order does
//! not matter here either.
//!
//! f64 exponentials, and the exponentials for a sampler's log-probability, are rounded to multiples of 2^-31, to
//! nearest even. The remainder is rounded to multiples of 2^-62, and the second remainder to multiples of 2^-93. The
//! result is S = s_1 + (s_2 + s_3), where each of the three sums is exact up to 2^21 terms.
//!
//! For the terms that label smoothing adds to a loss, the largest magnitude of a term determines the top bin. If it is
//! from 2^e to below 2^(e+1), the top bin is b = floor((e + 1) / 31), with the unit 2^(31 b). Each term is rounded to a
//! multiple of that unit, to nearest even. The remainder is rounded to a multiple of the next unit, 2^31 times smaller,
//! and so on for four bins. The last remainder is dropped. The sums s_0 to s_3 of the bins are exact for up to 2^21
//! terms. The result is (s_0 + s_1) + low. Here s_0 + s_1 is rounded, and low is its rounding error plus the rounded
//! s_2 + s_3. The error is at most n 2^-92 times the largest term, plus the last rounding. A term beyond 2^960 counts
//! as infinite. Two partial sums are merged bin by bin, downward from the higher of their top bins. The method follows
//! Demmel and Nguyen, "Parallel Reproducible Summation" (2015).
//!
//! # Sums without their largest term
//!
//! The logarithm of a sum barely above 1 needs R, an accurate sum of all terms but the largest. In f32, R is used where
//! the fixed-point sum is below 1 + n 2^-21. The largest term is then 1. All other terms are multiplied by 2^k and
//! added by a fixed-point sum. R is this sum times 2^-k. Let max and next be the two largest logits, which differ in
//! this case. Then k is (max - next) / ln 2 - 2^-20, rounded down and clamped to the range from 0 to 126, so the
//! largest of the other terms is scaled to between 1/2 and 1. The relative error of R is therefore at most n 2^-45,
//! which is at most 2^-27 for n up to 2^18. For larger n it is at most 2^-28.
//!
//! In f64, R is the binned sum of the terms below 1 if (s_1 - 1) + s_2 is below n 2^-34. Otherwise R is
//! (s_1 - 1) + (s_2 + s_3).
//!
//! The functions below define these sums as plain loops over any terms. Kernels give the same bits faster.
//! `tests/vectors/sums.tsv` holds test vectors and names the script that made them.

mod groups;

pub(crate) use self::groups::fold_tiles;
pub(crate) use self::groups::sum_of_tiles;
use self::groups::{BLOCKS, CHAINS, Group, QUAD, fold_chains, of_tiles, sums_of_tile};
use super::bins::power_of_two;
pub use super::fixed_point::fixed_point_sum;
pub(crate) use super::fixed_point::{add_q, grid, sum_q, unit_bits, units, units_of};
use crate::simd::{BLOCK, Float, Isa, PrefetchRow, Storage, copy_to_start, in_default, map_array, opaque};

/// Number of lanes (partial sums) of a tile in a tiled sum.
pub(crate) const SUM_LANES: usize = 64;
/// Number of terms in a tile of a tiled sum.
pub(crate) const TILE: usize = 256;
/// Maximum row length of a fixed-point sum.
pub(crate) const MAX_TERMS: usize = 1 << 21;

/// Computes the tiled sum of the terms, directly from its definition.
///
/// ```
/// use evenkeel::math::sum::tiled_sum;
/// let terms: Vec<f64> = (0..1000).map(|i| f64::from(1.0f32 / (i + 1) as f32)).collect();
/// let sum = tiled_sum(&terms);
/// assert!((sum - 7.485470860550343).abs() < 1e-6);
/// assert_eq!(tiled_sum(&[-0.0, -0.0]).to_bits(), 0);
/// ```
pub fn tiled_sum(terms: &[f64]) -> f64 {
    fn tile(terms: &[f64]) -> f64 {
        let mut lanes = [0.0f64; SUM_LANES];
        for (i, term) in terms.iter().enumerate() {
            lanes[i % SUM_LANES] += term;
        }
        let mut width = SUM_LANES;
        while width > 1 {
            width /= 2;
            for j in 0..width {
                lanes[j] = lanes[2 * j] + lanes[2 * j + 1];
            }
        }
        lanes[0]
    }
    in_default(|| {
        let tiles: Vec<f64> = terms.chunks(TILE).map(tile).collect();
        tile(&tiles) + 0.0
    })
}

/// Computes the binned sum of the terms, directly from its definition.
///
/// ```
/// use evenkeel::math::sum::binned_sum;
/// assert_eq!(binned_sum(&[1.0, 2f64.powi(-60), -1.0]), 2f64.powi(-60));
/// ```
pub fn binned_sum(terms: &[f64]) -> f64 {
    in_default(|| binned(terms))
}

fn binned(terms: &[f64]) -> f64 {
    let beyond =
        terms.iter().filter(|term| term.is_nan() || term.abs() > power_of_two(960)).map(|term| term * f64::INFINITY);
    if let Some(sum) = beyond.reduce(|sum, term| sum + term) {
        return sum;
    }
    let largest = terms.iter().fold(0.0f64, |largest, term| largest.max(term.abs()));
    if largest == 0.0 {
        return 0.0;
    }
    let exponent = (largest.to_bits() >> 52) as i32 - 1023;
    let top = 31 * (exponent + 1).div_euclid(31);
    let mut rests = terms.to_vec();
    let sums = [top, top - 31, top - 62, top - 93].map(|unit| {
        let mut sum = 0.0;
        for rest in &mut rests {
            // Scale in two steps, because the reciprocal of a very small or very large unit is not an f64.
            let (half, other) = (power_of_two(-unit / 2), power_of_two(-unit + unit / 2));
            let multiple = (*rest * half * other).round_ties_even() / other / half;
            sum += multiple;
            *rest -= multiple;
        }
        sum
    });
    let high = sums[0] + sums[1];
    let part = high - sums[0];
    let low = (sums[0] - (high - part)) + (sums[1] - part);
    high + (low + (sums[2] + sums[3])) + 0.0
}

/// Number of tiles whose partial sums are added up together. The tiles' sums are the lanes of one block.
pub(crate) const GROUP: usize = 16;

/// Computes the tiled sum of a row of `len` terms, block by block. `block(i)` returns terms 16 i to 16 i + 15 of the
/// row, with zeros after the last term. `block` must also accept up to three indices after the last block.
#[inline(always)]
pub(crate) fn sum_o<I: Isa>(isa: I, len: usize, mut block: impl FnMut(usize) -> I::F64) -> f64 {
    let blocks = len.div_ceil(BLOCK);
    let [sum] = of_tiles(
        isa,
        len,
        #[inline(always)]
        |t| {
            let start = t * BLOCKS;
            // Hides the count from the compiler. The compiler would otherwise unroll this loop of at most four
            // iterations, although its body is long.
            let quads = opaque((blocks - start).min(BLOCKS).div_ceil(CHAINS));
            sums_of_tile(
                isa,
                quads,
                #[inline(always)]
                |quad, j, [sum]| [sum + block(start + CHAINS * quad + j)],
            )
        },
    );
    sum
}

/// Computes `N` tiled sums in one pass over `x`. For each block of 16 elements, `add` gets the block's index, the
/// elements and the accumulators, and returns the accumulators plus the block's terms. `add` may fuse an exact product
/// into the addition. Positions after the last element hold `pad`, for which `add` must add zeros.
#[inline(always)]
pub(crate) fn sums_o<I: Isa, S: Copy, const N: usize>(
    isa: I,
    x: &[S],
    pad: S,
    mut add: impl FnMut(usize, &[S; BLOCK], [I::F64; N]) -> [I::F64; N],
) -> [f64; N] {
    sums_o_beside::<I, S, S, 1, 0, N>(
        isa,
        ([x], pad),
        ([], pad),
        #[inline(always)]
        |i, [block], [], sums| add(i, block, sums),
    )
}

/// Computes the dot products of `R` rows with `C` other rows, as tiled sums. The results are in row-major order. Each
/// product is added by a fused multiply-add. `N` is `R * C`.
#[inline(always)]
pub(crate) fn dots_o<I: Isa, E: Storage, const R: usize, const C: usize, const N: usize>(
    isa: I,
    a: [&[f64]; R],
    b: [&[E]; C],
) -> [f64; N] {
    const { assert!(N == R * C, "N must be R * C: one sum for each pair of rows") };
    let len = a[0].len();
    assert!(a.iter().all(|a| a.len() == len) && b.iter().all(|b| b.len() == len), "rows must have equal lengths");
    let whole = len / TILE;
    let (mut last, mut b_last) = ([[0.0; TILE]; R], [[E::FILLER; TILE]; C]);
    if !len.is_multiple_of(TILE) {
        for r in 0..R {
            copy_to_start(&a[r][whole * TILE..], &mut last[r]);
        }
        for c in 0..C {
            copy_to_start(&b[c][whole * TILE..], &mut b_last[c]);
        }
    }
    of_tiles(
        isa,
        len,
        #[inline(always)]
        |t| {
            let (a, b) = if t < whole { (part_of(a, t), part_of(b, t)) } else { (last.each_ref(), b_last.each_ref()) };
            tile_of_dots(isa, a, b)
        },
    )
}

/// Number of elements between the tile of [`tile_of_dots`] and the tile that it prefetches.
const AHEAD: usize = 2 * TILE;

/// Computes the `N` sums of a tile, each as a block of 16 partial sums. The tile's 64 lanes are processed 16 at a time,
/// so that the accumulators fit in the registers.
#[inline(always)]
fn tile_of_dots<I: Isa, E: Storage, const R: usize, const C: usize, const N: usize>(
    isa: I,
    a: [&[f64; TILE]; R],
    b: [&[E; TILE]; C],
) -> [I::F64; N] {
    let mut ahead = [PrefetchRow::of(&[] as &[E], 0); C];
    for c in 0..C {
        ahead[c] = PrefetchRow::of(b[c], 0).from(AHEAD);
    }
    let mut chains = [[isa.f64(0.0); N]; CHAINS];
    for (j, chain) in chains.iter_mut().enumerate() {
        let mut sums = [isa.f64(0.0); N];
        for i in (j..BLOCKS).step_by(CHAINS) {
            let (a, b) = (block_of(a, i), block_of(b, i));
            let mut of_a = [isa.f64(0.0); R];
            for r in 0..R {
                of_a[r] = isa.load_f64(a[r]);
            }
            for c in 0..C {
                // The blocks of a tile are not read in their order, which the hardware prefetcher would need.
                ahead[c].block(i);
                let of_b = E::load_wide(isa, b[c]);
                for r in 0..R {
                    sums[r * C + c] = of_a[r].mul_add(of_b, sums[r * C + c]);
                }
            }
        }
        *chain = sums;
    }
    fold_chains(isa, chains)
}

/// Computes `N` tiled sums like [`sums_o`], in one pass over slices of two element types and equal lengths.
#[inline(always)]
pub(crate) fn sums_o_beside<I: Isa, S: Copy, T: Copy, const A: usize, const B: usize, const N: usize>(
    isa: I,
    (x, pad_x): ([&[S]; A], S),
    (y, pad_y): ([&[T]; B], T),
    mut add: impl FnMut(usize, [&[S; BLOCK]; A], [&[T; BLOCK]; B], [I::F64; N]) -> [I::F64; N],
) -> [f64; N] {
    let mut last = ([[pad_x; QUAD]; A], [[pad_y; QUAD]; B]);
    let quads = Quads::new(x, y, &mut last);
    of_tiles(
        isa,
        x[0].len(),
        #[inline(always)]
        |t| {
            quads.sums(
                isa,
                t,
                #[inline(always)]
                |i, a, b, sums| add(i, a, b, sums),
            )
        },
    )
}

/// Returns the sums of each tile, for a later reduction with the tile sums of other shards. The arguments are as in
/// [`sums_o`].
#[cfg(feature = "partial")]
#[inline(always)]
pub(crate) fn tiles_o<I: Isa, S: Copy, const N: usize>(
    isa: I,
    x: &[S],
    pad: S,
    mut add: impl FnMut(usize, &[S; BLOCK], [I::F64; N]) -> [I::F64; N],
) -> Vec<[f64; N]> {
    let tiles = x.len().div_ceil(TILE);
    let mut all = Vec::with_capacity(tiles);
    for (first, x) in (0..tiles).step_by(GROUP).zip(x.chunks(GROUP * TILE)) {
        let sums = group_o(
            isa,
            x,
            pad,
            #[inline(always)]
            |i, block, sums| add(first * BLOCKS + i, block, sums),
        );
        all.extend((0..GROUP.min(tiles - first)).map(|t| sums.each_ref().map(|of_tiles| of_tiles[t])));
    }
    all
}

/// Returns the sums of each tile of `x`, which has at most sixteen tiles. Missing tiles have the sum +0. The arguments
/// are as in [`sums_o`].
#[inline(always)]
pub(crate) fn group_o<I: Isa, S: Copy, const N: usize>(
    isa: I,
    x: &[S],
    pad: S,
    mut add: impl FnMut(usize, &[S; BLOCK], [I::F64; N]) -> [I::F64; N],
) -> [[f64; GROUP]; N] {
    let mut last = ([[pad; QUAD]; 1], []);
    let quads = Quads::<S, S, 1, 0>::new([x], [], &mut last);
    let mut group = Group::new();
    for t in 0..x.len().div_ceil(TILE) {
        let sums = quads.sums(
            isa,
            t,
            #[inline(always)]
            |i, [block], [], sums| add(i, block, sums),
        );
        group.push(isa, sums);
    }
    group.sums(isa)
}

/// Returns `N` sums of `x`, each as 16 partial sums for [`fold_tiles`]. `x` has at most one tile. The arguments are as
/// in [`sums_o`].
#[inline(always)]
pub(crate) fn tile_o<I: Isa, S: Copy, const N: usize>(
    isa: I,
    x: &[S],
    pad: S,
    mut add: impl FnMut(usize, &[S; BLOCK], [I::F64; N]) -> [I::F64; N],
) -> [I::F64; N] {
    let mut last = ([[pad; QUAD]; 1], []);
    Quads::<S, S, 1, 0>::new([x], [], &mut last).sums(
        isa,
        0,
        #[inline(always)]
        |i, [block], [], sums| add(i, block, sums),
    )
}

/// Slices of equal length, read in quads. A quad is a chunk of 64 elements (four blocks).
struct Quads<'a, S, T, const A: usize, const B: usize> {
    x: [&'a [S]; A],
    y: [&'a [T]; B],
    /// Last quad of each slice, filled up with padding. Not used if the last quads are complete.
    last: &'a ([[S; QUAD]; A], [[T; QUAD]; B]),
    whole: usize,
    all: usize,
}

impl<'a, S: Copy, T: Copy, const A: usize, const B: usize> Quads<'a, S, T, A, B> {
    #[inline(always)]
    fn new(x: [&'a [S]; A], y: [&'a [T]; B], last: &'a mut ([[S; QUAD]; A], [[T; QUAD]; B])) -> Self {
        let len = x[0].len();
        assert!(x.iter().all(|x| x.len() == len) && y.iter().all(|y| y.len() == len), "slices must be equally long");
        let whole = len / QUAD;
        if !len.is_multiple_of(QUAD) {
            for (x, last) in x.iter().zip(&mut last.0) {
                copy_to_start(&x[whole * QUAD..], last);
            }
            for (y, last) in y.iter().zip(&mut last.1) {
                copy_to_start(&y[whole * QUAD..], last);
            }
        }
        Quads { x, y, last, whole, all: len.div_ceil(QUAD) }
    }

    /// Returns the sums of tile `t`, each as a block of 16 partial sums.
    #[inline(always)]
    fn sums<I: Isa, const N: usize>(
        &self,
        isa: I,
        t: usize,
        mut add: impl FnMut(usize, [&[S; BLOCK]; A], [&[T; BLOCK]; B], [I::F64; N]) -> [I::F64; N],
    ) -> [I::F64; N] {
        let start = t * (TILE / QUAD);
        sums_of_tile(
            isa,
            (self.all - start).min(TILE / QUAD),
            #[inline(always)]
            |i, j, sums| {
                let quad = start + i;
                // One loop handles complete and incomplete quads, so that its long body is compiled only once.
                let (a, b) = if quad < self.whole {
                    (part_of(self.x, quad), part_of(self.y, quad))
                } else {
                    (self.last.0.each_ref(), self.last.1.each_ref())
                };
                add(CHAINS * quad + j, block_of(a, j), block_of(b, j), sums)
            },
        )
    }
}

/// Returns the `i`th chunk of `LEN` elements of each slice.
#[inline(always)]
fn part_of<S, const LEN: usize, const A: usize>(x: [&[S]; A], i: usize) -> [&[S; LEN]; A] {
    map_array(
        x,
        #[inline(always)]
        |x| &x.as_chunks().0[i],
    )
}

#[inline(always)]
fn block_of<S, const LEN: usize, const A: usize>(parts: [&[S; LEN]; A], i: usize) -> [&[S; BLOCK]; A] {
    map_array(
        parts,
        #[inline(always)]
        |part| &part.as_chunks().0[i],
    )
}
