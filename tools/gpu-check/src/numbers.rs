//! Generates the inputs of ops: shapes near the sizes at which kernels change their method, and rows of every kind.
//!
//! A seed must give the same inputs on every machine. So this module calls no function whose results differ between
//! machines.

use crate::ops::{Number, Shape};
use evenkeel::testing::hostile;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

/// Row lengths near the sizes of vectors, warps, tiles and blocks, and row lengths of models.
const COLS: [usize; 81] = [
    1, 2, 3, 4, 5, 7, 8, 9, 12, 15, 16, 17, 24, 31, 32, 33, 40, 48, 63, 64, 65, 72, 96, 100, 127, 128, 129, 136, 160,
    192, 200, 255, 256, 257, 264, 320, 384, 400, 500, 504, 511, 512, 513, 520, 600, 640, 768, 1000, 1016, 1023, 1024,
    1025, 1032, 1280, 1536, 2000, 2040, 2047, 2048, 2049, 2056, 3000, 3072, 4088, 4095, 4096, 4097, 4104, 5000, 6144,
    8184, 8191, 8192, 8193, 8200, 10_000, 16_392, 16_393, 32_776, 32_784, 65_544,
];
/// Shapes with rows too long for registers, with rows as long as vocabularies, and with more rows than a launch has
/// blocks.
const LARGE: [(usize, usize); 12] = [
    (5, 16_384),
    (3, 32_000),
    (3, 32_768),
    (3, 33_001),
    (3, 50_257),
    (4, 128_256),
    (3, 151_936),
    (2, 262_144),
    (1, 1_000_000),
    (300, 4096),
    (70_001, 8),
    ((1 << 20) + 77, 2),
];
/// A check whose limit on elements is below this number is small.
pub const SMALL: usize = 100_000;
/// Number of random shapes per op.
const RANDOM: usize = 125;

/// One call of an op.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    pub shape: Shape,
    /// Offset of each operand's first element from an aligned address, in elements.
    pub shift: usize,
    /// Index of the form of the call, in `Op::WAYS`.
    pub way: usize,
    pub seed: u64,
}

/// Returns one call of an op for every `part`-th shape of at most `elements` elements. Each call has one of
/// `ways` forms, and successive calls cycle through them.
pub fn cases(seed: u64, ways: usize, part: usize, elements: usize) -> Vec<Case> {
    let mut rng = SmallRng::seed_from_u64(seed);
    let mut shapes: Vec<Shape> = Vec::new();
    // Small checks run on an interpreter, on an emulator or under a memory checker, which are slow. So their shapes are
    // smaller. `listed` and `random` limit the elements of a shape, and `most` limits its columns.
    let (listed, random, most) = if elements < SMALL { (2_000, 3_000, 3_000) } else { (12_000, 60_000, 6_000) };
    for cols in COLS {
        let least = if elements < SMALL && cols > 10_000 { 1 } else { 2 };
        shapes.push(Shape { rows: (listed / cols).clamp(least, 40), cols });
    }
    for _ in 0..RANDOM {
        let cols = rng.random_range(1..=most);
        shapes.push(Shape { rows: rng.random_range(1..=1 + random / cols), cols });
    }
    shapes.extend(LARGE.map(|(rows, cols)| Shape { rows, cols }));
    let parted = shapes.into_iter().step_by(part.max(1)).filter(|shape| shape.elements() <= elements);
    let case = |(i, shape): (usize, Shape)| {
        let (turn, way) = (i / ways, i % ways);
        // Two of three cases of each form are aligned to sixteen bytes.
        let shift = if (turn + way).is_multiple_of(3) { 1 + turn % 7 } else { 8 * (turn % 2) };
        Case { shape, shift, way, seed: rng.random() }
    };
    parted.enumerate().map(case).collect()
}

/// Returns a random number of approximately normal distribution, with mean 0 and variance 1.
fn normal(rng: &mut SmallRng) -> f64 {
    let bits: u64 = rng.random();
    let sum: u64 = (0..4).map(|i| bits >> (16 * i) & 0xffff).sum();
    (sum as f64 / 65536.0 - 2.0) * 1.732
}

/// Returns a random power of two with an exponent in `from..=to`.
fn power(rng: &mut SmallRng, from: i32, to: i32) -> f64 {
    f64::from_bits(((1023 + rng.random_range(from..=to)) as u64) << 52)
}

