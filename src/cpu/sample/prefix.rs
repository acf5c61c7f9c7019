//! Where the shortest prefix ends whose mass reaches a bound, without sorting but what is about there.
//!
//! All masses are exact integers; samples only show where to look, so that no result depends on them.

use super::candidates::{Candidate, Scale};
use super::whole::{Whole, block_from, iota};
use crate::cpu::scratch::room;
use crate::element::Element;
use crate::math::softmax_exp::PairExp;
use crate::math::sum::sum_q;
use crate::simd::{Float, Isa, Kernel, LANES, Select, Span, padded};
use std::cmp::Ordering;

/// Weights that show where to look, and how far to either side.
const SAMPLES: usize = 256;
const ASIDE: usize = 20;
/// Weights that are sorted.
const FEW: usize = 512;
/// Weights that are split at a time.
const RUN: usize = 1024;

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
    weights: Vec<f32>,
    places: Vec<u32>,
}

#[inline(always)]
fn weigh<'s, I: Isa, S: Element>(isa: I, whole: Whole<'_, S>, scale: Scale, weights: &'s mut Vec<f32>) -> &'s [f32] {
    let exp = PairExp::new(isa);
    Span::in_place(room(weights, whole.z.len())).reading(whole.z).narrow_numbers(
        isa,
        #[inline(always)]
        |_, z| exp.exp(scale.distance(isa, z)),
    );
    &weights[..whole.z.len()]
}

/// The mass of all tokens.
#[inline(always)]
pub fn mass<I: Isa, S: Element>(isa: I, whole: Whole<'_, S>, scale: Scale, search: &mut Search) -> u64 {
    sum_q(isa, weigh(isa, whole, scale, &mut search.weights), scale.vocabulary)
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
    let mut mass = sum_q(isa, weights, scale.vocabulary);
    let mut needed = super::top_p::ceil_of_product(p, mass);
    // What is below this weighs no more, all together, than half of what the prefix lacks.
    let lacks = mass - needed;
    let least = if lacks < 2 * n { 0.0 } else { (scale.weight(lacks) / (2 * n) as f64) as f32 };
    pool.clear();
    split(isa, Some(weights), &Pool::default(), (least, f32::INFINITY), scale, pool);
    while pool.weights.len() > FEW {
        let (low, high) = pool.bracket(needed as f64 / mass as f64);
        let above = split(isa, None, pool, (low, high), scale, other);
        let within = sum_q(isa, &other.weights, scale.vocabulary);
        if above >= needed {
            split(isa, None, pool, (high.next_up(), f32::INFINITY), scale, other);
            mass = above;
        } else if above + within < needed {
            split(isa, None, pool, (0.0, low.next_down()), scale, other);
            needed -= above + within;
            mass = mass.saturating_sub(above + within).max(needed);
        } else {
            needed -= above;
            mass = within;
        }
        if other.weights.len() == pool.weights.len() {
            break;
        }
        std::mem::swap(pool, other);
    }
    last.clear();
    last.extend(pool.weights.iter().zip(&pool.places).map(|(&weight, &place)| {
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

impl Pool {
    fn clear(&mut self) {
        self.weights.clear();
        self.places.clear();
    }

    /// Weights between which a prefix probably ends that has this share of the mass.
    fn bracket(&self, share: f64) -> (f32, f32) {
        let mut samples = [0.0f32; SAMPLES];
        let step = self.weights.len() as f64 / SAMPLES as f64;
        for (i, sample) in samples.iter_mut().enumerate() {
            *sample = self.weights[((i as f64 + 0.5) * step) as usize];
        }
        samples.sort_unstable_by(|a, b| b.total_cmp(a));
        let wanted = share * samples.iter().map(|&w| f64::from(w)).sum::<f64>();
        let mut sum = 0.0;
        let at = samples.iter().position(|&w| {
            sum += f64::from(w);
            sum >= wanted
        });
        let at = at.unwrap_or(SAMPLES - 1);
        let low = samples.get(at + ASIDE).copied().unwrap_or(0.0);
        let high = at.checked_sub(ASIDE).map_or(f32::INFINITY, |i| samples[i]);
        (low, high)
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
        to.clear();
        let weights = all.unwrap_or(&pool.weights);
        let (low, high, zero) = (isa.f32(low), isa.f32(high), isa.f32(0.0));
        let mut mass = 0u64;
        for (r, run) in weights.chunks(RUN).enumerate() {
            let mut above = [0.0f32; RUN];
            let (mut within, mut places) = ([0i32; RUN + LANES], [0i32; RUN + LANES]);
            let mut count = 0;
            let (blocks, rest) = run.as_chunks::<LANES>();
            let buffer = padded(rest, -1.0);
            for i in 0..blocks.len() + usize::from(!rest.is_empty()) {
                let w = isa.load_f32(blocks.get(i).unwrap_or(&buffer));
                let over = isa.array_f32(I::F32::select(high.lt(w), w, zero));
                above[i * LANES..][..LANES].copy_from_slice(&over);
                let kept = low.le(w) & w.le(high);
                isa.compress(kept, iota(isa, r * RUN + i * LANES), block_from(&mut places, count));
                count += isa.compress(kept, w.to_bits(), block_from(&mut within, count));
            }
            mass += sum_q(isa, &above[..run.len()], scale.vocabulary);
            to.weights.extend(within[..count].iter().map(|bits| f32::from_bits(*bits as u32)));
            match all {
                Some(_) => to.places.extend(places[..count].iter().map(|&place| place as u32)),
                None => to.places.extend(places[..count].iter().map(|&place| pool.places[place as usize])),
            }
        }
        mass
    }
}
