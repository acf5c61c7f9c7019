//! Typical sampling: finds the last token to keep, in order of distance from the entropy. Only tokens near the last one
//! are sorted.

/// Place of a candidate: the distance of the candidate's surprise (its negative log-probability) from the entropy, and
/// the candidate's position.
///
/// Places are ordered by distance, and by position among equal distances.
pub type Place = (f64, usize);

fn order(a: &Place, b: &Place) -> std::cmp::Ordering {
    a.0.total_cmp(&b.0).then(a.1.cmp(&b.1))
}

/// Returns the last [`Place`] of the shortest prefix whose mass satisfies `is_enough`.
///
/// `off` contains the distances. If no prefix has enough mass, the result is the last of all places.
pub fn last(
    off: &[f64],
    mass: impl Fn(usize) -> u64,
    is_enough: impl Fn(u64) -> bool,
    crossing: &mut Vec<Place>,
) -> Place {
    const BUCKETS: usize = 2048;
    /// Distance beyond which tokens share the last bucket. Such tokens are few, with weights close to 0.
    const FURTHEST: f64 = 40.0;
    // The bit patterns of nonnegative floats have the order of their values.
    let furthest = off.iter().map(|off| off.to_bits()).max().map_or(0.0, f64::from_bits);
    let range = furthest.min(FURTHEST);
    let buckets_a_unit = BUCKETS as f64 / range;
    // A larger distance never gets a bucket with a lower index. If the range is 0, the computed bucket is NaN, which
    // converts to 0.
    let bucket = |off: f64| ((off * buckets_a_unit) as usize).min(BUCKETS - 1);
    let mut sums = [0u64; BUCKETS];
    for (i, &off) in off.iter().enumerate() {
        sums[bucket(off)] += mass(i);
    }
    let (mut sum, mut last) = (0, 0);
    let is_used = |bucket: usize| sums[bucket] > 0;
    while last + 1 < BUCKETS && !(is_used(last) && is_enough(sum + sums[last])) {
        sum += sums[last];
        last += 1;
    }
    crossing.clear();
    crossing.extend(off.iter().enumerate().filter(|(_, off)| bucket(**off) == last).map(|(i, &off)| (off, i)));
    crossing.sort_unstable_by(order);
    let end = crossing.iter().find(|place| {
        sum += mass(place.1);
        is_enough(sum)
    });
    end.or(crossing.last()).copied().unwrap_or((f64::INFINITY, usize::MAX))
}

/// Returns the `count`th smallest entry of `off` with its index, or the largest if there are fewer. Among equal
/// entries, the lower index comes first. `count` is at least 1.
pub fn last_of_first(off: &[f64], count: usize, places: &mut Vec<Place>) -> Place {
    places.clear();
    places.extend(off.iter().enumerate().map(|(i, &off)| (off, i)));
    let last = count.min(off.len()) - 1;
    *places.select_nth_unstable_by(last, order).1
}
