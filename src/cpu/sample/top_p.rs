//! Selection of the shortest prefix whose mass reaches a bound. Only candidates near the end of the prefix are sorted.

use super::candidates::{Candidate, Candidates};
use super::scale::Scale;
use crate::element::Element;
use std::cmp::Ordering;

/// Candidates in the bucket in which the prefix ends, with their masses.
pub type Crossing = Vec<(Candidate, u64)>;

/// Keeps the shortest prefix by `order` that has at least `least` candidates and a mass of at least `needed`.
///
/// Candidates are put in buckets by logit, and the masses of whole buckets are added. Only the bucket in which the
/// prefix ends is sorted.
pub fn keep<S: Element>(
    candidates: &mut Candidates<S>,
    scale: Scale,
    (needed, least): (u64, usize),
    order: fn(&Candidate, &Candidate) -> Ordering,
    crossing: &mut Crossing,
) {
    const BUCKETS: usize = 2048;
    /// Distance from the largest logit, in units of the temperature, beyond which a token's mass is 0.
    const DEEPEST: f64 = 33.0;
    let range = (scale.max - candidates.min()).min(DEEPEST * scale.temperature());
    let buckets_a_unit = BUCKETS as f64 / range;
    // Rounding preserves the order: a lower logit never gets a bucket with a lower index. If the range is 0, the
    // computed bucket is NaN, which converts to 0.
    let bucket = |c: Candidate| (((scale.max - c.logit) * buckets_a_unit) as usize).min(BUCKETS - 1);
    let mut sums = [(0u64, 0usize); BUCKETS];
    for (c, &weight) in candidates.iter().zip(candidates.weights()) {
        let (sum, count) = &mut sums[bucket(c)];
        *sum += scale.mass(weight);
        *count += 1;
    }
    let (mut reached, mut passed) = (0, 0);
    let mut last = 0;
    while last + 1 < BUCKETS && (reached + sums[last].0 < needed || passed + sums[last].1 < least) {
        reached += sums[last].0;
        passed += sums[last].1;
        last += 1;
    }
    crossing.clear();
    crossing.extend(
        (candidates.iter().zip(candidates.weights()))
            .filter(|(c, _)| bucket(*c) == last)
            .map(|(c, &weight)| (c, scale.mass(weight))),
    );
    crossing.sort_unstable_by(|a, b| order(&a.0, &b.0));
    let mut worst = None;
    for &(c, mass) in crossing.iter() {
        if reached >= needed && passed >= least {
            break;
        }
        reached += mass;
        passed += 1;
        worst = Some(c);
    }
    candidates.retain(|_, c, _| {
        bucket(c) < last || worst.is_some_and(|w| bucket(c) == last && order(&c, &w) != Ordering::Greater)
    });
}

/// Returns ceil(p * total) exactly, for p in \[0, 1\].
pub fn ceil_of_product(p: f64, total: u64) -> u64 {
    let (whole, is_exact) = product(p, total);
    whole + u64::from(!is_exact)
}

/// Returns floor(p * total) exactly, for p in \[0, 1\].
pub fn floor_of_product(p: f64, total: u64) -> u64 {
    product(p, total).0
}

/// Returns floor(p * total), and whether p * total is an integer.
fn product(p: f64, total: u64) -> (u64, bool) {
    let bits = p.to_bits();
    let exponent = (bits >> 52) as i32;
    let mantissa = bits & ((1 << 52) - 1) | if exponent > 0 { 1 << 52 } else { 0 };
    let product = u128::from(mantissa) * u128::from(total);
    let shift = (1075 - exponent.max(1)) as u32;
    if shift >= 128 {
        return (0, product == 0);
    }
    ((product >> shift) as u64, product & ((1u128 << shift) - 1) == 0)
}
