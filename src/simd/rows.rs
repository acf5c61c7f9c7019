//! Work that can be cut between rows: over threads, then over the instruction set.

use super::block::Isa;
use super::environment::in_default;
use super::level::{Kernel, Token};
use crate::error::Result;
#[cfg(feature = "parallel")]
use crate::scopes;
use std::sync::{Mutex, PoisonError};

/// A computation on rows that do not depend on one another.
pub trait Work: Sized + Send {
    /// What it yields beside what it writes.
    type Out: Send;
    /// How many rows there are.
    fn rows(&self) -> usize;
    /// Elements in a row: the measure of what a row costs.
    fn cols(&self) -> usize;
    /// The first `at` rows, and the rest.
    fn split_at(self, at: usize) -> (Self, Self);
    /// The yields of two neighbouring parts, together.
    fn join(first: Self::Out, rest: Self::Out) -> Self::Out;
    /// All rows. `#[inline(always)]`, like everything it calls.
    fn run<I: Isa>(self, isa: I) -> Self::Out;
}

/// Runs the work with the instruction set of the calling thread, on the current rayon pool if it is large enough.
///
/// How it is cut never shows: rows do not depend on one another.
pub fn run<W: Work>(work: W) -> Result<W::Out> {
    let token = Token::current()?;
    if cfg!(test) {
        unreachable!("unit tests are of what is below ops: the kernels are not compiled once more for them");
    }
    Ok(in_default(|| cut(work, token)))
}

/// The same for unit tests, on the calling thread.
#[cfg(test)]
pub fn run_here<W: Work>(work: W) -> Result<W::Out> {
    Ok(Token::current()?.run(All(work)))
}

struct All<W>(W);

impl<W: Work> Kernel for All<W> {
    type Out = W::Out;
    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> W::Out {
        self.0.run(isa)
    }
}

/// Where a part waits, and then what came of it; only one thread touches it.
type Place<W> = Mutex<(Option<W>, Option<<W as Work>::Out>)>;

fn cut<W: Work>(work: W, token: Token) -> W::Out {
    /// Elements below which a part is not worth a thread: some 5 microseconds of softmax.
    const SMALLEST_PART: usize = 1 << 15;
    const MOST_PARTS: usize = 64;

    let (rows, cols) = (work.rows(), work.cols().max(1));
    // Four parts a thread, so that one that is held up does not hold up all.
    let threads = threads();
    let parts = (4 * threads).min(MOST_PARTS);
    let rows_a_part = rows.div_ceil(parts).max(SMALLEST_PART / cols).max(1);
    if threads == 1 || rows < 2 * rows_a_part {
        return token.run(All(work));
    }
    let mut places: [Place<W>; MOST_PARTS] = std::array::from_fn(|_| Mutex::default());
    let mut rest = Some(work);
    let mut count = 0;
    while let Some(work) = rest.take() {
        let part = if work.rows() > rows_a_part && count + 1 < MOST_PARTS {
            let (part, more) = work.split_at(rows_a_part);
            rest = Some(more);
            part
        } else {
            work
        };
        places[count] = Mutex::new((Some(part), None));
        count += 1;
    }
    spread(count, &|i| {
        let mut place = places[i].lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(part) = place.0.take() {
            place.1 = Some(token.run(All(part)));
        }
    });
    let outs = places.into_iter().filter_map(|place| place.into_inner().unwrap_or_else(PoisonError::into_inner).1);
    match outs.reduce(W::join) {
        Some(out) => out,
        None => unreachable!("the first part was run"),
    }
}

/// How many threads the current pool has.
pub fn threads() -> usize {
    #[cfg(feature = "parallel")]
    return rayon::current_num_threads();
    #[cfg(not(feature = "parallel"))]
    1
}

/// Calls `run` with each number below `parts`, on the current pool, in the default floating-point environment.
///
/// This is the one place where a thread of ours waits inside rayon and may run tasks of others meanwhile, so its scopes are
/// set aside. Not generic, so that it is compiled once.
#[inline(never)]
pub fn spread(parts: usize, run: &(dyn Fn(usize) + Sync)) {
    #[cfg(feature = "parallel")]
    {
        use rayon::iter::{IndexedParallelIterator, IntoParallelIterator, ParallelIterator};
        let _suspended = scopes::suspend();
        (0..parts).into_par_iter().with_max_len(1).for_each(|part| in_default(|| run(part)));
    }
    #[cfg(not(feature = "parallel"))]
    (0..parts).for_each(|part| in_default(|| run(part)));
}
