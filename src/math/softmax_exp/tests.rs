//! Tests that a larger logit never gets a smaller power. One test compares the powers of all f32. Other tests compare
//! the powers of the logits around each point where the table entry changes. Two of these tests use many row maxima.
//! The last test checks the error bounds.

use super::{PER_STEP, SHIFTER, STEP, SoftmaxExp, WeightExp, low_table, table};
use crate::simd::{BLOCK, Isa, Kernel, Token, load_wide};

fn run<K: Kernel>(kernel: K) -> K::Out {
    Token::current().unwrap().run(kernel)
}

struct Weights<'a>(&'a [f64]);

impl Kernel for Weights<'_> {
    type Out = Vec<f32>;

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> Vec<f32> {
        let exp = WeightExp::new(isa);
        let powers = |i| isa.array_f32(exp.exp(load_wide(isa, self.0, i, 0.0)));
        let mut powers: Vec<f32> = (0..self.0.len().div_ceil(BLOCK)).flat_map(powers).collect();
        powers.truncate(self.0.len());
        powers
    }
}

/// Asserts that the powers of increasing numbers do not decrease.
fn assert_in_order(z: &[f64]) {
    let powers = run(Weights(z));
    for (z, powers) in z.windows(2).zip(powers.windows(2)) {
        assert!(z[0] < z[1], "{z:?} must increase");
        assert!(
            powers[0] <= powers[1],
            "e^{:?} = {:e} must be at most e^{:?} = {:e}",
            z[0],
            powers[0],
            z[1],
            powers[1]
        );
    }
}

/// Returns `z`, the `count` nearest f64 below `z` and the `count` nearest f64 above `z`, in increasing order. `z` must
/// be below 0.
fn neighbours(z: f64, count: u64) -> Vec<f64> {
    let bits = z.to_bits();
    (bits - count..=bits + count).rev().map(f64::from_bits).collect()
}

/// Returns the lowest f32 whose nearest multiple of ln2/8 is `n` ln2/8.
fn first_of_step(n: f32) -> f32 {
    let step = |z: f32| z.mul_add(PER_STEP, SHIFTER) - SHIFTER;
    // Bisects the bits of the magnitude. The number is negative, so it decreases as these bits increase.
    let (mut far, mut near) = (70.0f32.to_bits(), 0);
    while far - near > 1 {
        let middle = near + (far - near) / 2;
        if step(-f32::from_bits(middle)) < n { far = middle } else { near = middle }
    }
    -f32::from_bits(near)
}

/// Checks all 738 points at which [`WeightExp`] changes its table entry. Each point is halfway between two f32.
#[test]
#[cfg_attr(miri, ignore = "hours of interpretation")]
fn weights_do_not_fall_at_the_end_of_a_step() {
    for n in -737..=0 {
        let first = first_of_step(n as f32);
        let last = first.next_down();
        let middle = (f64::from(first) + f64::from(last)) / 2.0;
        assert_in_order(&neighbours(middle, 2000));
        // Check the first f32 above this point, the 500 f32 below it, and the midpoints between these 500.
        let mut z: Vec<f64> = neighbours(f64::from(first), 0);
        let mut below = last;
        for _ in 0..500 {
            z.push(f64::from(below));
            z.push((f64::from(below) + f64::from(below.next_down())) / 2.0);
            below = below.next_down();
        }
        z.reverse();
        assert_in_order(&z);
    }
}

/// Compares the powers of neighbouring numbers, at distances from one f64 ULP to two f32 ULP.
#[test]
#[cfg_attr(miri, ignore = "hours of interpretation")]
fn weights_do_not_fall_within_a_step() {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    println!("seed {state:#x}");
    let mut random = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    for _ in 0..200_000 {
        let z = -((random() >> 11) as f64 / (1u64 << 53) as f64) * 66.0;
        // The nearest f32 changes at the midpoint of two f32, so the numbers around this midpoint are tested too.
        let high = z as f32;
        let middle = (f64::from(high) + f64::from(high.next_down())) / 2.0;
        for z in [z, middle] {
            let bits = z.to_bits();
            let stride = 1 << (random() % 31);
            let from = bits.saturating_sub(8 * stride);
            let z: Vec<f64> = (0..16).map(|i| f64::from_bits(from + i * stride)).rev().collect();
            assert_in_order(&z);
        }
    }
}

