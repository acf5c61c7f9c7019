//! Gradients of sharded rows. Each shard computes its terms of the row's sum, and later its results. Each step is the
//! same as for a complete row, so the results have the same bits.

use super::{Formula, Sums, Terms, count, derivatives, flags, grid, largest, normaliser, spoil, write};
use crate::cpu::lanes::{GuardCounts, LaneKernel, RowIo, each_lane};
use crate::cpu::log_softmax_backward::LogSoftmax;
use crate::cpu::partial_tiles::{self, PartialTiles};
use crate::cpu::scores::{Row, widened};
use crate::cpu::scratch::{Scratch, lend_scratch};
use crate::cpu::softmax_backward::Softmax;
use crate::cpu::softmax_partial::{self, ShardStats};
use crate::element::Element;
use crate::error::Result;
use crate::rows::{Rows, RowsMut};
use crate::simd::{self, BLOCK, Isa, Kernel, Span, Work, Written};
use std::marker::PhantomData;

/// Op whose gradient is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SoftmaxOp {
    Softmax,
    LogSoftmax,
    /// logsumexp. Each row has one upstream gradient, which is used in place of the row's sum.
    LogSumExp,
}

/// Formula of [`SoftmaxOp::LogSumExp`]: softmax times the row's upstream gradient, which is the argument `sum`.
#[derive(Clone, Copy)]
struct LogSumExp;

impl Formula for LogSumExp {
    const MEAN: bool = false;

    #[inline(always)]
    fn term<I: Isa>(isa: I, _: I::F64, _: I::F64) -> (I::F64, I::F64) {
        (isa.f64(0.0), isa.f64(0.0))
    }

    #[inline(always)]
    fn gradient<I: Isa>(_: I, y: I::F64, _: I::F64, sum: (I::F64, I::F64)) -> I::F64 {
        y * sum.0
    }
}

/// Shard of scores: a range of their columns.
#[derive(Clone, Copy)]
pub struct ShardInput<'a, E> {
    pub part: softmax_partial::LogitShard<'a>,
    pub x: Rows<'a, E>,
    /// Statistics of the complete rows.
    pub found: &'a [ShardStats],
    pub of: SoftmaxOp,
}

/// Contribution of a shard to the sum of a row.
#[derive(Clone, Debug, Default)]
pub struct Gained {
    /// Largest magnitude of the upstream gradients, or 0 if it was not requested.
    pub largest: f64,
    /// Terms of the sum. For f64 these are two pieces: the terms rounded to a grid, and the remainders.
    pub terms: Vec<PartialTiles>,
}

/// Returns the largest magnitude of the upstream gradients in each row's shard. Only f64 rows need it.
pub fn largest_of_each<E: Element>(part: ShardInput<'_, E>, dy: Rows<'_, E>) -> Result<Vec<f64>> {
    Ok(gained(part, dy, None)?.into_iter().map(|gained| gained.largest).collect())
}

/// Returns, for each row, this shard's part of the row sums that the gradient needs. `largest[i]` is the largest
/// magnitude of `dy` in row i over all shards.
pub fn terms_of_each<E: Element>(
    part: ShardInput<'_, E>,
    dy: Rows<'_, E>,
    largest: &[f64],
) -> Result<Vec<Vec<PartialTiles>>> {
    Ok(gained(part, dy, Some(largest))?.into_iter().map(|gained| gained.terms).collect())
}

fn gained<E: Element>(part: ShardInput<'_, E>, dy: Rows<'_, E>, largest: Option<&[f64]>) -> Result<Vec<Gained>> {
    let mut to = vec![Gained::default(); part.x.rows()];
    simd::run(Gaining { part, dy, largest, first: 0, to: &mut to })?;
    Ok(to)
}

struct Gaining<'a, E> {
    part: ShardInput<'a, E>,
    dy: Rows<'a, E>,
    /// Largest magnitude of the upstream gradients of each complete row. `None` in the round that computes these
    /// magnitudes.
    largest: Option<&'a [f64]>,
    first: usize,
    to: &'a mut [Gained],
}

impl<E: Element> Work for Gaining<'_, E> {
    fn rows(&self) -> usize {
        self.to.len()
    }

    fn cols(&self) -> usize {
        self.dy.cols()
    }

    fn split_at(self, at: usize) -> (Self, Self) {
        let (a, b) = self.to.split_at_mut(at);
        (Gaining { to: a, ..self }, Gaining { first: self.first + at, to: b, ..self })
    }
}

