//! Where the shortest prefix ends whose mass reaches a bound, without sorting but what is about there.
//!
//! All masses are exact integers; samples only show where to look, so that no result depends on them.

use super::candidates::Candidate;
use super::scale::Scale;
use super::whole::{GROUP, Whole, block_from, iota};
use crate::cpu::scratch::room;
use crate::element::Element;
use crate::math::sum::{add_q, grid, units_of};
use crate::simd::{Float, Isa, Kernel, LANES, MaskBits, Select, padded};
use std::cmp::Ordering;

/// Weights that show where to look, and how far to either side.
const SAMPLES: usize = 512;
const ASIDE: usize = 24;
/// Weights among which the end is looked for by halves.
const FEW: usize = 512;
/// How often samples are looked at before that is done with all that are left.
const LOOKS: usize = 8;
/// Weights whose sums are taken together.
const RUN: usize = 256 * LANES;

/// Buffers for what is found on the way.
#[derive(Default)]
pub struct Search {
    weights: Vec<f32>,
    pools: [Pool; 2],
    last: Vec<Candidate>,
}

impl Search {
    /// The weights of a row of so many, of which the last candidate was found.
    pub fn weights(&self, len: usize) -> &[f32] {
        &self.weights[..len]
    }
}

/// Weights and the places of their tokens, in order of these.
#[derive(Default)]
struct Pool {
    count: usize,
    weights: Vec<f32>,
    places: Vec<u32>,
}

impl Pool {
    fn weights(&self) -> &[f32] {
        &self.weights[..self.count]
    }
}

#[inline(always)]
fn weigh<'s, I: Isa, S: Element>(isa: I, whole: Whole<'_, S>, scale: Scale, weights: &'s mut Vec<f32>) -> &'s [f32] {
    let weights = room(weights, whole.z.len());
    scale.weigh(isa, whole.z, weights);
    weights
}

/// The mass of all tokens.
#[inline(always)]
pub fn mass<I: Isa, S: Element>(isa: I, whole: Whole<'_, S>, scale: Scale, search: &mut Search) -> u64 {
    scale.mass_of(isa, weigh(isa, whole, scale, &mut search.weights))
}

/// The last candidate of the shortest prefix, in this order, whose mass is at least a share p of that of all.
#[inline(always)]
pub fn last<I: Isa, S: Element>(
    isa: I,
    whole: Whole<'_, S>,
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
    // What is below this weighs no more, all together, than half of what the prefix lacks.
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
    // They are in order of their tokens.
    let first = *last.first()?;
    if last.iter().any(|c| c.logit != first.logit) {
        last.sort_unstable_by(order);
    } else if last.last().is_some_and(|c| order(c, &first) == Ordering::Less) {
        last.reverse();
    }
    let count = needed.saturating_sub(above).div_ceil(scale.mass(weight).max(1));
    last.get((count as usize).clamp(1, last.len()) - 1).copied()
}

/// Weights, the least of which is of interest, between which a prefix probably ends that has this share of the mass.
#[inline(always)]
fn bracket<I: Isa>(isa: I, weights: &[f32], least: f32, share: f64, scale: Scale) -> (f32, f32) {
    /// Digits of weights that make no difference.
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

/// The largest bound of which this is true, by the mass and the number of the weights that are at least so large; it is
/// true of what is true of a larger one. It is looked for among the weights' values, without their last `coarse` bits.
#[inline(always)]
fn reached<I: Isa>(isa: I, weights: &[f32], scale: Scale, coarse: u32, such: impl Fn(u64, usize) -> bool) -> f32 {
    // The bits of numbers that are not negative are in their order.
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

/// The mass and the number of the weights that are at least so large.
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
            let (blocks, rest) = run.as_chunks::<LANES>();
            let last = padded(rest, -1.0);
            let mut sums = (isa.i32(0), isa.i32(0));
            for i in 0..run.len().div_ceil(LANES) {
                let w = isa.load_f32(blocks.get(i).unwrap_or(&last));
                let such = bound.le(w);
                count += such.bits().count_ones() as usize;
                sums = add_q(isa, offset, sums, I::F32::select(such, w, zero));
            }
            mass = mass.wrapping_add(units_of(isa, sums, run.len().div_ceil(LANES), scale.vocabulary));
        }
        (mass, count)
    }
}

/// Fills `to` with the weights within these two, and gives the mass of those above; of all weights of a row, or else of
/// a pool.
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
        let within = room(&mut to.weights, weights.len() + LANES);
        let places = room(&mut to.places, weights.len() + LANES);
        let (low, high, zero) = (isa.f32(low), isa.f32(high), isa.f32(0.0));
        let none = zero.lt(zero);
        let offset = grid(scale.vocabulary);
        let (mut mass, mut count) = (0u64, 0);
        for (r, run) in weights.chunks(RUN).enumerate() {
            let (blocks, rest) = run.as_chunks::<LANES>();
            let last = padded(rest, -1.0);
            let mut above = (isa.i32(0), isa.i32(0));
            let count_of_blocks = run.len().div_ceil(LANES);
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
                        let place = r * RUN + (first + i) * LANES;
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

/// A block of weights, the last of which is padded; nothing is behind it.
#[inline(always)]
fn block_of<'w>(blocks: &'w [[f32; LANES]], last: &'w [f32; LANES], i: usize) -> &'w [f32; LANES] {
    const NOTHING: [f32; LANES] = [-1.0; LANES];
    match blocks.get(i) {
        Some(block) => block,
        None if i == blocks.len() => last,
        None => &NOTHING,
    }
}
