//! Search and selection in a row of f32, f16 or bf16 logits, in few passes and without sorting.

use super::candidates::{Candidate, Candidates};
use super::filters::{DrawnCandidate, RUN, drawn_in_run, drawn_run};
use super::scale::Scale;
use crate::element::Element;
use crate::sampler::Draw;
use crate::simd::{BLOCK, Float, Isa, MaskBits, fold, load, padded};

/// Number of elements in a tile. [`LogitSlice::survey`] keeps 16 maxima for each tile, one per lane.
const TILE: usize = 64 * BLOCK;
/// Size of a cache line in bytes.
const CACHE_LINE: usize = 64;
/// Number of blocks tested with one branch, which is predicted better than one branch per block.
pub const GROUP: usize = 4;
/// Lane indices 0 to 15.
const LANE_NUMBERS: [f32; BLOCK] = [0., 1., 2., 3., 4., 5., 6., 7., 8., 9., 10., 11., 12., 13., 14., 15.];

/// Returns `first` and the 15 integers after it.
#[inline(always)]
pub fn iota<I: Isa>(isa: I, first: usize) -> I::I32 {
    const BITS: [f32; BLOCK] = {
        let mut bits = [0.0; BLOCK];
        let mut i = 0;
        while i < BLOCK {
            bits[i] = f32::from_bits(i as u32);
            i += 1;
        }
        bits
    };
    isa.load_f32(&BITS).to_bits() + isa.i32(first as i32)
}

/// Contiguous logits. `first` is the token of the first logit.
#[derive(Clone, Copy)]
pub struct LogitSlice<'a, S> {
    pub z: &'a [S],
    pub first: usize,
}