/// Kernel that walks over all f32 from -2^-27 down to -104, in order. Above -2^-27, e^x rounds to 1.
struct Walk<F>(F);

/// Exponential of the logits of a row whose maximum is 0.
trait Function {
    fn powers<I: Isa>(&self, isa: I) -> impl Fn(I::F32) -> I::F32;
}

struct OfWeights;

impl Function for OfWeights {
    #[inline(always)]
    fn powers<I: Isa>(&self, isa: I) -> impl Fn(I::F32) -> I::F32 {
        let exp = WeightExp::new(isa);
        #[inline(always)]
        move |x| exp.exp(isa.widen(x))
    }
}

struct OfRow;

impl Function for OfRow {
    #[inline(always)]
    fn powers<I: Isa>(&self, isa: I) -> impl Fn(I::F32) -> I::F32 {
        let exp = SoftmaxExp::new(isa, 0.0, f32::NEG_INFINITY);
        #[inline(always)]
        move |x| exp.any(x)
    }
}

impl<F: Function> Kernel for Walk<F> {
    type Out = u64;

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> u64 {
        let power = self.0.powers(isa);
        const LARGEST: f32 = 1.0 / (1 << 27) as f32;
        let (mut above, mut count) = (1.0f32, 0);
        // Increasing bits of the magnitude give decreasing numbers.
        for first in (LARGEST.to_bits()..=104.0f32.to_bits()).step_by(BLOCK) {
            let x = std::array::from_fn(|i| -f32::from_bits(first + i as u32));
            for (x, power) in x.into_iter().zip(isa.array_f32(power(isa.load_f32(&x)))) {
                assert!(power <= above, "e^{x:?} = {power:e} must be <= {above:e}, the power of the next larger x");
                assert!(power == 1.0 || x < -LARGEST, "e^{x:?} must be 1, got {power:e}");
                above = power;
            }
            count += BLOCK as u64;
        }
        println!("the last power, near e^-104, is {above:e}");
        count
    }
}

#[test]
#[cfg_attr(miri, ignore = "days of interpretation")]
fn no_f32_has_a_smaller_power_than_the_one_below() {
    println!("weights: {} f32", run(Walk(OfWeights)));
    println!("softmax: {} f32", run(Walk(OfRow)));
}

/// Kernel that compares the powers of the two f32 on both sides of each point where the table entry changes. The maxima
/// of the rows are M ln2/8 + `d` with M from 0 to 7. Only points near zero are checked. There, neighbouring f32 are so
/// close that errors could reverse the order of the powers.
struct StepEnds {
    d: f32,
}

impl Kernel for StepEnds {
    type Out = u64;

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> u64 {
        let StepEnds { d } = self;
        let mut count = 0;
        for steps in 0..8 {
            let shifter = SHIFTER - steps as f32;
            let exp = SoftmaxExp {
                isa,
                shift: isa.f32(0.0),
                d: isa.f32(d),
                shifter: isa.f32(shifter),
                table: table(isa, true),
                low: low_table(isa, f64::from(d)),
                deepest: isa.f32(f32::MIN),
                narrow: true,
            };
            let step = |x: f32| (x - d).mul_add(PER_STEP, shifter) - shifter;
            let mut ends = [[0.0f32; 2]; BLOCK];
            let all = -6..=6i16;
            count += all.clone().count() as u64;
            for (n, ends) in all.zip(&mut ends) {
                // Bisect to find two adjacent f32. The multiple of ln2/8 nearest to the lower one is n ln2/8. The
                // multiple nearest to the upper one is (n + 1) ln2/8.
                let middle = ((f64::from(n) + 0.5) * STEP + f64::from(d)) as f32;
                let (mut last, mut first) = (key(middle - 2e-7), key(middle + 2e-7));
                while first - last > 1 {
                    let between = last + (first - last) / 2;
                    if step(of_key(between)) <= f32::from(n) { last = between } else { first = between }
                }
                *ends = [of_key(last), of_key(first)];
                assert!(
                    step(ends[0]) == f32::from(n) && step(ends[1]) == f32::from(n + 1),
                    "d = {d:?}: the two logits {ends:?} must be rounded to {n} * ln2/8 and ({n} + 1) * ln2/8"
                );
            }
            let powers = [0, 1].map(|side| isa.array_f32(exp.exp_fast(isa.load_f32(&ends.map(|ends| ends[side])))));
            for (ends, (below, above)) in ends.into_iter().zip(powers[0].into_iter().zip(powers[1])) {
                assert!(
                    below <= above,
                    "row maximum {steps} * ln2/8 + {d:?}: e^{:?} = {below:e} must be at most e^{:?} = {above:e}",
                    ends[0],
                    ends[1]
                );
            }
        }
        count
    }
}

