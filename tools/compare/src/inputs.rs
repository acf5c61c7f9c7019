//! Numbers that the Rust and the Python side make bit for bit: a hash of each one's index, and sums of integers.

use crate::float::Float;
use evenkeel::Element;

/// What a set of numbers looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Distribution {
    /// Near enough to normal, with mean 0 and standard deviation 3: the sum of twelve uniform numbers.
    Normal,
    /// The same with standard deviation 3/32: logits of a model that knows nothing.
    Flat,
    /// The same with standard deviation 3/2, and every 4096th 16 more: a few tokens hold nearly all probability.
    Peaked,
    /// Uniform above 0, up to 16: for logarithms.
    Positive,
}

impl Distribution {
    pub fn name(self) -> &'static str {
        match self {
            Distribution::Normal => "normal",
            Distribution::Flat => "flat",
            Distribution::Peaked => "peaked",
            Distribution::Positive => "positive",
        }
    }

    /// As many numbers; sets with different streams are different. All are multiples of a power of two with few enough
    /// digits to be exact in f32, so that the only rounding is that to the type.
    pub fn numbers<E: Float>(self, stream: u64, len: usize) -> Vec<E> {
        let index = |i: usize| stream << 40 | i as u64;
        match self {
            Distribution::Normal => (0..len).map(|i| E::narrow(normal(index(i)))).collect(),
            Distribution::Flat => (0..len).map(|i| E::narrow(normal(index(i)) / 32.0)).collect(),
            Distribution::Peaked => (0..len).map(|i| E::narrow(peaked(index(i)))).collect(),
            Distribution::Positive => (0..len).map(|i| E::narrow(positive(index(i)))).collect(),
        }
    }
}

/// 64 bits that have little to do with those of the index.
fn hash(index: u64) -> u64 {
    let h = (index + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let h = (h ^ h >> 32).wrapping_mul(0xd6e8_feb8_6659_fd93);
    h ^ h >> 32
}

fn normal(index: u64) -> f32 {
    let quarters = |h: u64| (h & 0xffff) + (h >> 16 & 0xffff) + (h >> 32 & 0xffff) + (h >> 48);
    let sum: u64 = (0..3).map(|k| quarters(hash(3 * index + k))).sum();
    (sum as f32 - (6 * 65535) as f32) * (3.0 / 65536.0)
}

fn peaked(index: u64) -> f32 {
    normal(index) / 2.0 + if index % 4096 == 17 { 16.0 } else { 0.0 }
}

fn positive(index: u64) -> f32 {
    ((hash(index) >> 40) + 1) as f32 / (1 << 20) as f32
}

/// A checksum of the bits, by which the two sides know that they have the same numbers.
pub fn digest<E: Float>(numbers: &[E]) -> u64 {
    let terms = numbers.iter().enumerate().map(|(i, x)| Element::bits(*x).wrapping_mul(2 * i as u64 + 1));
    terms.fold(0, u64::wrapping_add)
}