impl<S: Element> LogitSlice<'_, S> {
    /// Returns the number of logits before the first cache line boundary.
    ///
    /// Aligned blocks are read faster. No result depends on the alignment.
    fn lead(&self) -> usize {
        let lead = self.z.as_ptr().align_offset(CACHE_LINE);
        if lead < CACHE_LINE { lead.min(self.z.len()) } else { 0 }
    }

    /// Splits the logits into the tiles of [`LogitSlice::survey`]. The first tile also contains the logits of
    /// [`LogitSlice::lead`].
    fn tiles(&self) -> impl Iterator<Item = Self> {
        let (head, rest) = self.z.split_at((self.lead() + TILE).min(self.z.len()));
        let behind = self.first + head.len();
        let rest = rest.chunks(TILE).enumerate().map(move |(i, z)| LogitSlice { z, first: behind + i * TILE });
        std::iter::once(LogitSlice { z: head, first: self.first }).chain(rest)
    }

    /// Returns the largest logit, or NaN if any logit is NaN. For each tile, writes the maximum of each lane to
    /// `maxima`.
    #[inline(always)]
    pub fn survey<I: Isa>(&self, isa: I, maxima: &mut Vec<f32>) -> f32 {
        let least = isa.f32(f32::NEG_INFINITY);
        // A sum detects NaN more cheaply than comparisons do. A +inf and a -inf together also make the sum NaN. So if
        // the sum is NaN, `has_nan` looks for a NaN among the logits.
        let mut sum = isa.f32(0.0);
        let mut all = least;
        maxima.clear();
        let mut lead = self.lead();
        for tile in self.tiles() {
            let mut max = least;
            let (before, behind) = tile.z.split_at(lead);
            lead = 0;
            let (quads, rest) = behind.as_chunks::<{ 4 * BLOCK }>();
            for quad in quads {
                let blocks = quad.as_chunks::<BLOCK>().0;
                let [a, b] = [S::load(isa, &blocks[0]), S::load(isa, &blocks[1])];
                let [c, d] = [S::load(isa, &blocks[2]), S::load(isa, &blocks[3])];
                sum = sum + ((a + b) + (c + d));
                // There is only one running maximum, because AVX2 has no registers for more.
                max = a.max(b).max(c.max(d)).max(max);
            }
            for part in [before, rest] {
                (sum, max) = fold(
                    part,
                    S::NEG_INFINITY,
                    (sum, max),
                    #[inline(always)]
                    |(sum, max), _, block| {
                        let v = S::load(isa, block);
                        (sum + v, v.max(max))
                    },
                );
            }
            all = max.max(all);
            maxima.extend_from_slice(&isa.array_f32(max));
        }
        if sum.is_nan().any() && self.has_nan(isa) { f32::NAN } else { isa.max_f32(all) }
    }

    #[inline(always)]
    fn has_nan<I: Isa>(&self, isa: I) -> bool {
        let least = isa.f32(f32::NEG_INFINITY);
        let nan = fold(
            self.z,
            S::NEG_INFINITY,
            least.lt(least),
            #[inline(always)]
            |nan, _, block| nan | S::load(isa, block).is_nan(),
        );
        nan.any()
    }

    /// Returns the first token with the largest logit. `max` and `maxima` come from [`LogitSlice::survey`].
    #[inline(always)]
    pub fn first_largest<I: Isa>(&self, isa: I, max: f32, maxima: &[f32]) -> usize {
        let bound = isa.f32(max);
        let (of_tiles, _) = maxima.as_chunks::<BLOCK>();
        for (tile, maxima) in self.tiles().zip(of_tiles) {
            if isa.load_f32(maxima).eq(bound).any() {
                let (mut before, (blocks, _)) = (0, tile.z.as_chunks::<BLOCK>());
                for block in blocks {
                    if S::load(isa, block).eq(bound).any() {
                        break;
                    }
                    before += BLOCK;
                }
                let at = tile.z[before..].iter().position(|z| z.widen() == f64::from(max));
                return tile.first + before + at.unwrap_or(0);
            }
        }
        self.first
    }

    /// Appends `last` and all tokens before it, with their weights. The order is [`Candidate::order_highest`] if
    /// `highest_first` is set, otherwise [`Candidate::order`].
    #[inline(always)]
    pub fn up_to<I: Isa>(
        &self,
        isa: I,
        (last, highest_first): (Candidate, bool),
        weights: &[f32],
        to: &mut Candidates<f32>,
    ) {
        let prefix = Prefix { logit: isa.f32(last.logit as f32), own: last.token as usize - self.first, highest_first };
        let (blocks, rest) = self.z.as_chunks::<BLOCK>();
        let padding = padded(rest, S::NEG_INFINITY);
        let nothing = isa.f32(0.0);
        let none = nothing.lt(nothing);
        to.append(
            self.z.len(),
            #[inline(always)]
            |room| {
                let count = blocks.len() + usize::from(!rest.is_empty());
                for first in (0..count).step_by(GROUP) {
                    let mut group = [(nothing, none); GROUP];
                    let mut any = none;
                    for (i, (z, kept)) in (first..count).zip(&mut group) {
                        *z = S::load(isa, blocks.get(i).unwrap_or(&padding));
                        *kept = prefix.holds(isa, *z, i * BLOCK);
                        any = any | *kept;
                    }
                    if !any.any() {
                        continue;
                    }
                    for (i, (z, kept)) in (first..).zip(group) {
                        let weights = load(isa, weights, i, 0.0);
                        isa.compress(kept, iota(isa, self.first + i * BLOCK), block_from(room.tokens, room.count));
                        isa.compress_f32(kept, weights, block_from(room.weights, room.count));
                        room.count += isa.compress_f32(kept, z, block_from(room.logits, room.count));
                    }
                }
            },
        );
        to.set_weighed(true);
    }

    /// Draws from all tokens, and appends only the drawn token.
    #[inline(always)]
    pub fn draw<I: Isa>(
        &self,
        isa: I,
        scale: Scale,
        draw: Draw,
        masses: &mut Vec<u64>,
        to: &mut Candidates<f32>,
    ) -> DrawnCandidate {
        let mut weights = [0.0; RUN];
        let lowest = isa.f32(f32::MIN);
        let mut kept = 0;
        masses.clear();
        masses.reserve(scale.vocabulary.div_ceil(RUN));
        for run in self.z.chunks(RUN) {
            let weights = &mut weights[..run.len()];
            scale.weigh(isa, run, weights);
            masses.push(scale.mass_of(isa, weights));
            kept += fold(
                run,
                S::NEG_INFINITY,
                0,
                #[inline(always)]
                |count, _, block| count + lowest.le(S::load(isa, block)).bits().count_ones() as usize,
            );
        }
        // Weights are not kept, because computing one run again takes less time than storing all runs.
        let (run, at) = drawn_run(draw, masses);
        let z = &self.z[run * RUN..];
        let weights = &mut weights[..z.len().min(RUN)];
        scale.weigh(isa, &z[..weights.len()], weights);
        let drawn = drawn_in_run(scale, weights, at);
        to.push((self.first + run * RUN + drawn) as u32, z[drawn].widen() as f32);
        DrawnCandidate { scale, log_sum: f64::NAN, drawn: 0, kept, controller: None }
    }

    /// Appends the tokens that are not masked.
    #[inline(always)]
    pub fn present<I: Isa>(&self, isa: I, to: &mut Candidates<f32>) {
        self.gather(isa, f32::MIN, to);
    }

    /// Appends the tokens with at least this logit. Skips the tiles whose `maxima`, which come from
    /// [`LogitSlice::survey`], are all below it.
    #[inline(always)]
    pub fn at_least<I: Isa>(&self, isa: I, bound: f32, maxima: &[f32], to: &mut Candidates<f32>) {
        let (of_tiles, _) = maxima.as_chunks::<BLOCK>();
        for (tile, maxima) in self.tiles().zip(of_tiles) {
            if isa.f32(bound).le(isa.load_f32(maxima)).any() {
                tile.gather(isa, bound, to);
            }
        }
    }

    /// Appends the tokens with at least this logit. Reads all logits.
    #[inline(always)]
    fn gather<I: Isa>(&self, isa: I, bound: f32, to: &mut Candidates<f32>) {
        let bound = isa.f32(bound);
        let (blocks, rest) = self.z.as_chunks::<BLOCK>();
        let padding = padded(rest, S::NEG_INFINITY);
        to.append(
            self.z.len(),
            #[inline(always)]
            |room| {
                for i in 0..blocks.len() + usize::from(!rest.is_empty()) {
                    let z = S::load(isa, blocks.get(i).unwrap_or(&padding));
                    let kept = bound.le(z);
                    if kept.any() {
                        isa.compress(kept, iota(isa, self.first + i * BLOCK), block_from(room.tokens, room.count));
                        room.count += isa.compress_f32(kept, z, block_from(room.logits, room.count));
                    }
                }
            },
        );
    }

    /// Appends the first k tokens by [`Candidate::order`] and, with `keeps_equals`, all tokens with the logit of the
    /// k-th.
    ///
    /// k is less than the number of logits. `maxima` are the largest logits of disjoint parts, from
    /// [`LogitSlice::survey`]. At least k logits are at least as large as the k-th largest of these maxima, and usually
    /// few others are. Only these logits are gathered.
    #[inline(always)]
    pub fn top_k<I: Isa>(
        &self,
        isa: I,
        (k, keeps_equals): (usize, bool),
        maxima: &[f32],
        buffer: &mut Vec<f32>,
        to: &mut Candidates<f32>,
    ) {
        buffer.clear();
        buffer.extend_from_slice(maxima);
        let bound = match buffer.get(k - 1) {
            Some(_) => *buffer.select_nth_unstable_by(k - 1, |a, b| b.total_cmp(a)).1,
            None => f32::MIN,
        };
        self.at_least(isa, bound.max(f32::MIN), maxima, to);
        to.keep_first(k, keeps_equals);
    }
}