fn row<E: Number>(rng: &mut SmallRng, cols: usize) -> Vec<E> {
    let (kind, scale) = (rng.random_range(0..14), power(rng, -100, 100));
    let fixed = match kind {
        0 => hostile::scores(cols),
        1 => hostile::vectors(cols),
        2 => vec![hostile::far_mean(cols)],
        _ => Vec::new(),
    };
    if !fixed.is_empty() {
        return fixed[rng.random_range(0..fixed.len())].row.clone();
    }
    let bits = |rng: &mut SmallRng| E::from_bits(rng.random::<u64>() & (u64::MAX >> (64 - 8 * size_of::<E>())));
    let all_masked = rng.random_bool(0.3);
    let special = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, f64::MAX, f64::MIN, 0.0, -0.0];
    let mut one = || match kind {
        3 => E::from_wide(normal(rng) * 60.0),
        4 => E::from_wide(normal(rng) * 2.0 + 3000.0),
        5 if all_masked || rng.random_bool(0.3) => E::from_wide(f64::NEG_INFINITY),
        6 if rng.random_bool(0.002) => E::from_wide(special[rng.random_range(0..special.len())]),
        // Random bits, except NaN and infinities.
        7 => Some(bits(rng)).filter(|v| v.widen().is_finite()).unwrap_or(E::ZERO),
        8 => E::from_wide(normal(rng) * scale),
        9 if rng.random_bool(0.7) => E::ZERO,
        10 => E::from_wide((normal(rng) * 2.0 + 0.5).floor() * 0.5),
        11 => E::from_wide(normal(rng) * power(rng, -40, 12)),
        _ => E::from_wide(normal(rng) * 3.0),
    };
    (0..cols).map(|_| one()).collect()
}

/// Generates rows of every kind.
pub fn rows<E: Number>(rng: &mut SmallRng, shape: Shape) -> Vec<E> {
    (0..shape.rows).flat_map(|_| row(rng, shape.cols)).collect()
}

/// Generates rows. The elements of 99 rows in 100 are normally distributed. Other rows are generated by [`row`].
pub fn mostly_plain<E: Number>(rng: &mut SmallRng, shape: Shape) -> Vec<E> {
    let one = |rng: &mut SmallRng| match rng.random_bool(0.01) {
        true => row(rng, shape.cols),
        false => (0..shape.cols).map(|_| E::from_wide(normal(rng) * 1.5)).collect(),
    };
    (0..shape.rows).flat_map(|_| one(rng)).collect()
}

/// Generates weights or biases, which are close to 1.
pub fn weights<E: Number>(rng: &mut SmallRng, count: usize) -> Vec<E> {
    (0..count).map(|_| E::from_wide(1.0 + 0.2 * normal(rng))).collect()
}

/// Generates numbers for measurements.
pub fn plain<E: Number>(count: usize) -> Vec<E> {
    let mut rng = SmallRng::seed_from_u64(1);
    (0..count).map(|_| E::from_wide(normal(&mut rng) * 3.0)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::each_op;
    use crate::ops::Op;

    #[test]
    fn a_seed_gives_the_same_numbers_of_every_kind() {
        let shape = Shape { rows: 200, cols: 50 };
        let made = || rows::<half::bf16>(&mut SmallRng::seed_from_u64(3), shape);
        let (once, again) = (made(), made());
        assert!(once.iter().zip(&again).all(|(a, b)| a.to_bits() == b.to_bits()));
        assert!(once.iter().any(|v| v.is_nan()) && once.contains(&half::bf16::NEG_INFINITY));
        assert!(once.chunks(50).any(|row| row.iter().all(|v| *v == half::bf16::NEG_INFINITY)));
    }

    #[test]
    fn parts_are_of_all_kinds_of_shapes_and_no_larger_than_asked() {
        assert_eq!(cases(1, 3, 1, usize::MAX).len(), COLS.len() + RANDOM + LARGE.len());
        let few = cases(1, 3, 9, 20_000);
        assert!(few.len() >= 9 && few.iter().all(|case| case.shape.elements() <= 20_000));
        assert!([0, 1, 2].iter().all(|way| few.iter().any(|case| case.way == *way)));
    }

    #[test]
    fn each_form_has_aligned_and_unaligned_cases() {
        macro_rules! check {
            ($op:ty) => {
                let cases = cases(1, <$op>::WAYS.len(), 1, 66_000);
                for (way, name) in <$op>::WAYS.iter().enumerate() {
                    let cases = || cases.iter().step_by(<$op>::SMALL_CASE_STEP).filter(|case| case.way == way);
                    let (aligned, all) = (cases().filter(|case| case.shift.is_multiple_of(8)).count(), cases().count());
                    assert!(0 < aligned && aligned < all, "{}, {name}: {aligned} of {all} are aligned", <$op>::NAME);
                }
            };
        }
        each_op!(check);
    }
}
