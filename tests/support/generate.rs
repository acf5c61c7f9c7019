//! Inputs: a walk of single steps around interesting points, even spacing, random with a printed seed, and rows made
//! to break naive formulas.

use evenkeel::Element;
use half::{bf16, f16};
use proptest::prelude::*;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use std::hash::{BuildHasher, Hasher};

/// A storage type whose values can be made of their bits.
pub trait Bits: Element {
    /// How many bits a value has.
    const WIDTH: u32;
    /// The value of these bits.
    fn from_bits(bits: u64) -> Self;

    /// The place of a value in increasing order, zeros at 0 and infinities at the ends; not for NaN.
    fn place(self) -> i64 {
        let sign = 1 << (Self::WIDTH - 1);
        let magnitude = (self.bits() & (sign - 1)) as i64;
        if self.bits() & sign == 0 { magnitude } else { -magnitude }
    }

    /// The value at a place, or the infinity of that side.
    fn at_place(place: i64) -> Self {
        let magnitude = place.unsigned_abs().min(Self::INFINITY.bits());
        Self::from_bits(if place < 0 { magnitude | 1 << (Self::WIDTH - 1) } else { magnitude })
    }
}

macro_rules! bits {
    ($($type:ident $bits:ident),*) => {$(
        impl Bits for $type {
            const WIDTH: u32 = $bits::BITS;
            fn from_bits(bits: u64) -> Self {
                $type::from_bits(bits as $bits)
            }
        }
    )*};
}
bits!(f64 u64, f32 u32, f16 u16, bf16 u16);

/// Every value of a 16-bit type, NaN among them.
pub fn all<E: Bits>() -> Vec<E> {
    assert_eq!(E::WIDTH, 16);
    (0..1 << 16).map(E::from_bits).collect()
}

/// Zeros, infinities, NaN of several payloads, and the ends of the subnormal, the normal and the finite numbers.
pub fn special<E: Bits>() -> Vec<E> {
    let quiet = E::NAN.bits();
    let sign = 1 << (E::WIDTH - 1);
    let mut values: Vec<E> = [quiet, quiet | sign, quiet | 1, E::INFINITY.bits() + 1].map(E::from_bits).to_vec();
    let limits = E::LIMITS;
    for magnitude in [0.0, limits.min_subnormal, limits.min_normal, 1.0, limits.max, f64::INFINITY] {
        values.extend([E::from_wide(magnitude), E::from_wide(-magnitude)]);
    }
    values
}

/// Every value within so many steps of each point.
pub fn walk<E: Bits>(points: &[f64], steps: i64) -> Vec<E> {
    let around = |&point: &f64| {
        let place = E::from_wide(point).place();
        (place - steps..=place + steps).map(E::at_place)
    };
    points.iter().flat_map(around).collect()
}

/// As many values, evenly spaced by place from one value to another.
pub fn spaced<E: Bits>(from: f64, to: f64, count: usize) -> Vec<E> {
    let (from, to) = (i128::from(E::from_wide(from).place()), i128::from(E::from_wide(to).place()));
    (0..count as i128).map(|i| E::at_place((from + (to - from) * i / count as i128) as i64)).collect()
}

