//! Table of results, one line per op and type.

use crate::hostile::Cut;
use crate::{Comm, Rank};
use evenkeel::sharded::{Collective, Exchanged, Sharded};
use evenkeel::{Element, Result, Rows};
use std::ops::Range;

/// Bits of a part of a result, such as a row. All NaNs have the same bits here, so that they compare as equal.
pub type Bits = Vec<u64>;

pub fn bits<E: Element>(x: &[E]) -> Bits {
    let one = |x: &E| if x.widen().is_nan() { f64::NAN.to_bits() } else { x.widen().to_bits() };
    x.iter().map(one).collect()
}

/// Returns the number of elements that differ.
pub fn differing<E: Element>(a: &[E], b: &[E]) -> u64 {
    let differ = bits(a).iter().zip(bits(b)).filter(|(a, b)| **a != *b).count();
    (differ + a.len().abs_diff(b.len())) as u64
}

/// Returns the bits of each row of `y`, or the error of `y`.
pub fn rows<E: Element>(y: Result<Vec<E>>, count: usize) -> Result<Vec<Bits>> {
    let y = y?;
    Ok((0..count).map(|row| bits(&y[row * y.len() / count..(row + 1) * y.len() / count])).collect())
}

/// Returns the columns `own` of each row, concatenated.
pub fn columns<E: Copy>(x: &[E], all: usize, own: &Range<usize>) -> Vec<E> {
    x.chunks(all.max(1)).flat_map(|row| &row[own.clone()]).copied().collect()
}

/// Totals over all ranks: cases, cases that differ, and exchanged data.
#[derive(Default)]
struct Tally {
    cases: usize,
    differ: usize,
    exchanged: Exchanged,
}

pub struct Table<'r> {
    pub rank: &'r Rank,
    all: Tally,
}

/// Line of the table, with the results of one op in one element type.
pub struct Line<'t, 'r> {
    table: &'t mut Table<'r>,
    tally: Tally,
}

impl<'r> Table<'r> {
    pub fn new(rank: &'r Rank) -> Self {
        if rank.rank == 0 {
            let heads = ["cases", "exchanges", "bytes given", "bytes got"];
            println!(
                "{:<22} {:<5} {:>6} {:>9} {:>12} {:>12}  bits",
                "op", "type", heads[0], heads[1], heads[2], heads[3]
            );
        }
        Table { rank, all: Tally::default() }
    }

    /// Runs the cases of an op in one type. The first rank prints the line of the table.
    pub fn line<E: Element>(
        &mut self,
        op: &str,
        cases: impl FnOnce(&mut Line<'_, 'r>) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let mut line = Line { table: self, tally: Tally::default() };
        cases(&mut line)?;
        let Tally { cases, differ, exchanged: Exchanged { calls, given, got, .. } } = line.tally;
        self.all.cases += cases;
        self.all.differ += differ;
        if self.rank.rank == 0 {
            let bits = if differ == 0 { "the same".to_string() } else { format!("{differ} differ") };
            println!("{op:<22} {:<5} {cases:>6} {calls:>9} {given:>12} {got:>12}  {bits}", E::DTYPE.to_string());
        }
        Ok(())
    }

    /// Prints the summary, and returns whether all cases agree.
    pub fn end(self) -> bool {
        let Tally { cases, differ, .. } = self.all;
        if self.rank.rank == 0 {
            println!("{cases} cases on {} ranks, {differ} differ", self.rank.size);
        }
        differ == 0
    }
}

impl Line<'_, '_> {
    /// Compares sharded rows with unsharded rows, for each division of the columns in `cuts`. `op` computes this rank's
    /// columns, and `whole` returns the same columns of the unsharded result.
    pub fn dealt<E: Element>(
        &mut self,
        (x, all): (&[E], usize),
        cuts: &[Cut],
        whole: impl Fn(&Range<usize>) -> Result<Vec<Bits>>,
        op: impl Fn(Sharded<'_, Comm>, Rows<'_, E>, &Range<usize>) -> Result<Vec<Bits>>,
    ) -> anyhow::Result<()> {
        let rank = self.table.rank;
        for cut in cuts {
            let own = &cut[rank.rank];
            let part = columns(x, all, own);
            let count = x.len().checked_div(all).unwrap_or(0);
            let part = Rows::new(&part, count, own.len())?;
            self.compare(whole(own), || op(Sharded::new(&rank.comm, own.clone(), all), part, own))?;
        }
        Ok(())
    }

    /// Counts the cases, and the cases that differ. A case differs if at least one rank has another result than the
    /// unsharded op.
    pub fn compare(&mut self, whole: Result<Vec<Bits>>, op: impl FnOnce() -> Result<Vec<Bits>>) -> anyhow::Result<()> {
        let comm = &self.table.rank.comm;
        comm.take();
        let ours = op();
        let (exchanged, sum) = (comm.take(), &mut self.tally.exchanged);
        sum.calls += exchanged.calls;
        sum.given += exchanged.given;
        sum.got += exchanged.got;
        let mut differ: Vec<u64> = match (&ours, &whole) {
            (Ok(ours), Ok(whole)) => (0..whole.len()).map(|i| (ours.get(i) != whole.get(i)).into()).collect(),
            // If both ops return the same error, they agree. If only the sharded op fails, every case differs.
            (ours, Ok(whole)) => vec![ours.is_err().into(); whole.len()],
            (ours, whole) => vec![(ours != whole).into()],
        };
        comm.sum(&mut differ)?;
        self.tally.cases += differ.len();
        self.tally.differ += differ.iter().filter(|ranks| **ranks > 0).count();
        Ok(())
    }
}
