//! Random inputs from a printed seed, and the input generators of [`evenkeel::testing`].

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

/// Returns a seed and prints it. Set `EVENKEEL_SEED` to repeat a run with the printed seed.
fn seed(what: &str) -> u64 {
    let fresh = || std::hash::RandomState::new().build_hasher().finish();
    let seed = std::env::var("EVENKEEL_SEED")
        .map_or_else(|_| fresh(), |seed| seed.parse().expect("`EVENKEEL_SEED` must be an integer from 0 to 2^64 - 1"));
    println!("{what}: EVENKEEL_SEED={seed}");
    seed
}

/// Creates a generator with a printed seed.
pub fn rng(what: &str) -> SmallRng {
    SmallRng::seed_from_u64(seed(what))
}

pub fn any_bits<E: Bits>(rng: &mut SmallRng, count: usize) -> Vec<E> {
    (0..count).map(|_| E::from_bits(rng.random())).collect()
}

/// Generates bell-shaped values around a mean. Each is a sum of four uniform numbers.
pub fn bell<E: Bits>(rng: &mut SmallRng, count: usize, mean: f64, spread: f64) -> Vec<E> {
    let one = |rng: &mut SmallRng| (0..4).map(|_| rng.random_range(-1.0..1.0f64)).sum::<f64>();
    (0..count).map(|_| E::from_wide(mean + spread * one(rng))).collect()
}

/// Returns rows of usual numbers, and some special rows. A special row has very small numbers, very large numbers, a
/// large mean, equal numbers, an infinity or a NaN.
pub fn uneven_rows<E: Bits>(rng: &mut SmallRng, rows: usize, cols: usize) -> Vec<E> {
    let row = |row: usize, rng: &mut SmallRng| match row % 19 {
        1 => with_last(bell(rng, cols, 0.0, 1.0), E::from_wide(f64::NEG_INFINITY)),
        2 => bell(rng, cols, 0.0, 1e-41),
        4 => with_last(bell(rng, cols, 0.0, 1.0), E::NAN),
        6 => vec![E::ZERO; cols],
        7 => vec![E::from_wide(3.0); cols],
        9 => bell(rng, cols, 0.0, 1e-22),
        11 => bell(rng, cols, 0.0, 1e22),
        13 => bell(rng, cols, 1e4, 1.0),
        _ => bell(rng, cols, 1.0, 15.0),
    };
    (0..rows).flat_map(|i| row(i, rng)).collect()
}

fn with_last<E: Bits>(mut row: Vec<E>, last: E) -> Vec<E> {
    if let Some(element) = row.last_mut() {
        *element = last;
    }
    row
}

/// Returns row lengths close to the block sizes of the kernels: 16, 256 and 4,096 elements.
pub fn lengths() -> impl Iterator<Item = usize> {
    (1..=70).chain([255, 256, 257, 1000, 4095, 4096, 4097])
}

/// Row lengths below and above 2^18, the limit above which the fixed-point sum uses a finer unit. [`lengths`] does not
/// return them, because computing reference results of such long rows is slow.
pub const LONG_LENGTHS: [usize; 2] = [131_072, 262_145];

/// Returns a proptest configuration with `count` cases and a printed seed. Tests with this configuration write no
/// files. A failure prints its smallest input.
pub fn cases(count: u32) -> ProptestConfig {
    let rng_seed = RngSeed::Fixed(seed("proptest"));
    ProptestConfig { cases: count, rng_seed, failure_persistence: None, ..ProptestConfig::default() }
}
