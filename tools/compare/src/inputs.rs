//! Input numbers that have the same bits in Rust and Python. They are computed from a hash of the index and from sums
//! of integers.

use crate::float::Float;
use evenkeel::Element;

/// Distribution of a set of numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Distribution {
    /// Sum of twelve uniform numbers, which is nearly normal, with mean 0 and standard deviation 3.
    Normal,
    /// Like `Normal` with standard deviation 3/32: logits of an untrained model.
    Flat,
    /// Like `Normal` with standard deviation 3/2. Every 4096th number is 16 larger, so that a few tokens have nearly
    /// all of the probability.
    Peaked,
    /// Uniform above 0 and up to 16, for logarithms.
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

    /// Makes `len` numbers. Each stream gives different numbers. Each number has so few binary digits that f32
    /// represents it exactly. Only the conversion to the element type rounds it.
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

/// Returns 64 pseudo-random bits for an index.
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

/// Computes a checksum of the bits. The Rust and Python sides use it to check that their numbers are equal.
pub fn digest<E: Float>(numbers: &[E]) -> u64 {
    let terms = numbers.iter().enumerate().map(|(i, x)| Element::bits(*x).wrapping_mul(2 * i as u64 + 1));
    terms.fold(0, u64::wrapping_add)
}