impl<E: Element> Kernel for Gaining<'_, E> {
    type Out = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let mut lent = lend_scratch();
        let scratch = lent.get();
        for (i, to) in self.to.iter_mut().enumerate() {
            let row = self.first + i;
            *to = self.part.gained(isa, row, self.dy.row(row), self.largest.map(|all| all[row]), scratch);
        }
    }
}

impl<E: Element> ShardInput<'_, E> {
    #[inline(always)]
    fn gained<I: Isa>(
        &self,
        isa: I,
        row: usize,
        dy: &[E],
        of_all: Option<f64>,
        Scratch { logits, widened: buffer, made, beside }: &mut Scratch,
    ) -> Gained {
        let softmax_partial::LogitShard { scores, first, all } = self.part;
        let (found, x) = (&self.found[row], widened(isa, self.x.row(row), buffer));
        let Row::Live(_) = found.row() else { return Gained::default() };
        let mut buffer = Vec::new();
        // Appends one block of padding, so that all blocks are complete.
        let (mut terms, mut rest) = (vec![0.0; x.len() + BLOCK], Vec::new());
        if E::IS_F64 {
            rest.resize(x.len() + BLOCK, 0.0);
        }
        // A fully masked shard adds zeros.
        if let Row::Live(live) = scores.read_part(isa, row, first, x, logits) {
            let flags = flags(&live, x, &mut buffer);
            let columns = live.columns.clone();
            let Some(of_all) = of_all else {
                return Gained { largest: largest(isa, &dy[columns], flags), terms: Vec::new() };
            };
            let (up, range) = if E::IS_F64 { normaliser(of_all) } else { (1.0, 0.0) };
            let grid = isa.f64(grid(range));
            let live = live.within(isa, found.max(), found.is_exact(), beside);
            let exps = live.exps(isa, &x[columns.clone()], all, false, made);
            let of = Terms { exps: &exps, dy: &dy[columns.clone()], first: columns.start, flags, up };
            for i in 0..x.len().div_ceil(BLOCK) {
                let (term, off) = match self.of {
                    SoftmaxOp::Softmax => of.block::<Softmax, I>(isa, i),
                    SoftmaxOp::LogSoftmax => of.block::<LogSoftmax, I>(isa, i),
                    SoftmaxOp::LogSumExp => of.block::<LogSumExp, I>(isa, i),
                };
                let to = i * BLOCK..(i + 1) * BLOCK;
                if E::IS_F64 {
                    let on = (term + grid) - grid;
                    terms[to.clone()].copy_from_slice(&isa.array_f64(on));
                    rest[to].copy_from_slice(&isa.array_f64((term - on) + off));
                } else {
                    terms[to].copy_from_slice(&isa.array_f64(term));
                }
            }
        }
        terms.truncate(x.len());
        rest.truncate(x.len());
        let mut pieces = vec![PartialTiles::of(isa, first, &terms)];
        if E::IS_F64 {
            pieces.push(PartialTiles::of(isa, first, &rest));
        }
        Gained { largest: 0.0, terms: pieces }
    }
}

/// Sums over all shards of a row.
#[derive(Clone, Copy, Debug, Default)]
pub struct RowSums {
    /// 1 / the sum of the exponentials, as a high and a low part.
    pub reciprocal: (f64, f64),
    /// Sum of the terms. For f64, each term is rounded to a grid: the sum of the rounded terms, and the sum of the
    /// remainders.
    pub sum: (f64, f64),
    /// Largest magnitude of an upstream gradient, for f64 only.
    pub largest: f64,
}

impl RowSums {
    /// Returns the sum of all shards' contributions. Each contribution is a list of one piece, or of two pieces for
    /// f64.
    pub fn sum_of(gained: &[Vec<PartialTiles>]) -> (f64, f64) {
        let of = |which: usize| {
            let pieces: Vec<PartialTiles> = gained.iter().filter_map(|pieces| pieces.get(which).cloned()).collect();
            partial_tiles::sum(&pieces)
        };
        (of(0), of(1))
    }
}

