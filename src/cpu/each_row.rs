//! Computes one value for each row. In most calls, the rows are shards, and the values of all shards of a row are
//! merged later.

use super::scratch::{Scratch, lend_scratch};
use crate::element::Element;
use crate::error::Result;
use crate::rows::Rows;
use crate::simd::{self, Isa, Kernel, Work};

/// Computation of one value for a row.
pub trait OfRow<E: Element>: Copy + Send + Sync {
    type Out: Clone + Send;
    /// Returns the name of the op, for errors.
    fn op(&self) -> &'static str;
    /// Computes the value of the row with this index. Must be `#[inline(always)]`, like everything it calls.
    fn row<I: Isa>(&self, isa: I, row: usize, x: &[E], scratch: &mut Scratch) -> Self::Out;
}

/// Computes the value of every row.
pub fn each_row<E: Element, F: OfRow<E>>(x: Rows<'_, E>, nothing: F::Out, make: F) -> Result<Vec<F::Out>> {
    let mut to = simd::filled(make.op(), "the statistics of each row", x.rows(), nothing)?;
    simd::run(EachRow { x, first: 0, to: &mut to, make })?;
    Ok(to)
}

struct EachRow<'a, E: Element, F: OfRow<E>> {
    x: Rows<'a, E>,
    first: usize,
    to: &'a mut [F::Out],
    make: F,
}

impl<E: Element, F: OfRow<E>> Work for EachRow<'_, E, F> {
    fn rows(&self) -> usize {
        self.to.len()
    }

    fn cols(&self) -> usize {
        self.x.cols()
    }

    fn split_at(self, at: usize) -> (Self, Self) {
        let (a, b) = self.to.split_at_mut(at);
        (EachRow { to: a, ..self }, EachRow { first: self.first + at, to: b, ..self })
    }
}

impl<E: Element, F: OfRow<E>> Kernel for EachRow<'_, E, F> {
    type Out = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let mut lent = lend_scratch();
        let scratch = lent.get();
        for (i, to) in self.to.iter_mut().enumerate() {
            let row = self.first + i;
            *to = self.make.row(isa, row, self.x.row(row), scratch);
        }
    }
}
