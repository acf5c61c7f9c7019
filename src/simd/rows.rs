//! Computations on independent rows, split over threads and run on the chosen instruction set.

use super::environment::{enter, in_default};
use super::level::{Kernel, Token};
use super::output::Written;
#[cfg(feature = "parallel")]
use super::scopes;
use crate::error::Result;

/// Kernel that computes independent rows, and can be split between rows.
pub trait Work: Kernel<Out: Join + Copy + Send> + Send {
    /// Returns the number of rows.
    fn rows(&self) -> usize;
    /// Returns the number of elements in a row, as a measure of its cost.
    fn cols(&self) -> usize;
    /// Splits the work into the first `at` rows and the rest.
    fn split_at(self, at: usize) -> (Self, Self);
}

/// Result of some rows of a [`Work`].
pub trait Join {
    /// Combines the result with the result of the rows that follow.
    fn join(self, next: Self) -> Self;
}

impl Join for () {
    fn join(self, (): ()) {}
}

impl Join for Written<'_> {
    fn join(self, next: Self) -> Self {
        self + next
    }
}

impl<T: Join + Copy, const N: usize> Join for [T; N] {
    fn join(self, next: Self) -> Self {
        std::array::from_fn(|i| self[i].join(next[i]))
    }
}

impl<A: Join, B: Join> Join for (A, B) {
    fn join(self, next: Self) -> Self {
        (self.0.join(next.0), self.1.join(next.1))
    }
}

/// Runs the work with the calling thread's instruction set, split over the current rayon pool if the work is large
/// enough.
///
/// The split never changes the results, because rows are independent.
pub fn run<W: Work>(work: W) -> Result<W::Out> {
    let (rows, cols) = (work.rows(), work.cols());
    let mut part = Part { work: Some(work), out: None };
    run_part(&mut part, rows, cols).map(|()| part.out())
}

/// Returns the number of rows in a part. Each part runs on one thread.
fn rows_a_part(rows: usize, cols: usize) -> usize {
    /// Number of elements below which a part is too small for a thread: about 5 microseconds of softmax.
    const SMALLEST_PART: usize = 1 << 15;
    const MOST_PARTS: usize = 64;

    let smallest = (SMALLEST_PART / cols.max(1)).max(1);
    // A small call does not ask rayon for its threads, because this takes longer than a short row.
    if rows < 2 * smallest {
        return rows;
    }
    // Each thread gets four parts, so that one delayed part does not delay the whole call.
    let threads = threads();
    let parts = (4 * threads).min(MOST_PARTS);
    let rows_a_part = rows.div_ceil(parts).max(smallest);
    if threads == 1 || rows < 2 * rows_a_part { rows } else { rows_a_part }
}

/// Part of the work. Before the work runs, the part holds its input; afterwards, the part holds its output.
struct Part<W: Work> {
    work: Option<W>,
    out: Option<W::Out>,
}

impl<W: Work> Part<W> {
    fn out(&self) -> W::Out {
        self.out.unwrap_or_else(|| not_run())
    }
}

#[cold]
#[inline(never)]
fn not_run() -> ! {
    panic!("`run_part` must run every part")
}

/// [`Part`] as a trait object, so that the code that splits work is compiled once.
trait AnyPart: Send {
    /// Runs the work on the calling thread. This function is not inlined, so float operations cannot move out of it.
    fn run(&mut self, token: Token);
    /// Splits the work after its first `at` rows, and calls `both` to run the two parts.
    fn split(&mut self, at: usize, both: &mut dyn FnMut(&mut dyn AnyPart, &mut dyn AnyPart));
}

impl<W: Work> AnyPart for Part<W> {
    fn run(&mut self, token: Token) {
        self.out = self.work.take().map(|work| token.run(work));
    }

    fn split(&mut self, at: usize, both: &mut dyn FnMut(&mut dyn AnyPart, &mut dyn AnyPart)) {
        let Some(work) = self.work.take() else { return };
        let (first, rest) = work.split_at(at);
        self.work = Some(first);
        let mut rest = Part { work: Some(rest), out: None };
        both(self, &mut rest);
        self.out = Some(self.out().join(rest.out()));
    }
}

/// Runs all rows of the work, split over threads. The function is not generic, so that it is compiled once.
#[inline(never)]
fn run_part(part: &mut dyn AnyPart, rows: usize, cols: usize) -> Result<()> {
    let token = Token::current()?;
    let _entered = enter();
    split_part(part, token, rows, rows_a_part(rows, cols));
    Ok(())
}

fn split_part(part: &mut dyn AnyPart, token: Token, rows: usize, most: usize) {
    if rows <= most {
        return part.run(token);
    }
    let at = rows / 2;
    part.split(at, &mut |first, rest| {
        join(&mut || split_part(first, token, at, most), &mut || split_part(rest, token, rows - at, most));
    });
}

/// Returns the number of threads in the current pool.
pub fn threads() -> usize {
    #[cfg(feature = "parallel")]
    return rayon::current_num_threads();
    #[cfg(not(feature = "parallel"))]
    1
}

/// Calls both functions in the default floating-point environment. Uses a second thread of the current pool if one is
/// free.
///
/// Threads of this crate wait inside rayon only here, in [`spread`] and in [`on_each_thread`]. A waiting thread may run
/// unrelated tasks, so its scopes are suspended. The function is not generic, so that it is compiled once.
#[inline(never)]
fn join(first: &mut (dyn FnMut() + Send), rest: &mut (dyn FnMut() + Send)) {
    #[cfg(feature = "parallel")]
    {
        let _suspended = scopes::suspend();
        rayon::join(|| in_default(first), || in_default(rest));
    }
    #[cfg(not(feature = "parallel"))]
    {
        in_default(first);
        in_default(rest);
    }
}

/// Calls `f` on this thread and on each thread of the current pool.
#[inline(never)]
pub fn on_each_thread(f: &(dyn Fn() + Sync)) {
    #[cfg(feature = "parallel")]
    {
        let _suspended = scopes::suspend();
        rayon::broadcast(|_| f());
    }
    f();
}

/// Calls `run` with each number below `parts`, on the current pool, in the default floating-point environment.
#[cfg(feature = "checkpoint")]
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
