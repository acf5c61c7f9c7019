//! Search for the last token of the shortest prefix of the sorted tokens whose mass reaches a bound.
//!
//! Only candidates with the same weight as the last one of the prefix are sorted. All masses are exact integers.
//! Sampled weights are used only to narrow the search range, so no result depends on the samples.

use super::candidates::Candidate;
use super::logit_slice::{GROUP, LogitSlice, block_from, iota};
use super::scale::Scale;
use crate::cpu::scratch::scratch_slice;
use crate::element::Element;
use crate::math::sum::{add_q, grid, units_of};
use crate::simd::{BLOCK, Float, Isa, Kernel, MaskBits, Select, allocated, padded};
use std::cmp::Ordering;

/// Number of weights sampled to bracket the smallest weight of the prefix.
const SAMPLES: usize = 512;
/// Number of samples by which the bracket extends on each side of the estimated smallest weight.
const ASIDE: usize = 24;
/// Maximum number of weights for bisection without sampling.
const FEW: usize = 512;
/// Maximum number of sampling rounds. After the last round, bisection searches all remaining weights.
const LOOKS: usize = 8;
/// Number of weights summed in 32-bit integers before widening to 64 bits.
const RUN: usize = 256 * BLOCK;

/// Reusable buffers of the search.
#[derive(Default)]
pub struct Search {
    weights: Vec<f32>,
    pools: [Pool; 2],
    /// Candidates with the same weight as the last candidate of the prefix.
    last: Vec<Candidate>,
}

impl Search {
    /// Returns the weights of the row that was searched last. The row has `len` tokens.
    pub fn weights(&self, len: usize) -> &[f32] {
        &self.weights[..len]
    }
}

/// Subset of the weights, with the positions of their tokens in ascending order.
#[derive(Default)]
struct Pool {
    count: usize,
    weights: Vec<f32>,
    places: Vec<u32>,
}

allocated! {
    Search { weights, pools, last }
    Pool { count, weights, places }
}

impl Pool {
    fn weights(&self) -> &[f32] {
        &self.weights[..self.count]
    }
}

#[inline(always)]
fn weigh<'s, I: Isa, S: Element>(
    isa: I,
    whole: LogitSlice<'_, S>,
    scale: Scale,
    weights: &'s mut Vec<f32>,
) -> &'s [f32] {
    let weights = scratch_slice(weights, whole.z.len());
    scale.weigh(isa, whole.z, weights);
    weights
}

/// Returns the mass of all tokens.
#[inline(always)]
pub fn mass<I: Isa, S: Element>(isa: I, whole: LogitSlice<'_, S>, scale: Scale, search: &mut Search) -> u64 {
    scale.mass_of(isa, weigh(isa, whole, scale, &mut search.weights))
}

/// Finds the shortest prefix, in the order `order`, whose mass is at least p times the total mass. Returns the last
/// candidate of this prefix.
#[inline(always)]
pub fn last<I: Isa, S: Element>(
    isa: I,
    whole: LogitSlice<'_, S>,
    p: f64,
    order: fn(&Candidate, &Candidate) -> Ordering,
    scale: Scale,
    search: &mut Search,
) -> Option<Candidate> {
    let Search { weights, pools, last } = search;
    let [mut pool, mut other] = pools.each_mut();
    let weights = weigh(isa, whole, scale, weights);
    let n = whole.z.len() as u64;
    let mut mass = scale.mass_of(isa, weights);
    let mut needed = super::top_p::ceil_of_product(p, mass);
    // The total mass of the weights below `least` is at most half of `lacks`. So the other weights have at least the
    // needed mass, and the prefix has no weight below `least`.
    let lacks = mass - needed;
    let mut least = if lacks < 2 * n { 0.0 } else { (scale.weight(lacks) / (2 * n) as f64) as f32 };
    let mut all = Some(weights);
    for _ in 0..LOOKS {
        let looked_at = all.unwrap_or(pool.weights());
        let count = looked_at.len();
        let (low, high) = bracket(isa, looked_at, least, needed as f64 / mass as f64, scale);
        let above = split(isa, all, pool, (low, high), scale, other);
        let within = scale.mass_of(isa, other.weights());
        if above >= needed {
            split(isa, all, pool, (high.next_up(), f32::INFINITY), scale, other);
            mass = above;
        } else if above + within < needed {
            split(isa, all, pool, (0.0, low.next_down()), scale, other);
            needed -= above + within;
            mass = mass.saturating_sub(above + within).max(needed);
        } else {
            needed -= above;
            mass = within;
        }
        std::mem::swap(&mut pool, &mut other);
        (all, least) = (None, 0.0);
        if pool.count <= FEW || pool.count == count {
            break;
        }
    }
    let weight = reached(isa, pool.weights(), scale, 0, |mass, _| mass >= needed);
    let (above, _) = at_least(isa, pool.weights(), weight.next_up(), scale);
    last.clear();
    last.extend(
        (pool.weights().iter().zip(&pool.places))
            .filter(|(w, _)| **w == weight)
            .map(|(_, &place)| Candidate { logit: whole.z[place as usize].widen(), token: whole.first as u32 + place }),
    );
    // The candidates are in order of index. If all their logits are equal, `order` either keeps or reverses this order.
    let first = *last.first()?;
    if last.iter().any(|c| c.logit != first.logit) {
        last.sort_unstable_by(order);
    } else if last.last().is_some_and(|c| order(c, &first) == Ordering::Less) {
        last.reverse();
    }
    let count = needed.saturating_sub(above).div_ceil(scale.mass(weight).max(1));
    last.get((count as usize).clamp(1, last.len()) - 1).copied()
}

