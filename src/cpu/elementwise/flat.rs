//! Functions of one element over flat slices, in chunks that fit in the first-level cache.

use super::kernels::{CHUNK, Certain, Forms, InF64};
use super::tables::Table;
use crate::element::Element;
use crate::error::Result;
use crate::simd::{self, ArrayVec, BLOCK, Isa, Kernel, Output, Span, Work, Written};

/// Applies the function to one slice, and writes the results to another slice of the same length.
pub fn apply<'a, E: Element>(x: &[E], out: Output<'a, E>, function: &dyn Forms<E>) -> Result<&'a mut [E]> {
    let table = table(x.len(), function)?;
    Ok(out.write(|to| Ok((simd::run(Flat { io: SliceIo::Apart { from: x, to }, function, table })?, ())))?.0)
}

/// Applies the function in place.
pub fn apply_in_place<E: Element>(data: &mut [E], function: &dyn Forms<E>) -> Result<()> {
    let table = table(data.len(), function)?;
    simd::run(Flat { io: SliceIo::InPlace(data), function, table })?;
    Ok(())
}

/// Returns the table of the function's results, if the next `len` elements should be read from it.
fn table<E: Element>(len: usize, function: &dyn Forms<E>) -> Result<Option<&'static Table>> {
    let Some(tables) = function.tables() else { return Ok(None) };
    tables.get(len, |values| {
        simd::run(Flat { io: SliceIo::InPlace(values), function, table: None })?;
        Ok(())
    })
}

/// Source and destination of the elements.
pub enum SliceIo<'a, 'w, E> {
    Apart { from: &'a [E], to: Output<'w, E> },
    InPlace(&'a mut [E]),
}

impl<E: Element> SliceIo<'_, '_, E> {
    /// Splits off the first `at` elements.
    pub fn split_at(self, at: usize) -> (Self, Self) {
        match self {
            SliceIo::Apart { from, to } => {
                let (from_a, from_b) = from.split_at(at);
                let (to_a, to_b) = to.split_at(at);
                (SliceIo::Apart { from: from_a, to: to_a }, SliceIo::Apart { from: from_b, to: to_b })
            }
            SliceIo::InPlace(data) => {
                let (a, b) = data.split_at_mut(at);
                (SliceIo::InPlace(a), SliceIo::InPlace(b))
            }
        }
    }

    #[inline(always)]
    pub fn span(&mut self) -> Span<'_, '_, E, E> {
        match self {
            SliceIo::Apart { from, to } => Span::new(from, to.reborrow()),
            SliceIo::InPlace(data) => Span::in_place(data),
        }
    }
}

/// Applies a function to a slice.
pub struct Flat<'a, 'w, E> {
    pub io: SliceIo<'a, 'w, E>,
    pub function: &'a dyn Forms<E>,
    pub table: Option<&'static Table>,
}

/// Number of elements counted as one row when the work is split over threads.
pub const ROW: usize = 4096;

impl<'w, E: Element> Work for Flat<'_, 'w, E> {
    fn rows(&self) -> usize {
        let len = match &self.io {
            SliceIo::Apart { from, .. } => from.len(),
            SliceIo::InPlace(data) => data.len(),
        };
        len.div_ceil(ROW)
    }

    fn cols(&self) -> usize {
        ROW
    }

    fn split_at(self, at: usize) -> (Self, Self) {
        let Flat { io, function, table } = self;
        let (a, b) = io.split_at(at * ROW);
        (Flat { io: a, function, table }, Flat { io: b, function, table })
    }
}

impl<'w, E: Element> Kernel for Flat<'_, 'w, E> {
    type Out = Written<'w>;

    #[inline(always)]
    fn run<I: Isa>(mut self, isa: I) -> Self::Out {
        let mut written = Written::default();
        let mut rest = self.io.span();
        if let Some(table) = self.table {
            return look_up(table, rest).into();
        }
        let most = if rest.separate_source().is_some() { CHUNK } else { COPY };
        let mut copy = ArrayVec::<E, COPY>::new();
        while rest.len() > 0 {
            let chunk;
            let count = most.min(rest.len());
            (chunk, rest) = rest.split_at(count);
            let x = match chunk.separate_source() {
                Some(x) => x,
                None => copy.fill(chunk.source()),
            };
            let mut certain = Certain::new();
            let to = self.function.values(isa.token(), x, chunk, &mut certain);
            if !certain.all(x.len()) {
                isa.outline(Mend { function: self.function, x, to, certain: &certain });
            }
            written = written + to.into();
        }
        written
    }
}

/// Writes the table's entry for each element. This is a separate function, so that it is compiled once for all
/// instruction sets: it uses no vector instructions.
#[inline(never)]
fn look_up<'w, E: Element>(table: &Table, span: Span<'_, 'w, E, E>) -> &'w mut [E] {
    span.map_each(
        #[inline(always)]
        |x| E::from_bits(table[usize::from(x.bits() as u16)].into()),
    )
}

/// Number of elements in a chunk that is computed in place. The chunk is copied first, because the results overwrite
/// it.
const COPY: usize = 1024;
/// If the rounding of more than 1 / `MANY` of a chunk's elements is uncertain, the whole chunk is computed again in
/// f64.
const MANY: usize = 8;

/// Computes elements of a chunk again, in f64, if their rounding is uncertain.
struct Mend<'a, E> {
    function: &'a dyn Forms<E>,
    x: &'a [E],
    to: &'a mut [E],
    certain: &'a Certain,
}

impl<E: Element> Kernel for Mend<'_, E> {
    type Out = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let Mend { function, x, to, certain } = self;
        let again = |x: &[E], to: &mut [E]| {
            isa.outline(InF64 { function, x, to: Span::in_place(to) });
        };
        if certain.uncertain(x.len()).map(|bits| bits.count_ones() as usize).sum::<usize>() > x.len() / MANY {
            return again(x, to);
        }
        let (mut places, mut values, mut results) = ([0; BLOCK], [E::ZERO; BLOCK], [E::ZERO; BLOCK]);
        let mut found = 0;
        let mut write = |places: &[usize], values: &[E]| {
            again(values, &mut results[..values.len()]);
            for (place, result) in places.iter().zip(&results) {
                to[*place] = *result;
            }
        };
        for (i, mut bits) in certain.uncertain(x.len()).enumerate() {
            while bits != 0 {
                let place = u64::BITS as usize * i + bits.trailing_zeros() as usize;
                bits &= bits - 1;
                (places[found], values[found]) = (place, x[place]);
                found += 1;
                if found == BLOCK {
                    write(&places, &values);
                    found = 0;
                }
            }
        }
        write(&places[..found], &values[..found]);
    }
}
