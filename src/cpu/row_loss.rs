//! Losses of rows with targets. A row is widened to f64. One pass computes the row's losses and gradient. The gradient
//! is rounded once.

use super::bce_with_logits::{self, Bce};
use super::kl_div::{self, KlDiv};
use super::lanes::RowIo;
use super::scratch::{lend_scratch, scratch_slice};
use crate::element::Element;
use crate::error::Result;
use crate::floats::Floats;
use crate::math::sum::sum_o;
use crate::report::Counts;
use crate::rows::{Rows, RowsMut};
use crate::simd::{self, Float, Isa, Kernel, Select, Span, Work, Written, load_wide};
use std::ops::Range;

/// Upstream gradient of the losses.
#[derive(Clone, Copy)]
pub struct Upstream<'a> {
    /// Gradients: one for each loss, or a single one that all losses share.
    pub dloss: &'a [f64],
    /// Divisor of the sum of the losses; 0 gives a gradient of 0.
    pub divisor: f64,
}

impl Upstream<'_> {
    /// Returns the factor that multiplies the gradient of this loss.
    #[inline(always)]
    pub fn factor(&self, loss: usize) -> f64 {
        let dloss = match self.dloss {
            [] => 0.0,
            [one] => *one,
            each => each[loss],
        };
        if self.divisor == 0.0 { 0.0 } else { dloss / self.divisor }
    }
}

/// A row in f64, with buffers for its results.
pub struct Row<'a> {
    /// Logits, which may be overwritten.
    pub x: &'a mut [f64],
    /// Destination of the gradient.
    pub dx: &'a mut [f64],
    /// Scratch buffer as long as the row.
    pub beside: &'a mut [f64],
    /// Destination of the losses. KL divergence from logits has one loss for the row, other losses have one for each
    /// element.
    pub losses: &'a mut [f64],
}

/// Loss to compute. All losses are variants of one type, so that the code around them is compiled once.
#[derive(Clone, Copy)]
pub enum LossOp<'a> {
    Bce(Bce<'a>),
    KlDiv(KlDiv<'a>),
}

impl LossOp<'_> {
    /// Computes the losses and the gradient of the row with this index.
    #[inline(always)]
    fn row<I: Isa>(&self, isa: I, index: usize, row: Row<'_>) {
        match self {
            LossOp::Bce(op) => isa.outline(bce_with_logits::OneRow { op, index, row }),
            LossOp::KlDiv(op) => isa.outline(kl_div::OneRow { op, index, row }),
        }
    }
}

/// Computes the losses of all rows; `each` is the number of losses of a row.
pub fn losses<E: Element>(x: Rows<'_, E>, losses: &mut [f64], each: usize, op: LossOp<'_>) -> Result<Counts> {
    let (rows, cols) = (x.rows(), x.cols());
    let (_, counts) = simd::run(Losses { logits: Logits::Read(x), rows, cols, first: 0, losses, each, op })?;
    Ok(counts)
}

/// Computes the losses as [`losses`] does, and writes the gradients into a view of the same shape.
pub fn gradients<'a, E: Element>(
    x: Rows<'_, E>,
    out: RowsMut<'a, E>,
    losses: &mut [f64],
    each: usize,
    op: LossOp<'_>,
) -> Result<(&'a mut [E], Counts)> {
    let (rows, cols) = (x.rows(), x.cols());
    out.data.write(|to| {
        let logits = Logits::Written(RowIo::apart(x.into(), to, out.geometry.stride));
        simd::run(Losses { logits, rows, cols, first: 0, losses, each, op })
    })
}

/// Computes the losses as [`losses`] does, and overwrites the logits with the gradients.
pub fn gradients_in_place<E: Element>(
    name: &'static str,
    x: RowsMut<'_, E>,
    losses: &mut [f64],
    each: usize,
    op: LossOp<'_>,
) -> Result<Counts> {
    let (rows, cols) = (x.rows(), x.cols());
    let logits = Logits::Written(RowIo::in_place(name, x.into())?);
    let (_, counts) = simd::run(Losses { logits, rows, cols, first: 0, losses, each, op })?;
    Ok(counts)
}

