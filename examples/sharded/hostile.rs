//! Rows that reveal errors of sharded ops, and ways to divide the columns of these rows among ranks. The results change
//! if a sum is computed in another order, or if a rank ignores the shards of the other ranks.

use evenkeel::{DType, Element};
use std::ops::Range;

/// Number of rows in [`scores`] and [`vectors`].
pub const ROWS: usize = 8;

/// Column ranges, one per rank.
pub type Cut = Vec<Range<usize>>;

/// Returns the pseudorandom number with index `i`, a typical logit in [-4, 4). It is the same on every rank.
fn number(i: usize) -> f64 {
    let mixed = (i as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mixed = (mixed ^ mixed >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (mixed >> 40) as f64 / (1u64 << 21) as f64 - 4.0
}

/// Returns numbers like typical logits.
pub fn numbers<E: Element>(count: usize) -> Vec<E> {
    (0..count).map(|i| E::from_wide(number(i))).collect()
}

/// Returns two numbers: one near the largest number of the type, and one near its smallest positive number.
fn limits<E: Element>() -> [f64; 2] {
    match E::DTYPE {
        DType::F64 => [1e300, 1e-310],
        DType::F16 => [6e4, 1e-7],
        _ => [3e38, 1e-39],
    }
}

/// Returns a number near the largest of the type.
pub fn huge<E: Element>() -> f64 {
    limits::<E>()[0]
}

/// Returns [`ROWS`] rows. The number of logits in a row is `all`.
pub fn scores<E: Element>(all: usize) -> Vec<E> {
    let huge = huge::<E>();
    rows(all, |row, i| match row {
        0 if i == all / 3 => f64::NAN,
        1 if i == all / 2 => f64::INFINITY,
        2 => f64::NEG_INFINITY,
        3 => 1.0,
        4 if i == all / 3 => huge,
        5 => huge * if i % 3 == 0 { 1.0 } else { -1.0 },
        6 if i % 5 != 2 => f64::NEG_INFINITY,
        _ => number(row * all + i),
    })
}

/// Returns [`ROWS`] rows that serve as inputs of norms and as gradients. The number of elements in a row is `all`. Each
/// of the first two rows has a non-finite element.
pub fn vectors<E: Element>(all: usize) -> Vec<E> {
    let [huge, tiny] = limits::<E>();
    rows(all, |row, i| match row {
        0 if i == all / 3 => f64::NAN,
        1 if i == all / 2 => f64::NEG_INFINITY,
        2 => 0.0,
        3 => 3.0,
        4 => {
            if i == all / 3 {
                huge
            } else {
                tiny * number(i)
            }
        }
        5 => 1000.0 + number(i),
        6 => tiny * number(i),
        _ => number(row * all + i),
    })
}

fn rows<E: Element>(all: usize, value: impl Fn(usize, usize) -> f64) -> Vec<E> {
    (0..ROWS * all).map(|at| E::from_wide(value(at / all, at % all))).collect()
}

/// Returns three divisions of the columns at multiples of `unit`: equal shards, unequal shards, and shards in reverse
/// order. In the last division, the first rank has no columns. For a single rank, returns only the first division.
pub fn cuts(ranks: usize, all: usize, unit: usize) -> Vec<Cut> {
    let units = all.div_ceil(unit);
    let cut = |ends: &dyn Fn(usize) -> usize| -> Cut {
        let end = |rank: usize| (ends(rank) * unit).min(all);
        let own = |rank| match end(rank)..end(rank + 1) {
            // For norms, even an empty range must start at a tile boundary, such as 0.
            own if own.is_empty() => 0..0,
            own => own,
        };
        (0..ranks).map(own).collect()
    };
    let mut last_first = cut(&|rank| units * rank.min(ranks - 1) / (ranks - 1).max(1));
    last_first.reverse();
    let mut cuts = vec![cut(&|rank| units * rank / ranks)];
    if ranks > 1 {
        cuts.extend([cut(&|rank| units * rank * rank / (ranks * ranks)), last_first]);
    }
    cuts
}
