//! What a sampler may draw from a row, without sorting the vocabulary.
//!
//! Tokens are weighed with softmax's exponentials as integers (rule Q), so every sum is exact and no cut depends on
//! an order of addition. Masses decide cuts and draws; reported probabilities come of f64 exponentials over the
//! support. Tokens are ordered by logit, the highest first, and among equals by index.

use super::scores::{Exps, Live, Logits, Row, Scores, exp_f64};
use super::scratch;
use crate::element::{DType, Element};
use crate::error::{Error, Result};
use crate::mask::{FullyMasked, Resolved};
use crate::math::log::log_scalar;
use crate::math::softmax_exp::PairExp;
use crate::math::sum::unit_bits;
use crate::ops::sample::{Distribution, SamplerConfig};
use crate::report::Counts;
use crate::rows::Rows;
use crate::simd::{self, Float, Isa, Kernel, LANES, Span, Work, block, fold};
use std::cmp::Ordering;

const OP: &str = "sample";

/// Calls `each` with every row's index and distribution, and collects what it makes of them.
pub fn each_row<E, T, F>(
    logits: Rows<'_, E>,
    mask: Option<Resolved<'_>>,
    config: &SamplerConfig,
    each: F,
) -> Result<(Vec<Result<T>>, Counts)>
where
    E: Element,
    T: Send,
    F: Fn(usize, Distribution) -> T + Copy + Send,
{
    let scores = Scores { mask, scale: 1.0, softcap: None, fully_masked: FullyMasked::Zeros };
    simd::run(Draws { logits, first: 0, rows: logits.rows(), scores, config, each })
}

struct Draws<'a, E, F> {
    logits: Rows<'a, E>,
    first: usize,
    rows: usize,
    scores: Scores<'a>,
    config: &'a SamplerConfig,
    each: F,
}

impl<E, T, F> Work for Draws<'_, E, F>
where
    E: Element,
    T: Send,
    F: Fn(usize, Distribution) -> T + Copy + Send,
{
    type Out = (Vec<Result<T>>, Counts);

    fn rows(&self) -> usize {
        self.rows
    }

    fn cols(&self) -> usize {
        self.logits.cols()
    }

    fn split_at(self, at: usize) -> (Self, Self) {
        (Draws { rows: at, ..self }, Draws { first: self.first + at, rows: self.rows - at, ..self })
    }

    fn join(mut first: Self::Out, rest: Self::Out) -> Self::Out {
        first.0.extend(rest.0);
        first.1.add(&rest.1);
        first
    }

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> Self::Out {
        let mut counts = Counts { rows: self.rows as u64, ..Counts::default() };
        let mut out = Vec::with_capacity(self.rows);
        for index in self.first..self.first + self.rows {
            let row = distribution(isa, &self.scores, self.config, index, self.logits.row(index), &mut counts);
            out.push(row.map(|distribution| (self.each)(index, distribution)));
        }
        (out, counts)
    }
}

/// Tokens in order of their index, and their logits.
#[derive(Default)]
struct Kept {
    tokens: Vec<u32>,
    logits: Vec<f64>,
}

impl Kept {
    fn push(&mut self, Candidate { logit, token }: Candidate) {
        self.tokens.push(token);
        self.logits.push(logit);
    }

    fn candidates(&self) -> impl Iterator<Item = Candidate> {
        self.logits.iter().zip(&self.tokens).map(|(&logit, &token)| Candidate { logit, token })
    }

    /// Keeps those whose mass, and which themselves, are such; the masses with them.
    fn retain(&mut self, masses: &mut Vec<u64>, such: impl Fn(Candidate, u64) -> bool) {
        let mut kept = 0;
        for i in 0..self.tokens.len() {
            let (c, mass) = (Candidate { logit: self.logits[i], token: self.tokens[i] }, masses[i]);
            if such(c, mass) {
                (self.logits[kept], self.tokens[kept], masses[kept]) = (c.logit, c.token, mass);
                kept += 1;
            }
        }
        self.logits.truncate(kept);
        self.tokens.truncate(kept);
        masses.truncate(kept);
    }
}

/// A token and its logit.
#[derive(Clone, Copy)]
struct Candidate {
    logit: f64,
    token: u32,
}