/// End of a prefix in the order of candidates.
struct Prefix<I: Isa> {
    /// Logit of the last token.
    logit: I::F32,
    /// Index of the prefix's last token in the slice of logits.
    own: usize,
    highest_first: bool,
}

impl<I: Isa> Prefix<I> {
    /// Returns a mask that tells which elements of a block are in the prefix. `start` is the index of the block's first
    /// element.
    #[inline(always)]
    fn holds(&self, isa: I, z: I::F32, start: usize) -> I::M32 {
        let equal = z.eq(self.logit);
        let before = self.logit.lt(z);
        // Ties in a block are all inside or all outside the prefix, except in the block of the last token.
        let all = if self.highest_first { start > self.own } else { start + BLOCK <= self.own };
        if all {
            return before | equal;
        }
        if !(start..start + BLOCK).contains(&self.own) {
            return before;
        }
        let (own, lanes) = (isa.f32((self.own - start) as f32), isa.load_f32(&LANE_NUMBERS));
        let ties = if self.highest_first { own.le(lanes) } else { lanes.le(own) };
        before | (equal & ties)
    }
}

/// Returns the block of `values` that starts at `from`.
///
/// The buffers extend one block past the last candidate, so the block always exists.
#[inline(always)]
pub fn block_from<T>(values: &mut [T], from: usize) -> &mut [T; BLOCK] {
    match values[from..].first_chunk_mut() {
        Some(block) => block,
        None => unreachable!("the buffer must extend one block past the last candidate"),
    }
}