/// Estimates the smallest weight of the prefix that has the fraction `share` of the mass. Returns two weights that
/// probably bracket this weight.
///
/// The caller guarantees that the prefix has no weight below `least`.
#[inline(always)]
fn bracket<I: Isa>(isa: I, weights: &[f32], least: f32, share: f64, scale: Scale) -> (f32, f32) {
    /// Number of low-order bits of weights that the bracket search ignores.
    const COARSE: u32 = 14;
    if weights.len() <= FEW {
        return (least, f32::INFINITY);
    }
    let (mut samples, mut count) = ([0.0f32; SAMPLES], 0);
    let step = weights.len() as f64 / SAMPLES as f64;
    for i in 0..SAMPLES {
        let weight = weights[((i as f64 + 0.5) * step) as usize];
        samples[count] = weight;
        count += usize::from(weight >= least);
    }
    let samples = &samples[..count];
    let wanted = (share * scale.mass_of(isa, samples) as f64) as u64;
    let at = reached(isa, samples, scale, COARSE, |mass, _| mass >= wanted);
    let (_, rank) = at_least(isa, samples, at, scale);
    let low = match rank + ASIDE {
        rank if rank < count => reached(isa, samples, scale, COARSE, |_, count| count >= rank),
        _ => least,
    };
    let high = match rank.checked_sub(ASIDE) {
        Some(rank) if rank > 0 => reached(isa, samples, scale, COARSE, |_, count| count >= rank),
        _ => f32::INFINITY,
    };
    (low.max(least), high.max(low))
}

/// Returns the largest bound for which `such` returns true. `such` gets the mass of all weights that reach the bound,
/// and the number of these weights.
///
/// `such` must be monotone: if `such` returns true for a bound, it must also return true for every lower bound. The
/// search bisects the bit patterns of floats, without their last `coarse` bits.
#[inline(always)]
fn reached<I: Isa>(isa: I, weights: &[f32], scale: Scale, coarse: u32, such: impl Fn(u64, usize) -> bool) -> f32 {
    // The bit patterns of nonnegative floats have the order of their values.
    let bits = || weights.iter().map(|w| w.to_bits());
    let (least, largest) = (bits().min().unwrap_or(0), bits().max().unwrap_or(0));
    let (mut low, mut high) = (least >> coarse, (largest >> coarse) + 1);
    while low + 1 < high {
        let middle = low + (high - low) / 2;
        let (mass, count) = at_least(isa, weights, f32::from_bits(middle << coarse), scale);
        if such(mass, count) {
            low = middle;
        } else {
            high = middle;
        }
    }
    f32::from_bits(low << coarse)
}

/// Returns the mass of the weights that reach `bound`, and the number of these weights.
#[inline(always)]
fn at_least<I: Isa>(isa: I, weights: &[f32], bound: f32, scale: Scale) -> (u64, usize) {
    isa.outline(AtLeast { weights, bound, scale })
}