impl Candidate {
    /// The order that filters cut in.
    fn order(a: &Candidate, b: &Candidate) -> Ordering {
        b.logit.partial_cmp(&a.logit).unwrap_or(Ordering::Equal).then(a.token.cmp(&b.token))
    }
}

#[inline(always)]
fn distribution<I: Isa, E: Element>(
    isa: I,
    scores: &Scores<'_>,
    config: &SamplerConfig,
    row: usize,
    x: &[E],
    counts: &mut Counts,
) -> Result<Distribution> {
    scratch::with(
        #[inline(always)]
        |scratch| match scores.read(isa, row, x, &mut scratch.logits) {
            Row::Nan(live) => {
                counts.nan += 1;
                let index = live.find(x, f64::is_nan);
                Err(Error::NonFiniteInput { op: OP, row, index, value: f64::NAN })
            }
            Row::Masked => {
                counts.wholly_masked += 1;
                Err(Error::EmptySupport { op: OP, row, vocabulary: x.len() })
            }
            Row::Infinite(live) => {
                counts.infinite += 1;
                let infinite = live.such(x, |z| z == f64::INFINITY).tokens;
                let log_count = log_scalar(isa, infinite.len() as f64).0;
                Ok(Distribution::uniform(x.len(), infinite, log_count))
            }
            Row::Live(live) if config.temperature == 0.0 => {
                let token = live.find(x, |z| z == live.max) as u32;
                Ok(Distribution::uniform(x.len(), vec![token], 0.0))
            }
            Row::Live(live) => {
                let kept = match config.top_k {
                    Some(k) if k < live.columns.len() => live.top_k(isa, x, k),
                    _ if live.min > f64::NEG_INFINITY => live.all(isa, x),
                    _ => live.such(x, |z| z > f64::NEG_INFINITY),
                };
                let (max, min, buffer) = (live.max, live.min, &mut scratch.made.f64s);
                Ok(isa.outline(Filter { config, vocabulary: x.len(), max, min, kept, buffer }))
            }
        },
    )
}

/// Temperature, top-p and min-p of what top-k left.
struct Filter<'a> {
    config: &'a SamplerConfig,
    vocabulary: usize,
    max: f64,
    min: f64,
    kept: Kept,
    buffer: &'a mut Vec<f64>,
}

impl Kernel for Filter<'_> {
    type Out = Distribution;

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> Distribution {
        filtered(isa, self)
    }
}

#[inline(always)]
fn filtered<I: Isa>(isa: I, Filter { config, vocabulary, max, min, mut kept, buffer }: Filter<'_>) -> Distribution {
    let scale = Scale { max, temperature: config.temperature, bits: unit_bits(vocabulary) };
    let distances = scale.distances(isa, &kept.logits);
    let mut masses = scale.masses(isa, &distances);
    let all = kept.tokens.len();
    if let Some(p) = config.top_p.filter(|&p| p < 1.0) {
        let needed = ceil_of_product(p, masses.iter().sum());
        scale.cut(min, needed, &mut kept, &mut masses);
    }
    if let Some(p) = config.min_p {
        let least = ceil_of_product(p, 1 << scale.bits);
        kept.retain(&mut masses, |_, mass| mass >= least);
    }
    let distances = if kept.tokens.len() < all { scale.distances(isa, &kept.logits) } else { distances };
    buffer.clear();
    buffer.resize(distances.len(), 0.0);
    exp_f64(isa, &distances, 0.0, buffer);
    let log_sum = Exps::F64 { values: buffer }.log_sum(isa);
    Distribution::new(vocabulary, kept.tokens, masses, distances, log_sum)
}

/// How logits become masses.
#[derive(Clone, Copy)]
struct Scale {
    max: f64,
    temperature: f64,
    /// The largest token weighs 2 to this.
    bits: u32,
}

impl Scale {
    /// (logit - max) / temperature of each: at most 0.
    #[inline(always)]
    fn distances<I: Isa>(self, isa: I, logits: &[f64]) -> Vec<f64> {
        let (max, temperature) = (isa.f64(self.max), isa.f64(self.temperature));
        let mut distances = logits.to_vec();
        Span::in_place(&mut distances[..]).map_wide(
            isa,
            #[inline(always)]
            |_, z| (z - max) / temperature,
        );
        distances
    }

