//! Means over the tokens of each sequence, from a tiled sum for each column. Neighbouring columns are computed
//! together.

use super::lanes::GuardCounts;
use crate::element::Element;
use crate::error::Result;
use crate::mask::Resolved;
use crate::math::sum::{SUM_LANES, TILE};
use crate::rows::Lanes;
use crate::simd::{self, BLOCK, Isa, Kernel, Output, Span, Work, Written, load_wide};
use std::ops::Range;

/// Mask of the tokens, and the policy for sequences without unmasked tokens.
#[derive(Clone, Copy)]
pub struct MeanPool<'m> {
    pub mask: Option<Resolved<'m>>,
    /// Whether a sequence without unmasked tokens is an error.
    pub refuses: bool,
}

/// Unmasked tokens of a sequence.
pub struct Tokens<'s> {
    range: Range<usize>,
    /// Flag of each token in `range`: 0 if the token is masked. `None` if no token in `range` is masked.
    keep: Option<&'s [u8]>,
    pub count: usize,
}

impl MeanPool<'_> {
    /// Returns the unmasked tokens of a sequence of `len` tokens.
    pub fn tokens<'s>(&'s self, sequence: usize, len: usize, buffer: &'s mut Vec<u8>) -> Tokens<'s> {
        let Some(mask) = &self.mask else { return Tokens { range: 0..len, keep: None, count: len } };
        let (low, high) = mask.bounds(sequence);
        let keep = mask.keep(sequence, low, high, buffer);
        let count = keep.map_or(high - low, |keep| keep.iter().filter(|flag| **flag != 0).count());
        Tokens { range: low..high, keep, count }
    }

    /// Counts the columns of a sequence without unmasked tokens: each column is one fully masked row. An empty sequence
    /// (`len` of 0) is not counted.
    pub fn count_masked(&self, sequence: usize, len: usize, columns: usize, guards: &mut GuardCounts) {
        if len > 0 {
            guards.counts.fully_masked += columns as u64;
            if self.refuses {
                guards.first_refused = guards.first_refused.or(Some(sequence));
            }
        }
    }
}

impl Tokens<'_> {
    pub fn counts(&self, token: usize) -> bool {
        self.range.contains(&token) && self.keep.is_none_or(|keep| keep[token - self.range.start] != 0)
    }
}

/// Computes the means of all columns of all sequences.
pub fn apply<'a, E: Element>(
    x: Lanes<'_, E>,
    out: Output<'a, E>,
    pool: MeanPool<'_>,
) -> Result<(&'a mut [E], GuardCounts)> {
    let runs = x.geometry.inner().div_ceil(WIDTH);
    out.write(|to| simd::run(Runs { x, pool, runs, first: 0, count: x.geometry.outer() * runs, to }))
}

/// Number of columns summed at a time. Each token then contributes at least a whole cache line, and the sums stay in
/// the first-level cache.
const WIDTH: usize = 64;

/// Number of blocks in a run of columns.
const BLOCKS: usize = WIDTH / BLOCK;

/// Runs of [`WIDTH`] columns, ordered by sequence and column.
struct Runs<'a, 'w, E> {
    x: Lanes<'a, E>,
    pool: MeanPool<'a>,
    /// Number of runs of columns in a sequence.
    runs: usize,
    /// Index of the first run to compute.
    first: usize,
    /// Number of runs to compute.
    count: usize,
    to: Output<'w, E>,
}

impl<E> Runs<'_, '_, E> {
    /// Returns the number of columns before a run, counted over all sequences.
    fn start(&self, run: usize) -> usize {
        run / self.runs * self.x.geometry.inner() + run % self.runs * WIDTH
    }
}

impl<'w, E: Element> Work for Runs<'_, 'w, E> {
    fn rows(&self) -> usize {
        self.count
    }

    fn cols(&self) -> usize {
        self.x.geometry.len().saturating_mul(WIDTH)
    }

    fn split_at(self, at: usize) -> (Self, Self) {
        let columns = self.start(self.first + at) - self.start(self.first);
        let Runs { x, pool, runs, first, count, to } = self;
        let (a, b) = to.split_at(columns);
        (
            Runs { x, pool, runs, first, count: at, to: a },
            Runs { x, pool, runs, first: first + at, count: count - at, to: b },
        )
    }
}