/// A generator whose seed is printed, and can be given again in `EVENKEEL_SEED`.
pub fn rng(what: &str) -> SmallRng {
    let fresh = || std::hash::RandomState::new().build_hasher().finish();
    let seed = std::env::var("EVENKEEL_SEED").map_or_else(|_| fresh(), |seed| seed.parse().expect("a number"));
    println!("{what}: EVENKEEL_SEED={seed}");
    SmallRng::seed_from_u64(seed)
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

/// A multiple of 1/1024 below 1 that looks like chance and is none.
pub fn scattered(i: usize) -> f64 {
    (((i * 2_654_435_761) >> 7) % 1024) as f64 / 1024.0
}

/// A row that is made to break a naive formula.
pub struct Hostile<E> {
    /// What it does.
    pub name: &'static str,
    /// Its values.
    pub row: Vec<E>,
}

/// Rows of scores: what attention and language models hand to a softmax when something went wrong, or only far.
pub fn hostile_scores<E: Bits>(len: usize) -> Vec<Hostile<E>> {
    let limits = E::LIMITS;
    // Beyond where exp overflows, yet where differences of a few can still be told in the type.
    let high = 2.0 * limits.exp_max;
    let far = (limits.max / 4.0).min(2f64.powi(28));
    let noise = |i: usize| 8.0 * scattered(i);
    let row = |name, f: &dyn Fn(usize) -> f64| Hostile { name, row: (0..len).map(|i| E::from_wide(f(i))).collect() };
    vec![
        row("one huge", &|i| if i == len / 2 { far } else { noise(i) }),
        row("all equal", &|_| high),
        row("all at the largest value", &|_| limits.max),
        row("alternating sign", &|i| if i.is_multiple_of(2) { high + noise(i) } else { -high - noise(i) }),
        row("far from zero", &|i| far + noise(i) * far * limits.epsilon),
        row("far below zero", &|i| -far - noise(i) * far * limits.epsilon),
        row("peaked", &|i| if i == len / 3 { high + 40.0 } else { high - noise(i) }),
        row("down to subnormal results", &|i| high + limits.exp_min * i as f64 / len as f64),
        row("beyond the smallest result", &|i| high + 2.0 * limits.exp_min * i as f64 / len as f64),
        row("finite fills", &|i| if i % 3 == 1 { (-1e9f64).max(-limits.max) } else { high + noise(i) }),
        row("lowest finite fills", &|i| if i % 3 == 1 { -limits.max } else { high + noise(i) }),
    ]
}

/// Rows to normalise: their squares overflow or vanish, or one dwarfs the others.
pub fn hostile_vectors<E: Bits>(len: usize) -> Vec<Hostile<E>> {
    let limits = E::LIMITS;
    let sign = |i: usize| if i.is_multiple_of(2) { 1.0 } else { -1.0 };
    let noise = |i: usize| 1.0 + scattered(i);
    let row = |name, f: &dyn Fn(usize) -> f64| Hostile { name, row: (0..len).map(|i| E::from_wide(f(i))).collect() };
    vec![
        row("squares overflow", &|i| sign(i) * noise(i) * (limits.max / 4.0)),
        row("squares vanish", &|i| sign(i) * noise(i) * limits.min_normal),
        row("subnormal", &|i| sign(i) * noise(i).round() * limits.min_subnormal),
        row("one huge", &|i| if i == len / 2 { limits.max } else { noise(i) }),
    ]
}

/// A row of values of every kind that is finite: near zero, of any bits, and special.
pub fn any_finite_row<E: Bits>(lengths: impl Into<prop::collection::SizeRange>) -> impl Strategy<Value = Vec<E>> {
    let value = prop_oneof![
        4 => (-20.0..20.0f64).prop_map(E::from_wide),
        1 => any::<u64>().prop_map(E::from_bits),
        1 => prop::sample::select(special::<E>()),
    ];
    prop::collection::vec(value.prop_map(|v| if v.widen().is_finite() { v } else { E::ZERO }), lengths)
}

/// A row of values about a mean, which may be large.
pub fn bell_row<E: Bits>(lengths: impl Into<prop::collection::SizeRange>) -> impl Strategy<Value = Vec<E>> {
    let unit = prop::collection::vec(-1.0..1.0f64, lengths);
    (unit, -1e3..1e3f64, 0.01..50.0f64)
        .prop_map(|(row, mean, spread)| row.into_iter().map(|u| E::from_wide(mean + spread * u)).collect())
}

/// What proptest runs: so many cases, and no files; a failure prints its smallest input.
pub fn cases(count: u32) -> ProptestConfig {
    ProptestConfig { cases: count, failure_persistence: None, ..ProptestConfig::default() }
}