struct AtLeast<'a> {
    weights: &'a [f32],
    bound: f32,
    scale: Scale,
}

impl Kernel for AtLeast<'_> {
    type Out = (u64, usize);

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> (u64, usize) {
        let AtLeast { weights, bound, scale } = self;
        let (bound, zero, offset) = (isa.f32(bound), isa.f32(0.0), grid(scale.vocabulary));
        let (mut mass, mut count) = (0u64, 0);
        for run in weights.chunks(RUN) {
            let (blocks, rest) = run.as_chunks::<BLOCK>();
            let last = padded(rest, -1.0);
            let mut sums = (isa.i32(0), isa.i32(0));
            for i in 0..run.len().div_ceil(BLOCK) {
                let w = isa.load_f32(blocks.get(i).unwrap_or(&last));
                let such = bound.le(w);
                count += such.bits().count_ones() as usize;
                sums = add_q(isa, offset, sums, I::F32::select(such, w, zero));
            }
            mass = mass.wrapping_add(units_of(isa, sums, run.len().div_ceil(BLOCK), scale.vocabulary));
        }
        (mass, count)
    }
}

/// Fills `to` with the weights in \[low, high\], and returns the mass of the weights above `high`.
///
/// The weights come from `all` if it is given, otherwise from `pool`.
#[inline(always)]
fn split<I: Isa>(
    isa: I,
    all: Option<&[f32]>,
    pool: &Pool,
    (low, high): (f32, f32),
    scale: Scale,
    to: &mut Pool,
) -> u64 {
    isa.outline(Split { all, pool, low, high, scale, to })
}

struct Split<'a> {
    all: Option<&'a [f32]>,
    pool: &'a Pool,
    low: f32,
    high: f32,
    scale: Scale,
    to: &'a mut Pool,
}

impl Kernel for Split<'_> {
    type Out = u64;

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> u64 {
        let Split { all, pool, low, high, scale, to } = self;
        let weights = all.unwrap_or(pool.weights());
        let within = scratch_slice(&mut to.weights, weights.len() + BLOCK);
        let places = scratch_slice(&mut to.places, weights.len() + BLOCK);
        let (low, high, zero) = (isa.f32(low), isa.f32(high), isa.f32(0.0));
        let none = zero.lt(zero);
        let offset = grid(scale.vocabulary);
        let (mut mass, mut count) = (0u64, 0);
        for (r, run) in weights.chunks(RUN).enumerate() {
            let (blocks, rest) = run.as_chunks::<BLOCK>();
            let last = padded(rest, -1.0);
            let mut above = (isa.i32(0), isa.i32(0));
            let count_of_blocks = run.len().div_ceil(BLOCK);
            for first in (0..count_of_blocks).step_by(GROUP) {
                let mut group = [(zero, none); GROUP];
                let mut any = none;
                for (i, (w, kept)) in group.iter_mut().enumerate() {
                    *w = isa.load_f32(block_of(blocks, &last, first + i));
                    above = add_q(isa, offset, above, I::F32::select(high.lt(*w), *w, zero));
                    *kept = low.le(*w) & w.le(high);
                    any = any | *kept;
                }
                if any.any() {
                    for (i, (w, kept)) in group.into_iter().enumerate() {
                        let place = r * RUN + (first + i) * BLOCK;
                        isa.compress(kept, iota(isa, place), block_from(places, count));
                        count += isa.compress_f32(kept, w, block_from(within, count));
                    }
                }
            }
            let count_of_blocks = count_of_blocks.next_multiple_of(GROUP);
            mass = mass.wrapping_add(units_of(isa, above, count_of_blocks, scale.vocabulary));
        }
        if all.is_none() {
            places[..count].iter_mut().for_each(|place| *place = pool.places[*place as usize]);
        }
        to.count = count;
        mass
    }
}

/// Returns block i. The order is: the complete blocks, the block `last` with the padded remainder, then blocks of
/// padding.
#[inline(always)]
fn block_of<'w>(blocks: &'w [[f32; BLOCK]], last: &'w [f32; BLOCK], i: usize) -> &'w [f32; BLOCK] {
    const NOTHING: [f32; BLOCK] = [-1.0; BLOCK];
    match blocks.get(i) {
        Some(block) => block,
        None if i == blocks.len() => last,
        None => &NOTHING,
    }
}