enum Logits<'a, 'w, E> {
    Read(Rows<'a, E>),
    Written(RowIo<'a, 'w, E>),
}

struct Losses<'a, 'w, E> {
    logits: Logits<'a, 'w, E>,
    /// Number of rows to process.
    rows: usize,
    first: usize,
    cols: usize,
    losses: &'a mut [f64],
    each: usize,
    op: LossOp<'a>,
}

impl<'w, E: Element> Work for Losses<'_, 'w, E> {
    fn rows(&self) -> usize {
        self.rows
    }

    fn cols(&self) -> usize {
        self.cols
    }

    fn split_at(self, at: usize) -> (Self, Self) {
        let Losses { logits, rows, first, cols, losses, each, op } = self;
        let (a, b) = losses.split_at_mut(at * each);
        let (logits_a, logits_b) = match logits {
            Logits::Read(x) => (Logits::Read(x), Logits::Read(x)),
            Logits::Written(io) => {
                let (io_a, io_b) = io.split_at(at);
                (Logits::Written(io_a), Logits::Written(io_b))
            }
        };
        (
            Losses { logits: logits_a, rows: at, first, cols, losses: a, each, op },
            Losses { logits: logits_b, rows: rows - at, first: first + at, cols, losses: b, each, op },
        )
    }
}

impl<'w, E: Element> Kernel for Losses<'_, 'w, E> {
    type Out = (Written<'w>, Counts);

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> Self::Out {
        let Losses { mut logits, rows, first, cols, losses, each, op } = self;
        let mut written = Written::default();
        // If there are 0 rows, `cols` may be too large for a buffer. If rows have neither elements nor losses, `rows`
        // may be too large for a loop.
        if rows == 0 || cols == 0 && losses.is_empty() {
            return (written, Counts::default());
        }
        let mut lent = lend_scratch();
        let scratch = lent.get();
        let x = scratch_slice(&mut scratch.logits.f64s, cols);
        let dx = scratch_slice(&mut scratch.made.f64s, cols);
        let beside = scratch_slice(&mut scratch.beside.f64s, cols);
        for i in 0..rows {
            let losses = &mut losses[i * each..][..each];
            let span = match &mut logits {
                Logits::Read(rows) => {
                    widen(isa, rows.row(first + i), x);
                    None
                }
                Logits::Written(io) => {
                    let span = io.span(i);
                    widen(isa, span.source(), x);
                    Some(span)
                }
            };
            op.row(isa, first + i, Row { x: &mut *x, dx: &mut *dx, beside: &mut *beside, losses });
            if let Some(span) = span {
                let stored = span.reading(dx).map(
                    isa,
                    #[inline(always)]
                    |_, v: I::F64| v,
                );
                written = written + stored.into();
            }
        }
        (written, Counts { rows: rows as u64, ..Counts::default() })
    }
}

#[inline(always)]
fn widen<I: Isa, E: Element>(isa: I, from: &[E], to: &mut [f64]) {
    Span::in_place(to).reading(from).map(
        isa,
        #[inline(always)]
        |_, v: I::F64| v,
    );
}

/// Returns the element range of a row of targets or weights.
#[inline(always)]
pub fn elements(row: usize, cols: usize) -> Range<usize> {
    row * cols..(row + 1) * cols
}

/// Returns the tiled sum of a row.
#[inline(always)]
pub fn total<I: Isa>(isa: I, terms: &[f64]) -> f64 {
    sum_o(
        isa,
        terms.len(),
        #[inline(always)]
        |i| load_wide(isa, terms, i, 0.0),
    )
}

/// Returns a block of an operand, or ones if the operand is absent.
#[inline(always)]
pub fn or_one<I: Isa>(isa: I, values: Option<Floats<'_>>, range: Range<usize>, index: usize) -> I::F64 {
    match values {
        None => isa.f64(1.0),
        Some(values) => values.block(isa, range, index),
    }
}

/// Returns `factor * term`. Where the factor is 0, returns 0, even if the term is not finite.
#[inline(always)]
pub fn times<I: Isa>(isa: I, factor: I::F64, term: I::F64) -> I::F64 {
    let zero = isa.f64(0.0);
    I::F64::select(factor.eq(zero), zero, factor * term)
}
