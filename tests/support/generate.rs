//! Inputs that are random with a printed seed, and with them those that the library has for everyone's tests.

pub use evenkeel::testing::hostile::{
    Hostile, any_finite as any_finite_row, bell as bell_row, far_mean, scattered, scores as hostile_scores,
    vectors as hostile_vectors,
};
pub use evenkeel::testing::values::{Bits, all, spaced, special, walk};
use proptest::prelude::ProptestConfig;
use proptest::test_runner::RngSeed;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use std::hash::{BuildHasher, Hasher};

/// A seed that is printed, and can be given again in `EVENKEEL_SEED`.
fn seed(what: &str) -> u64 {
    let fresh = || std::hash::RandomState::new().build_hasher().finish();
    let seed = std::env::var("EVENKEEL_SEED").map_or_else(|_| fresh(), |seed| seed.parse().expect("a number"));
    println!("{what}: EVENKEEL_SEED={seed}");
    seed
}

/// A generator from such a seed.
pub fn rng(what: &str) -> SmallRng {
    SmallRng::seed_from_u64(seed(what))
}

/// Values of any bits.
pub fn any_bits<E: Bits>(rng: &mut SmallRng, count: usize) -> Vec<E> {
    (0..count).map(|_| E::from_bits(rng.random())).collect()
}

/// Values about a mean, the sum of four uniform ones.
pub fn bell<E: Bits>(rng: &mut SmallRng, count: usize, mean: f64, spread: f64) -> Vec<E> {
    let one = |rng: &mut SmallRng| (0..4).map(|_| rng.random_range(-1.0..1.0f64)).sum::<f64>();
    (0..count).map(|_| E::from_wide(mean + spread * one(rng))).collect()
}

/// Row lengths at the edges of what kernels do differently: blocks of sixteen, tiles of 256, runs of 4,096.
pub fn lengths() -> impl Iterator<Item = usize> {
    (1..=70).chain([255, 256, 257, 1000, 4095, 4096, 4097])
}

/// Lengths at the edge where rule Q changes its unit; slow to have a reference for.
pub const LONG_LENGTHS: [usize; 2] = [131_072, 262_145];

/// What proptest runs: so many cases from such a seed, and no files; a failure prints its smallest input.
pub fn cases(count: u32) -> ProptestConfig {
    let rng_seed = RngSeed::Fixed(seed("proptest"));
    ProptestConfig { cases: count, rng_seed, failure_persistence: None, ..ProptestConfig::default() }
}