/// Kernel that computes a shard's gradients of the scores from the gradients of the results.
#[derive(Clone, Copy)]
struct Store<'a, E, F> {
    part: ShardInput<'a, E>,
    sums: &'a [RowSums],
    formula: PhantomData<F>,
}

/// Writes the gradients of the scores. `dy` holds the gradients of the results, except for log-sum-exp, whose gradients
/// are in `sums`.
pub fn store<'a, E: Element>(
    part: ShardInput<'_, E>,
    dy: Rows<'_, E>,
    out: RowsMut<'a, E>,
    sums: &[RowSums],
) -> Result<(&'a mut [E], GuardCounts)> {
    let (dy, out) = (dy.into(), out.into());
    match part.of {
        SoftmaxOp::Softmax => crate::cpu::lanes::apply(dy, out, &Store::<_, Softmax>::new(part, sums)),
        SoftmaxOp::LogSoftmax => crate::cpu::lanes::apply(dy, out, &Store::<_, LogSoftmax>::new(part, sums)),
        SoftmaxOp::LogSumExp => crate::cpu::lanes::apply(dy, out, &Store::<_, LogSumExp>::new(part, sums)),
    }
}

impl<E: Element, F: Formula> LaneKernel<E> for Store<'_, E, F> {
    #[inline(always)]
    fn lanes<'w, I: Isa>(
        &self,
        isa: I,
        io: &mut RowIo<'_, 'w, E>,
        scratch: &mut Scratch,
        guards: &mut GuardCounts,
    ) -> Written<'w> {
        each_lane(
            io,
            #[inline(always)]
            |row, span| self.lane(isa, row, span, scratch, guards),
        )
    }
}

impl<'a, E: Element, F: Formula> Store<'a, E, F> {
    fn new(part: ShardInput<'a, E>, sums: &'a [RowSums]) -> Self {
        Store { part, sums, formula: PhantomData }
    }

    #[inline(always)]
    fn lane<'d, I: Isa>(
        &self,
        isa: I,
        row: usize,
        span: Span<'d, 'd, E, E>,
        Scratch { logits, widened: buffer, made, beside }: &mut Scratch,
        guards: &mut GuardCounts,
    ) -> &'d mut [E] {
        let softmax_partial::LogitShard { scores, first, all } = self.part.part;
        let (found, x) = (&self.part.found[row], widened(isa, self.part.x.row(row), buffer));
        let known = found.row();
        // This call counts the row if it is not live. The returned fill value is not used: it does not depend on the
        // scores, so its gradient is 0.
        known.fill_value(row, scores.fully_masked, guards, E::ZERO, E::ZERO);
        let live = match scores.read_part(isa, row, first, x, logits) {
            Row::Masked => return span.fill(E::ZERO),
            Row::Live(live) | Row::Nan(live) | Row::Infinite(live) => live,
        };
        let (mut buffer, mut of_derivatives) = (Vec::new(), Vec::new());
        let flags = flags(&live, x, &mut buffer);
        let columns = live.columns.clone();
        let RowSums { reciprocal, sum, largest } = self.sums[row];
        let up = if E::IS_F64 && self.part.of != SoftmaxOp::LogSumExp { normaliser(largest).0 } else { 1.0 };
        let sums = Sums::new::<F, E>(reciprocal, sum, up, scores.scale);
        span.fill_outside(
            columns.clone(),
            E::ZERO,
            #[inline(always)]
            |span| {
                if !matches!(known, Row::Live(_)) {
                    spoil(flags, span)
                } else if sums.sum.0.is_finite() {
                    let live = live.within(isa, found.max(), found.is_exact(), beside);
                    let exps = live.exps(isa, &x[columns.clone()], all, false, made);
                    let derivatives = derivatives(isa, &scores, sums.scale, &x[columns], &mut of_derivatives);
                    write::<F, I, E>(isa, &exps, &sums, derivatives, flags, span)
                } else {
                    if self.part.of == SoftmaxOp::LogSumExp {
                        // Updates the counts of NaN and infinite upstream gradients. The row has one, `sum`. The source
                        // of the span holds scores here instead of upstream gradients.
                        guards.counts.nan += u64::from(sum.0.is_nan());
                        guards.counts.infinite += u64::from(sum.0.is_infinite());
                    } else {
                        count(span.source(), flags, guards);
                    }
                    spoil(flags, span)
                }
            },
        )
    }
}
