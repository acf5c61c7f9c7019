//! Where a prefix ends in the order of distances from the entropy, sorted only about there.

/// A distance from the entropy, and whose it is: the order is that of the distances, and of equals that of the places.
pub type Place = (f64, usize);

fn order(a: &Place, b: &Place) -> std::cmp::Ordering {
    a.0.total_cmp(&b.0).then(a.1.cmp(&b.1))
}

/// The last of the prefix whose mass is enough; of all, if none is.
pub fn last(
    off: &[f64],
    mass: impl Fn(usize) -> u64,
    is_enough: impl Fn(u64) -> bool,
    crossing: &mut Vec<Place>,
) -> Place {
    const BUCKETS: usize = 2048;
    /// Few tokens are further off, and these weigh next to nothing.
    const FURTHEST: f64 = 40.0;
    // Bits of numbers that are not negative are in the order of these.
    let furthest = off.iter().map(|off| off.to_bits()).max().map_or(0.0, f64::from_bits);
    let range = furthest.min(FURTHEST);
    let buckets_a_unit = BUCKETS as f64 / range;
    // Not decreasing with the distance; NaN, of a range of 0, goes to the first.
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

/// The last of the first so many, at least one; of all, if there are not so many.
pub fn last_of_first(off: &[f64], count: usize, places: &mut Vec<Place>) -> Place {
    places.clear();
    places.extend(off.iter().enumerate().map(|(i, &off)| (off, i)));
    let last = count.min(off.len()) - 1;
    *places.select_nth_unstable_by(last, order).1
}
