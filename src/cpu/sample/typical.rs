//! Where a prefix ends in the order of distances from the entropy, sorted only about there.

/// The last of the prefix whose mass is enough: its distance and its place; of all, if none is.
pub fn last(off: &[f64], masses: &[u64], is_enough: impl Fn(u64) -> bool) -> (f64, usize) {
    const BUCKETS: usize = 2048;
    /// Few tokens are further off, and these weigh next to nothing.
    const FURTHEST: f64 = 40.0;
    let range = off.iter().copied().fold(0.0, f64::max).min(FURTHEST);
    let buckets_a_unit = BUCKETS as f64 / range;
    // Not decreasing with the distance; NaN, of a range of 0, goes to the first.
    let bucket = |off: f64| ((off * buckets_a_unit) as usize).min(BUCKETS - 1);
    let mut sums = [0u64; BUCKETS];
    for (&off, mass) in off.iter().zip(masses) {
        sums[bucket(off)] += mass;
    }
    let (mut sum, mut last) = (0, 0);
    let is_used = |bucket: usize| sums[bucket] > 0;
    while last + 1 < BUCKETS && !(is_used(last) && is_enough(sum + sums[last])) {
        sum += sums[last];
        last += 1;
    }
    let mut crossing: Vec<usize> = (0..off.len()).filter(|&i| bucket(off[i]) == last).collect();
    crossing.sort_unstable_by(|&a, &b| off[a].total_cmp(&off[b]).then(a.cmp(&b)));
    let end = crossing.iter().find(|&&i| {
        sum += masses[i];
        is_enough(sum)
    });
    match end.or(crossing.last()) {
        Some(&i) => (off[i], i),
        None => (f64::INFINITY, usize::MAX),
    }
}