    #[inline(always)]
    fn masses<I: Isa>(self, isa: I, distances: &[f64]) -> Vec<u64> {
        /// Adding it rounds to an integer, which is then in the low bits.
        const SHIFTER: f64 = (1u64 << 52) as f64;
        let exp = PairExp::new(isa);
        let (one, shifter) = (isa.f64((1u64 << self.bits) as f64), isa.f64(SHIFTER));
        let mut masses = Vec::with_capacity(distances.len().next_multiple_of(LANES));
        for i in 0..distances.len().div_ceil(LANES) {
            let e = exp.exp(isa.load_f64(&block(distances, i, 0.0)));
            let mass = (isa.widen(e) * one + shifter).to_bits() - shifter.to_bits();
            masses.extend(isa.array_f64(I::F64::from_bits(mass)).map(f64::to_bits));
        }
        masses.truncate(distances.len());
        masses
    }

    /// Keeps the shortest prefix, in order, whose mass reaches `needed`. Candidates stay in order of their tokens.
    ///
    /// They are put in buckets by logit, the masses of whole buckets are added, and only the bucket in which the
    /// prefix ends is sorted.
    fn cut(self, min: f64, needed: u64, kept: &mut Kept, masses: &mut Vec<u64>) {
        const BUCKETS: usize = 2048;
        /// Tokens this far below the best weigh nothing.
        const DEEPEST: f64 = 33.0;
        let range = (self.max - min).min(DEEPEST * self.temperature);
        let buckets_a_unit = BUCKETS as f64 / range;
        // Not decreasing with the distance, whatever rounds on the way; NaN, of a range of 0, goes to the first.
        let bucket = |c: Candidate| (((self.max - c.logit) * buckets_a_unit) as usize).min(BUCKETS - 1);
        let mut sums = [0u64; BUCKETS];
        for (c, mass) in kept.candidates().zip(masses.iter()) {
            sums[bucket(c)] += mass;
        }
        let mut reached = 0;
        let mut last = 0;
        while last + 1 < BUCKETS && reached + sums[last] < needed {
            reached += sums[last];
            last += 1;
        }
        let mut crossing: Vec<(Candidate, u64)> =
            kept.candidates().zip(masses.iter().copied()).filter(|(c, _)| bucket(*c) == last).collect();
        crossing.sort_unstable_by(|a, b| Candidate::order(&a.0, &b.0));
        let mut worst = None;
        for (c, mass) in crossing {
            if reached >= needed {
                break;
            }
            reached += mass;
            worst = Some(c);
        }
        kept.retain(masses, |c, _| {
            bucket(c) < last
                || worst.is_some_and(|w| bucket(c) == last && Candidate::order(&c, &w) != Ordering::Greater)
        });
    }
}

/// ceil(p * total), exact, for p in \[0, 1\].
fn ceil_of_product(p: f64, total: u64) -> u64 {
    let bits = p.to_bits();
    let exponent = (bits >> 52) as i32;
    let mantissa = bits & ((1 << 52) - 1) | if exponent > 0 { 1 << 52 } else { 0 };
    let product = u128::from(mantissa) * u128::from(total);
    let shift = (1075 - exponent.max(1)) as u32;
    if shift >= 128 {
        return u64::from(product > 0);
    }
    let whole = (product >> shift) as u64;
    whole + u64::from(product & ((1u128 << shift) - 1) != 0)
}

