//! Gradient of attention. Key heads are handled one at a time. The whole weight matrix is never stored.
//!
//! All arithmetic is f64. Queries are handled in tiles. A first pass over the blocks of keys computes each query's
//! largest logit, the sum of its exponentials and the weighted mean of its products of dy and v. The results of the
//! blocks are merged as in the forward pass. A second pass over the blocks computes the weights and adds up the
//! gradients. It uses the scores of the first pass, unless there are too many keys to keep them, or the policy for fully
//! masked queries is Uniform.
//!
//! Sums are cut into chains of 32 terms. A sum over keys starts a new chain at each block of 256 keys. In a sum over
//! queries, the first chain starts at the first query of the key head. The chain sums are added in order. Key heads
//! share no sums, so the number of threads does not affect the bits.

mod panels;
mod product;
mod sums;
mod tile;
mod unit;

use super::attention::Attention;
use super::lanes::GuardCounts;
use super::scratch;
use crate::element::Element;
use crate::error::Result;
use crate::heads::Heads;
use crate::simd::{self, BLOCK, Isa, Kernel, Output, Span, Work, Written};
use std::ops::Range;
pub use unit::BUFFERS;

/// Checked arguments of a call.
#[derive(Clone, Copy)]
pub struct AttentionBackward<'a, E> {
    pub forward: Attention<'a, E>,
    pub dy: Heads<'a, E>,
}

/// Computes the gradients of q, k and v. Also computes a sink gradient for each query head of each batch entry. The
/// caller sums the sink gradients over the batch.
pub fn apply<'a, E: Element>(
    call: AttentionBackward<'_, E>,
    out: [Output<'a, E>; 3],
    dsinks: &mut [f64],
) -> Result<([&'a mut [E]; 3], GuardCounts)> {
    let [batch, heads, ..] = call.forward.k.shape();
    // Without queries and keys, there is nothing to write. The number of heads may still be huge, so the loop over
    // heads is skipped.
    let is_empty = call.forward.rows_a_head() == 0 && call.forward.k.shape()[2] == 0;
    let units = 0..if is_empty { 0 } else { batch * heads };
    simd::write_all(out, |to| simd::run(Units { call, units, to, dsinks }))
}

/// Key heads, each with the query heads that share it.
struct Units<'a, 'w, E> {
    call: AttentionBackward<'a, E>,
    units: Range<usize>,
    to: [Output<'w, E>; 3],
    dsinks: &'a mut [f64],
}

impl<E: Element> Units<'_, '_, E> {
    /// Returns the shape of each gradient (q, k and v) for one key head: the number of rows and the number of features.
    fn shapes(&self) -> [(usize, usize); 3] {
        let Attention { k, v, .. } = &self.call.forward;
        let [_, _, keys, features] = k.shape();
        [(self.call.forward.rows_a_head(), features), (keys, features), (keys, v.shape()[3])]
    }
}

impl<'w, E: Element> Work for Units<'_, 'w, E> {
    fn rows(&self) -> usize {
        self.units.len()
    }

    fn cols(&self) -> usize {
        let [(rows, features), (keys, _), (_, of_values)] = self.shapes();
        rows.saturating_mul(keys).saturating_mul(features.saturating_add(of_values))
    }

    fn split_at(self, at: usize) -> (Self, Self) {
        let lens = self.shapes().map(|(rows, features)| at * rows * features);
        let Units { call, units, to: [dq, dk, dv], dsinks } = self;
        let middle = units.start + at;
        let (q_a, q_b) = dq.split_at(lens[0]);
        let (k_a, k_b) = dk.split_at(lens[1]);
        let (v_a, v_b) = dv.split_at(lens[2]);
        let (sinks_a, sinks_b) = dsinks.split_at_mut(at * call.forward.group());
        (
            Units { call, units: units.start..middle, to: [q_a, k_a, v_a], dsinks: sinks_a },
            Units { call, units: middle..units.end, to: [q_b, k_b, v_b], dsinks: sinks_b },
        )
    }
}

impl<'w, E: Element> Kernel for Units<'_, 'w, E> {
    type Out = ([Written<'w>; 3], GuardCounts);

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> Self::Out {
        let (mut written, mut guards) = ([Written::default(); 3], GuardCounts::default());
        let (shapes, group) = (self.shapes(), self.call.forward.group());
        let Units { call, units, mut to, dsinks } = self;
        let (mut lent, mut lent_scratch) = (scratch::lend(&BUFFERS), scratch::lend_scratch());
        let (buffers, scratch) = (lent.get(), lent_scratch.get());
        for (i, unit) in units.enumerate() {
            unit::gradients(isa, &call, unit, buffers, scratch, &mut guards);
            dsinks[i * group..][..group].copy_from_slice(&buffers.sums.dsinks);
            for ((to, written), (sums, (rows, features))) in
                to.iter_mut().zip(&mut written).zip(buffers.sums.all.iter().zip(shapes))
            {
                *written = *written + store(isa, sums, features, to.take_first(rows * features));
            }
        }
        (written, guards)
    }
}

/// Rounds rows of sums to `E`. Each row of sums starts at a new block of 16.
#[inline(always)]
fn store<'w, I: Isa, E: Element>(isa: I, sums: &[[f64; BLOCK]], features: usize, mut to: Output<'w, E>) -> Written<'w> {
    let mut written = Written::default();
    if features == 0 {
        return written;
    }
    let blocks = features.div_ceil(BLOCK);
    for row in sums.chunks_exact(blocks) {
        let row = &row.as_flattened()[..features];
        let stored = Span::new(row, to.take_first(features)).map(
            isa,
            #[inline(always)]
            |_, sum: I::F64| sum,
        );
        written = written + stored.into();
    }
    written
}
