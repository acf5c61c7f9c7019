//! Support for tests of rows sharded across ranks.

use crate::support::compare::assert_same_bits;
use crate::support::generate::Bits;
use evenkeel::sharded::{Counted, Exchanged, Sharded, Threads};
use evenkeel::{Result, Rows};
use rand::RngExt;
use rand::rngs::SmallRng;
use rand::seq::SliceRandom;
use std::ops::Range;
use std::time::Duration;

pub const RANKS: [usize; 5] = [1, 2, 3, 4, 8];

/// Timeout that no successful test reaches.
pub const LONG: Duration = Duration::from_secs(60);

pub type Comm = Counted<Threads>;

/// Runs `make` on each of `count` ranks, and returns the results.
pub fn on_ranks<T: Send>(count: usize, timeout: Duration, make: impl Fn(usize, Comm) -> T + Sync) -> Vec<T> {
    let make = &make;
    std::thread::scope(|scope| {
        let each = Threads::new(count, timeout).unwrap().into_iter().enumerate();
        let threads: Vec<_> = each.map(|(rank, comm)| scope.spawn(move || make(rank, Counted::new(comm)))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

/// Returns random column ranges of the ranks, cut at multiples of `unit` and in random order. Some may be empty.
pub fn cuts(rng: &mut SmallRng, ranks: usize, all: usize, unit: usize) -> Vec<Range<usize>> {
    let mut ends: Vec<usize> = (1..ranks).map(|_| rng.random_range(0..=all / unit) * unit).collect();
    ends.push(all);
    ends.sort_unstable();
    let starts = [0].into_iter().chain(ends.clone());
    let mut cuts: Vec<Range<usize>> = starts.zip(ends.clone()).map(|(start, end)| start..end).collect();
    cuts.shuffle(rng);
    cuts
}

/// Copies a range of columns of each row, without gaps. A range that ends before it starts is empty.
pub fn columns<E: Bits>(x: &[E], all: usize, columns: &Range<usize>) -> Vec<E> {
    let columns = columns.start..columns.end.max(columns.start);
    x.chunks(all.max(1)).flat_map(|row| row[columns.clone()].to_vec()).collect()
}

/// Runs `op` on each rank with its columns. Returns each rank's result and communication.
pub fn dealt<E: Bits, T: Send>(
    (x, dims): (&[E], &[usize]),
    cuts: &[Range<usize>],
    op: impl Fn(usize, Sharded<'_, Comm>, Rows<'_, E>) -> Result<T> + Sync,
) -> Vec<(Result<T>, Exchanged)> {
    let all = dims[dims.len() - 1];
    on_ranks(cuts.len(), LONG, |rank, comm| {
        let own = columns(x, all, &cuts[rank]);
        let mut dims = dims.to_vec();
        *dims.last_mut().unwrap() = cuts[rank].len();
        let y = op(rank, Sharded::new(&comm, cuts[rank].clone(), all), Rows::shaped(&own, &dims).unwrap());
        (y, comm.take())
    })
}

/// Fails unless each rank gets its columns of the whole result, or the same error as whole rows give.
#[track_caller]
pub fn assert_dealt<E: Bits>(
    what: &str,
    (x, dims): (&[E], &[usize]),
    cuts: &[Range<usize>],
    whole: Result<Vec<E>>,
    op: impl Fn(usize, Sharded<'_, Comm>, Rows<'_, E>) -> Result<Vec<E>> + Sync,
) {
    let all = dims[dims.len() - 1];
    for (rank, (own, _)) in dealt((x, dims), cuts, op).into_iter().enumerate() {
        let what = format!("{what}, rank {rank} of {cuts:?}");
        match &whole {
            Ok(whole) => assert_same(&what, &own.unwrap(), &columns(whole, all, &cuts[rank])),
            Err(error) => assert_eq!(own.unwrap_err(), *error, "{what}: expected the same error as on one rank"),
        }
    }
}

/// Fails unless the two lists have the same bits. Empty lists are allowed.
#[track_caller]
pub fn assert_same<E: Bits>(what: &str, ours: &[E], theirs: &[E]) {
    if ours.is_empty() && theirs.is_empty() {
        return;
    }
    assert_same_bits(what, ours, theirs);
}

/// Returns the numbers of calls, sent bytes and received bytes.
pub fn counts(exchanged: Exchanged) -> [u64; 3] {
    [exchanged.calls, exchanged.given, exchanged.got]
}