impl<'w, E: Element> Kernel for Runs<'_, 'w, E> {
    type Out = (Written<'w>, GuardCounts);
    // AVX-512 gains at most 4 %: the kernel is limited by memory.
    const GAINS_FROM_AVX512: bool = false;

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> Self::Out {
        let Runs { x, pool, runs, first, count, mut to } = self;
        let (len, inner, stride) = (x.geometry.len(), x.geometry.inner(), x.geometry.stride);
        let (mut guards, mut written, mut buffer) = (GuardCounts::default(), Written::default(), Vec::new());
        for run in first..first + count {
            let (sequence, column) = (run / runs, run % runs * WIDTH);
            let width = WIDTH.min(inner - column);
            let tokens = pool.tokens(sequence, len, &mut buffer);
            let mut means = [0.0; WIDTH];
            if tokens.count == 0 {
                pool.count_masked(sequence, len, width, &mut guards);
            } else {
                let x = Columns { x: &x.data[sequence * stride..][..len * inner], inner, column, width, tokens };
                means = x.means(isa);
                for mean in &means[..width] {
                    guards.counts.nan += u64::from(mean.is_nan());
                    guards.counts.infinite += u64::from(mean.is_infinite());
                }
            }
            let to = Span::<f64, E>::new(&means[..width], to.take_first(width));
            written = written
                + to.map(
                    isa,
                    #[inline(always)]
                    |_, mean: I::F64| mean,
                )
                .into();
            guards.counts.rows += width as u64;
        }
        (written, guards)
    }
}

/// Run of columns of one sequence.
struct Columns<'a, E> {
    x: &'a [E],
    inner: usize,
    column: usize,
    width: usize,
    tokens: Tokens<'a>,
}

/// Blocks of sums, with one sum for each column.
type Sums<I> = [<I as Isa>::F64; BLOCKS];

impl<E: Element> Columns<'_, E> {
    #[inline(always)]
    fn means<I: Isa>(&self, isa: I) -> [f64; WIDTH] {
        /// If a sum of f64 elements overflows, the elements are multiplied by this factor and summed again.
        const PART: f64 = f64::from_bits((1023 - 64) << 52);
        let count = self.tokens.count as f64;
        let mut means = self.sums(isa, 1.0);
        for mean in &mut means {
            *mean /= count;
        }
        if E::IS_F64 && means.iter().any(|mean| !mean.is_finite()) {
            let parts = self.sums(isa, PART);
            for (mean, part) in means.iter_mut().zip(&parts).filter(|(mean, _)| !mean.is_finite()) {
                *mean = part / count / PART;
            }
        }
        means
    }

    /// Multiplies the elements of unmasked tokens by `unit`, and adds them by the tiled sum.
    #[inline(always)]
    fn sums<I: Isa>(&self, isa: I, unit: f64) -> [f64; WIDTH] {
        let zero = [isa.f64(0.0); BLOCKS];
        let Range { start, end } = self.tokens.range;
        let mut of_tiles = [zero; SUM_LANES];
        for tile in start / TILE..end.div_ceil(TILE) {
            let mut lanes = [zero; SUM_LANES];
            for token in start.max(tile * TILE)..end.min((tile + 1) * TILE) {
                if self.tokens.counts(token) {
                    let from = &self.x[token * self.inner + self.column..][..self.width];
                    for (b, sum) in lanes[token % SUM_LANES].iter_mut().enumerate().take(self.width.div_ceil(BLOCK)) {
                        let v = load_wide(isa, from, b, E::ZERO);
                        *sum = *sum + if E::IS_F64 { v * isa.f64(unit) } else { v };
                    }
                }
            }
            add::<I>(&mut of_tiles[tile % SUM_LANES], &folded::<I>(lanes));
        }
        let mut sums = [0.0; WIDTH];
        for (to, sum) in sums.chunks_mut(BLOCK).zip(folded::<I>(of_tiles)) {
            to.copy_from_slice(&isa.array_f64(sum + isa.f64(0.0)));
        }
        sums
    }
}

/// Adds neighbouring lanes in pairs, six times, until one lane is left.
#[inline(always)]
fn folded<I: Isa>(mut lanes: [Sums<I>; SUM_LANES]) -> Sums<I> {
    let mut width = SUM_LANES;
    while width > 1 {
        width /= 2;
        for j in 0..width {
            let mut sum = lanes[2 * j];
            add::<I>(&mut sum, &lanes[2 * j + 1]);
            lanes[j] = sum;
        }
    }
    lanes[0]
}

#[inline(always)]
fn add<I: Isa>(to: &mut Sums<I>, other: &Sums<I>) {
    for (to, other) in to.iter_mut().zip(other) {
        *to = *to + *other;
    }
}
