//! Clipping by the norm of gradients that are replicated on all ranks or sharded across them.

use crate::hostile::{self, Cut, ROWS, cuts};
use crate::table::{Bits, Table, bits, columns};
use evenkeel::sharded::{GradShard, clip_grad_norm};
use evenkeel::{ClipGradNorm, Element, NormType, Result};

/// Gradients of a model: a tensor that is replicated, one that is sharded by rows, one that is sharded by columns, and
/// one expert per rank.
struct Gradients<E> {
    replica: Vec<E>,
    by_rows: Vec<E>,
    by_columns: Vec<E>,
    experts: Vec<Vec<E>>,
}

const WIDTH: usize = 256;
const COLUMNS: usize = 1024;

impl<E: Element> Gradients<E> {
    /// Creates gradients from the rows of [`hostile::vectors`]. Field number `place` is filled from row `row`. The
    /// other fields are filled from the last row, which has only ordinary numbers.
    fn new(ranks: usize, row: usize, place: usize) -> Self {
        let fill = |len: usize, which: usize| {
            let rows = hostile::vectors::<E>(len);
            let row = if which == place { row } else { ROWS - 1 };
            rows[row * len..(row + 1) * len].to_vec()
        };
        Gradients {
            replica: fill(300, 0),
            by_rows: fill(ROWS * WIDTH, 1),
            by_columns: fill(3 * COLUMNS, 2),
            experts: (0..ranks).map(|rank| fill(100 + 7 * rank, 3)).collect(),
        }
    }

    /// Clips the unsharded gradients. For each rank, returns the norm and the rank's part of the gradients.
    fn whole(mut self, options: &ClipGradNorm, by_rows: &Cut, by_columns: &Cut) -> Result<Vec<Vec<Bits>>> {
        let mut grads = vec![(&mut self.replica).into(), (&mut self.by_rows).into(), (&mut self.by_columns).into()];
        grads.extend(self.experts.iter_mut().map(Into::into));
        let norm = evenkeel::clip_grad_norm(&mut grads, options)?;
        let of_rank = |(rank, expert): (usize, &Vec<E>)| {
            let rows = &by_rows[rank];
            let part = bits(&self.by_rows[rows.start * WIDTH..rows.end * WIDTH]);
            let columns = bits(&columns(&self.by_columns, COLUMNS, &by_columns[rank]));
            vec![bits(&[norm]), bits(&self.replica), part, columns, bits(expert)]
        };
        Ok(self.experts.iter().enumerate().map(of_rank).collect())
    }
}

pub fn run<E: Element>(table: &mut Table<'_>) -> anyhow::Result<()> {
    let (ranks, rank) = (table.rank.size, table.rank.rank);
    let comm = &table.rank.comm;
    let both = [NormType::Two, NormType::Infinity];
    table.line::<E>("clip_grad_norm", |line| {
        for (by_rows, by_columns) in cuts(ranks, ROWS, 1).iter().zip(&cuts(ranks, COLUMNS, 256)) {
            for (norm_type, row) in both.iter().flat_map(|norm_type| (0..ROWS).map(move |row| (*norm_type, row))) {
                let options = ClipGradNorm::new(0.5).norm_type(norm_type).error_if_nonfinite(false);
                let place = row % 4;
                let whole = Gradients::<E>::new(ranks, row, place).whole(&options, by_rows, by_columns);
                let Gradients { mut replica, by_rows: own_rows, by_columns: own_columns, mut experts } =
                    Gradients::<E>::new(ranks, row, place);
                let (rows, cut) = (by_rows[rank].clone(), by_columns[rank].clone());
                let mut own_rows = own_rows[rows.start * WIDTH..rows.end * WIDTH].to_vec();
                let mut own_columns = columns(&own_columns, COLUMNS, &cut);
                let expert = &mut experts[rank];
                line.compare(whole.map(|mut whole| whole.swap_remove(rank)), || {
                    let mut grads = [
                        GradShard::whole(0, &mut replica),
                        GradShard::cut(1, &mut own_rows, &[ROWS, WIDTH], 0, rows),
                        GradShard::cut(2, &mut own_columns, &[3, COLUMNS], 1, cut),
                        GradShard::whole(3 + rank, &mut *expert),
                    ];
                    let norm = clip_grad_norm(comm, &mut grads, &options)?;
                    Ok(vec![bits(&[norm]), bits(&replica), bits(&own_rows), bits(&own_columns), bits(expert)])
                })?;
            }
        }
        Ok(())
    })
}