fn key(x: f32) -> i64 {
    let bits = i64::from(x.to_bits() & !(1 << 31));
    if x.is_sign_negative() { -bits } else { bits }
}

fn of_key(key: i64) -> f32 {
    let magnitude = f32::from_bits(key.unsigned_abs() as u32);
    if key < 0 { -magnitude } else { magnitude }
}

/// Tests every `stride`th d. All possible d are the multiples of 2^-27 from -ln2/16 to ln2/16.
fn walk_ends(stride: usize) {
    const UNIT: f64 = 1.0 / (1u64 << 27) as f64;
    let most = (STEP / 2.0 / UNIT).round() as i64;
    let d = (-most..=most).step_by(stride).map(|i| (i as f64 * UNIT) as f32);
    let count: u64 = d.map(|d| run(StepEnds { d })).sum();
    println!("{count} ends of steps");
}

#[test]
#[cfg_attr(miri, ignore = "days of interpretation")]
fn rows_of_any_maximum_are_in_order() {
    walk_ends(997);
}

#[test]
#[ignore = "minutes: the ends of steps of all maxima"]
fn rows_of_every_maximum_are_in_order() {
    walk_ends(1);
}

/// Checks the two bounds that [`super`] derives for the error of a power: 0.69 ULP, and `1.16 * 2^-24` times the power.
/// The reference is the f64 exponential of std, whose error is less than 2^-50 of the power. The tested numbers include
/// the points where the table entry changes, because the polynomial is least accurate there.
#[test]
#[cfg_attr(miri, ignore = "hours of interpretation")]
fn weights_keep_their_bound() {
    let mut z: Vec<f64> = (0..4_000_000).map(|i| f64::from(i) * -1.5e-5 - 1e-9).collect();
    for n in -720..=0 {
        z.extend(neighbours(f64::from(first_of_step(n as f32)), 200));
        z.extend((0..2000).map(|i| f64::from(n) * STEP - STEP / 2.0 + f64::from(i - 1000) * 1e-7));
    }
    z.retain(|z| *z <= 0.0);
    let (mut ulps, mut relative) = (0.0f64, [0.0f64; 2]);
    for (z, power) in z.iter().zip(run(Weights(&z))) {
        let exact = z.exp();
        let error = f64::from(power) - exact;
        let last_place = f64::from_bits(exact.to_bits() >> 52 << 52) / f64::from(1 << 23);
        ulps = ulps.max((error / last_place).abs());
        let error = error / exact * f64::from(1 << 24);
        relative = [relative[0].min(error), relative[1].max(error)];
    }
    println!("{} numbers: {ulps} ULP, {relative:?} times 2^-24", z.len());
    assert!(ulps <= 0.69, "the error of the exponential must be at most 0.69 ULP, got {ulps} ULP");
    assert!(
        -1.16 <= relative[0] && relative[1] <= 1.16,
        "the relative errors of the exponential, in units of 2^-24, must be from -1.16 to 1.16, got {relative:?}"
    );
}