impl Live<'_> {
    /// The logit of the `i`th column that has one.
    #[inline(always)]
    fn logit<E: Element>(&self, x: &[E], i: usize) -> f64 {
        match self.logits {
            Logits::Direct => x[self.columns.start + i].widen(),
            Logits::F32(z) => f64::from(z[i]),
            Logits::F64(z) => z[i],
        }
    }

    /// The first token whose logit is such.
    #[inline(always)]
    fn find<E: Element>(&self, x: &[E], such: impl Fn(f64) -> bool) -> usize {
        let found = (0..self.columns.len()).find(|&i| such(self.logit(x, i)));
        self.columns.start + found.unwrap_or(0)
    }

    #[inline(always)]
    fn candidate<E: Element>(&self, x: &[E], i: usize) -> Candidate {
        Candidate { logit: self.logit(x, i), token: (self.columns.start + i) as u32 }
    }

    /// The tokens whose logits are such.
    #[inline(always)]
    fn such<E: Element>(&self, x: &[E], such: impl Fn(f64) -> bool) -> Kept {
        let mut kept = Kept::default();
        (0..self.columns.len()).map(|i| self.candidate(x, i)).filter(|c| such(c.logit)).for_each(|c| kept.push(c));
        kept
    }

    /// All tokens.
    #[inline(always)]
    fn all<I: Isa, E: Element>(&self, isa: I, x: &[E]) -> Kept {
        let mut logits = vec![0.0; self.columns.len()];
        match self.logits {
            Logits::Direct => widen(isa, &x[self.columns.clone()], &mut logits),
            Logits::F32(z) => widen(isa, z, &mut logits),
            Logits::F64(z) => logits.copy_from_slice(z),
        }
        Kept { tokens: (self.columns.start as u32..self.columns.end as u32).collect(), logits }
    }

    /// The k first tokens in order, k below the number of columns, by index.
    ///
    /// The k-th largest of the maxima of blocks is a bound that at least k tokens reach; few others do.
    #[inline(always)]
    fn top_k<I: Isa, E: Element>(&self, isa: I, x: &[E], k: usize) -> Kept {
        let count = self.columns.len();
        let maxima = match self.logits {
            Logits::Direct => block_maxima(isa, &x[self.columns.clone()]),
            Logits::F32(z) => block_maxima(isa, z),
            Logits::F64(z) => block_maxima(isa, z),
        };
        let bound = kth_largest(&maxima, k);
        let mut found = Vec::with_capacity(2 * k);
        for (b, max) in maxima.into_iter().enumerate() {
            if max >= bound {
                let range = b * BLOCK..count.min((b + 1) * BLOCK);
                found.extend(range.map(|i| self.candidate(x, i)));
            }
        }
        let mut kept = Kept::default();
        first_in_order(found, bound, k).into_iter().for_each(|c| kept.push(c));
        kept
    }
}

#[inline(always)]
fn widen<I: Isa, E: Element>(isa: I, x: &[E], to: &mut [f64]) {
    Span::in_place(to).map_from_wide(
        isa,
        x,
        #[inline(always)]
        |_, z| z,
    );
}

/// The k-th largest, or -inf if there are fewer.
fn kth_largest(maxima: &[f64], k: usize) -> f64 {
    if k > maxima.len() {
        return f64::NEG_INFINITY;
    }
    *maxima.to_vec().select_nth_unstable_by(k - 1, |a, b| b.total_cmp(a)).1
}

/// The k first of the candidates that reach the bound and are not masked, by index.
fn first_in_order(mut found: Vec<Candidate>, bound: f64, k: usize) -> Vec<Candidate> {
    found.retain(|c| c.logit >= bound && c.logit > f64::NEG_INFINITY);
    if k < found.len() {
        found.select_nth_unstable_by(k, Candidate::order);
        found.truncate(k);
        found.sort_unstable_by_key(|c| c.token);
    }
    found
}

/// Elements whose maximum stands for them in [`Live::top_k`].
const BLOCK: usize = 4 * LANES;

/// The maximum of each block; no NaN is among the values.
#[inline(always)]
fn block_maxima<I: Isa, E: Element>(isa: I, z: &[E]) -> Vec<f64> {
    let mut maxima = Vec::with_capacity(z.len().div_ceil(BLOCK));
    for values in z.chunks(BLOCK) {
        let max = if E::DTYPE == DType::F64 {
            let lanes = fold(
                values,
                values[0],
                isa.f64(f64::NEG_INFINITY),
                #[inline(always)]
                |max, _, v| E::load_wide(isa, v).max(max),
            );
            isa.array_f64(lanes).into_iter().fold(f64::NEG_INFINITY, f64::max)
        } else {
            let lanes = fold(
                values,
                values[0],
                isa.f32(f32::NEG_INFINITY),
                #[inline(always)]
                |max, _, v| E::load(isa, v).max(max),
            );
            f64::from(isa.array_f32(lanes).into_iter().fold(f32::NEG_INFINITY, f32::max))
        };
        maxima.push(max);
    }
    maxima
}
