//! Where the shortest prefix ends whose mass reaches a bound, without sorting but what is about there.
//!
//! All masses are exact integers; samples only show where to look, so that no result depends on them.

use super::candidates::Candidate;
use super::scale::Scale;
use super::whole::{Whole, block_from, iota};
use crate::cpu::scratch::room;
use crate::element::Element;
use crate::math::sum::{add_q, grid, units_of};
use crate::simd::{Float, Isa, Kernel, LANES, MaskBits, Select, padded};
use std::cmp::Ordering;

/// Weights that show where to look, and how far to either side.
const SAMPLES: usize = 512;
const ASIDE: usize = 24;
/// Weights that are sorted.
const FEW: usize = 512;
/// How often it is looked at before all that is left is sorted.
const LOOKS: usize = 8;
/// Weights whose sums are taken together.
const RUN: usize = 256 * LANES;

/// Buffers for what is found on the way.
#[derive(Default)]
pub struct Search {
    weights: Vec<f32>,
    pools: [Pool; 2],
    last: Vec<(Candidate, u64)>,
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
    let Search { weights, pools: [pool, other], last } = search;
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
        let (low, high) = bracket(looked_at, least, needed as f64 / mass as f64);
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
        std::mem::swap(pool, other);
        (all, least) = (None, 0.0);
        if pool.count <= FEW || pool.count == count {
            break;
        }
    }
    last.clear();
    last.extend(pool.weights().iter().zip(&pool.places).map(|(&weight, &place)| {
        let logit = whole.z[place as usize].widen();
        (Candidate { logit, token: whole.first as u32 + place }, scale.mass(weight))
    }));
    // They are in order of their tokens.
    let first = last.first()?.0;
    if last.iter().any(|(c, _)| c.logit != first.logit) {
        last.sort_unstable_by(|a, b| order(&a.0, &b.0));
    } else if last.last().is_some_and(|(c, _)| order(c, &first) == Ordering::Less) {
        last.reverse();
    }
    let mut reached = 0;
    let end = last.iter().find(|(_, mass)| {
        reached += mass;
        reached >= needed
    });
    end.or(last.last()).map(|(c, _)| *c)
}

/// Weights, the least of which is of interest, between which a prefix probably ends that has this share of the mass.
fn bracket(weights: &[f32], least: f32, share: f64) -> (f32, f32) {
    if weights.len() <= FEW {
        return (least, f32::INFINITY);
    }
    let (mut samples, mut count) = ([0.0f32; SAMPLES], 0);
    let step = weights.len() as f64 / SAMPLES as f64;
    for i in 0..SAMPLES {
        let weight = weights[((i as f64 + 0.5) * step) as usize];
        if weight >= least {
            samples[count] = weight;
            count += 1;
        }
    }
    let samples = &mut samples[..count];
    samples.sort_unstable_by(|a, b| b.total_cmp(a));
    let wanted = share * samples.iter().map(|&w| f64::from(w)).sum::<f64>();
    let mut sum = 0.0;
    let at = samples.iter().position(|&w| {
        sum += f64::from(w);
        sum >= wanted
    });
    let at = at.unwrap_or(count);
    let low = samples.get(at + ASIDE).copied().unwrap_or(least);
    let high = at.checked_sub(ASIDE).map_or(f32::INFINITY, |i| samples[i]);
    (low, high)
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
        let offset = grid(scale.vocabulary);
        let (mut mass, mut count) = (0u64, 0);
        for (r, run) in weights.chunks(RUN).enumerate() {
            let (blocks, rest) = run.as_chunks::<LANES>();
            let last = padded(rest, -1.0);
            let mut above = (isa.i32(0), isa.i32(0));
            for i in 0..run.len().div_ceil(LANES) {
                let w = isa.load_f32(blocks.get(i).unwrap_or(&last));
                above = add_q(isa, offset, above, I::F32::select(high.lt(w), w, zero));
                let kept = low.le(w) & w.le(high);
                if kept.any() {
                    isa.compress(kept, iota(isa, r * RUN + i * LANES), block_from(places, count));
                    count += isa.compress_f32(kept, w, block_from(within, count));
                }
            }
            mass = mass.wrapping_add(units_of(isa, above, run.len().div_ceil(LANES), scale.vocabulary));
        }
        if all.is_none() {
            places[..count].iter_mut().for_each(|place| *place = pool.places[*place as usize]);
        }
        to.count = count;
        mass
    }
}
