//! Tensors of random numbers. Each element depends only on its index and the stream, and not on how the work is split
//! between threads.

use crate::element::Element;
use crate::error::Result;
use crate::math::exp::term;
use crate::math::log::log;
use crate::math::philox::philox4x32;
use crate::math::trig::sin_cos;
use crate::simd::{self, BLOCK, Float, Isa, Kernel, Work};
use std::f64::consts::TAU;

/// Largest distance of a normally distributed number from the mean, in standard deviations. The smallest uniform
/// number, 2^-53, gives this distance.
pub const NORMAL_REACH: f64 = 8.6;

/// A distribution with valid parameters.
#[derive(Clone, Copy, Debug)]
pub enum Law {
    Uniform {
        low: f64,
        high: f64,
    },
    Normal {
        mean: f64,
        std: f64,
    },
    Truncated {
        mean: f64,
        std: f64,
        low: f64,
        high: f64,
        /// Limits for the number drawn from the standard normal distribution; see [`interval`].
        within: [f64; 2],
    },
}

/// Returns the interval from which a standard normal number between these limits is drawn. The interval is the part of
/// `low ..= high` where the density is at least e^-42 times its largest value between the limits. `low` must be below
/// +inf, and `high` above -inf.
pub fn interval(low: f64, high: f64) -> [f64; 2] {
    let nearest = 0f64.max(low).min(high);
    let distance = nearest.abs();
    // Solves reach^2 - distance^2 = 84 in a form without cancellation.
    let reach = distance + 84.0 / (distance.mul_add(distance, 84.0).sqrt() + distance);
    [low.max(-reach), high.min(reach)]
}

/// Fills a tensor with numbers of this distribution. Each number depends only on `stream` and the number's index.
pub fn fill<E: Element>(x: &mut [E], stream: [u64; 2], law: Law) -> Result<()> {
    simd::run(Fill { x, start: 0, stream, law })
}

struct Fill<'a, E> {
    x: &'a mut [E],
    start: usize,
    stream: [u64; 2],
    law: Law,
}

impl<E: Element> Work for Fill<'_, E> {
    fn rows(&self) -> usize {
        self.x.len().div_ceil(BLOCK)
    }

    fn cols(&self) -> usize {
        BLOCK
    }

    fn split_at(self, at: usize) -> (Self, Self) {
        let at = at * BLOCK;
        let (a, b) = self.x.split_at_mut(at);
        (Fill { x: a, ..self }, Fill { x: b, start: self.start + at, ..self })
    }
}

impl<E: Element> Kernel for Fill<'_, E> {
    type Out = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        for (i, block) in self.x.chunks_mut(BLOCK).enumerate() {
            let first = (self.start + i * BLOCK) as u64;
            let numbers = isa.outline(Block { first, stream: self.stream, law: self.law });
            for (to, number) in block.iter_mut().zip(numbers) {
                *to = E::from_wide(number);
            }
        }
    }
}

/// Kernel that draws numbers for sixteen elements. `first` is the index of the first of these elements.
struct Block {
    first: u64,
    stream: [u64; 2],
    law: Law,
}

impl Kernel for Block {
    type Out = [f64; BLOCK];

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> [f64; BLOCK] {
        let [seed, tensor] = self.stream.map(halves);
        let words: [[u32; 4]; BLOCK] = std::array::from_fn(|i| {
            let [low, high] = halves(self.first.wrapping_add(i as u64));
            philox4x32([low, high, tensor[0], tensor[1]], seed)
        });
        match self.law {
            Law::Uniform { low, high } => words.map(|words| between(low, high, uniforms(words)[0])),
            Law::Normal { mean, std } => normals(isa, words).map(|z| mean + std * z),
            Law::Truncated { mean, std, low, high, within } => {
                truncated(isa, words, seed, within).map(|z| (mean + std * z).max(low).min(high))
            }
        }
    }
}

/// Draws normal numbers by the method of Box and Muller ("A note on the generation of random normal deviates", 1958).
#[inline(always)]
fn normals<I: Isa>(isa: I, words: [[u32; 4]; BLOCK]) -> [f64; BLOCK] {
    // Numbers in (0, 1], whose logarithms are finite.
    let radii = words.map(|words| 1.0 - uniforms(words)[0]);
    let squares = log(isa, isa.load_f64(&radii)).hi * isa.f64(-2.0);
    let radii = isa.array_f64(squares.sqrt());
    std::array::from_fn(|i| radii[i] * sin_cos(TAU * uniforms(words[i])[1]).1.0)
}

/// Draws truncated normal numbers by rejection of uniform numbers. If the limits are two standard deviations below and
/// above the mean, a number takes 1.7 tries on average. If both limits are far above or far below the mean, a number
/// takes up to 42 tries on average.
#[inline(always)]
fn truncated<I: Isa>(isa: I, mut words: [[u32; 4]; BLOCK], seed: [u32; 2], [low, high]: [f64; 2]) -> [f64; BLOCK] {
    // Fewer than one number in 10^42 fails in all of these tries. Such a number becomes the most probable value.
    const TRIES: usize = 4096;
    let nearest = 0f64.max(low).min(high);
    let (mut found, mut open) = ([nearest; BLOCK], [true; BLOCK]);
    for _ in 0..TRIES {
        let tried = words.map(|words| between(low, high, uniforms(words)[0]));
        let x = isa.load_f64(&tried);
        // Logarithm of the probability that x is accepted: (nearest^2 - x^2) / 2, which is 0 or less.
        let power = (isa.f64(nearest) - x) * (x + isa.f64(nearest)) * isa.f64(0.5);
        let chance = isa.array_f64(term(isa, power.min(isa.f64(0.0))));
        for i in 0..BLOCK {
            if open[i] && uniforms(words[i])[1] < chance[i] {
                (found[i], open[i]) = (tried[i], false);
            }
        }
        if open == [false; BLOCK] {
            break;
        }
        words = words.map(|words| philox4x32(words, seed));
    }
    found
}

/// Maps a uniform number in [0, 1) to the range from `low` to `high`. The result can be `high`, but only because of
/// rounding.
#[inline(always)]
fn between(low: f64, high: f64, uniform: f64) -> f64 {
    (low + (high - low) * uniform).min(high)
}

/// Returns two numbers in [0, 1) that are multiples of 2^-53.
#[inline(always)]
fn uniforms([a, b, c, d]: [u32; 4]) -> [f64; 2] {
    let number = |low: u32, high: u32| {
        let bits = u64::from(low) | u64::from(high) << 32;
        (bits >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    };
    [number(a, b), number(c, d)]
}

/// Returns the low and the high 32 bits.
#[inline(always)]
pub fn halves(v: u64) -> [u32; 2] {
    [v as u32, (v >> 32) as u32]
}
