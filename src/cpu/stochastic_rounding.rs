//! Stochastic rounding to 16-bit types. The random bits of an element depend only on the element's index, the tensor
//! and the step.

use super::random::halves;
use crate::element::Element;
use crate::error::Result;
use crate::math::philox::{ROUNDINGS, philox4x32};
use crate::simd::{self, Isa, Kernel, Work};

/// Number of elements that are processed together, a multiple of 4.
const CHUNK: usize = 512;

/// Source of the random bits of one tensor in one step.
#[derive(Clone, Copy, Debug)]
pub struct RandomBits {
    key: [u32; 2],
    tensor: [u32; 2],
}

impl RandomBits {
    /// Creates the source for a tensor and a step, from a seed, the number of the tensor and the number of the step.
    pub fn new([seed, tensor]: [u64; 2], step: u64) -> Self {
        let [low, high] = halves(step);
        // The counter of Philox has no bits left for the step, so each step has a key of its own.
        let [a, b, ..] = philox4x32([low, high, 0, 0], halves(seed ^ ROUNDINGS));
        RandomBits { key: [a, b], tensor: halves(tensor) }
    }

    /// Returns the random bits of the four elements that begin at index `4 * block`.
    fn of_four(self, block: u64) -> [u32; 4] {
        let [low, high] = halves(block);
        philox4x32([low, high, self.tensor[0], self.tensor[1]], self.key)
    }
}

/// Rounds the elements of a tensor from index `first` on. `first` is a multiple of 4.
pub fn round<S: Element, P: Element>(from: &[S], to: &mut [P], first: usize, bits: RandomBits) {
    for (i, (from, to)) in from.chunks(4).zip(to.chunks_mut(4)).enumerate() {
        let random = bits.of_four((first / 4 + i) as u64);
        for ((&from, to), random) in from.iter().zip(to).zip(random) {
            *to = rounded(from.widen(), random);
        }
    }
}

/// Rounds x to one of its two neighbours. The probability of a neighbour is proportional to the distance from x to the
/// other neighbour.
fn rounded<P: Element>(x: f64, random: u32) -> P {
    let magnitude = x.abs();
    if magnitude > P::LIMITS.max || x.is_nan() {
        return P::from_wide(x);
    }
    let binade = f64::from_bits(magnitude.max(P::LIMITS.min_normal).to_bits() & 0x7ff0_0000_0000_0000);
    let unit = binade * P::LIMITS.epsilon;
    let units = magnitude / unit;
    let below = f64::from(units as u32);
    let up = (f64::from(random) + 0.5) * (1.0 / (1u64 << 32) as f64) < units - below;
    let result = if up { below + 1.0 } else { below } * unit;
    P::from_wide(result.copysign(x))
}

/// Rounds a tensor.
pub fn round_all<P: Element>(from: &[f32], to: &mut [P], bits: RandomBits) -> Result<()> {
    simd::run(Rounding { from, to, first: 0, bits })
}

struct Rounding<'a, P> {
    from: &'a [f32],
    to: &'a mut [P],
    first: usize,
    bits: RandomBits,
}

impl<P: Element> Work for Rounding<'_, P> {
    fn rows(&self) -> usize {
        self.to.len().div_ceil(CHUNK)
    }

    fn cols(&self) -> usize {
        CHUNK
    }

    fn split_at(self, at: usize) -> (Self, Self) {
        let at = at * CHUNK;
        let ((from, more_from), (to, more_to)) = (self.from.split_at(at), self.to.split_at_mut(at));
        (Rounding { from, to, ..self }, Rounding { from: more_from, to: more_to, first: self.first + at, ..self })
    }
}

impl<P: Element> Kernel for Rounding<'_, P> {
    type Out = ();

    #[inline(always)]
    fn run<I: Isa>(self, _: I) {
        round(self.from, self.to, self.first, self.bits);
    }
}
