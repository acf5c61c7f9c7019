//! Functions of one element over flat slices, in chunks that fit in the first-level cache.

use super::kernels::{CHUNK, Certain, Forms};
use crate::element::Element;
use crate::error::Result;
use crate::simd::{self, ArrayVec, BLOCK, Isa, Kernel, Output, Span, Unwritten, Work, Written};

/// Applies the function to one slice, and writes the results to another slice of the same length.
pub fn apply<'a, E: Element>(x: &[E], out: Output<'a, E>, function: &dyn Forms<E>) -> Result<&'a mut [E]> {
    Ok(out.write(|to| Ok((simd::run(Flat { io: SliceIo::Apart { from: x, to }, function })?, ())))?.0)
}

/// Applies the function in place.
pub fn apply_in_place<E: Element>(data: &mut [E], function: &dyn Forms<E>) -> Result<()> {
    simd::run(Flat { io: SliceIo::InPlace(data), function })?;
    Ok(())
}

/// Source and destination of the elements.
pub enum SliceIo<'a, 'w, E> {
    Apart { from: &'a [E], to: Unwritten<'w, E> },
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
}

/// Number of elements counted as one row when the work is split over threads.
pub const ROW: usize = 4096;

impl<'w, E: Element> Work for Flat<'_, 'w, E> {
    type Out = Written<'w>;

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
        let function = self.function;
        let (a, b) = self.io.split_at(at * ROW);
        (Flat { io: a, function }, Flat { io: b, function })
    }

    fn join(first: Self::Out, rest: Self::Out) -> Self::Out {
        first + rest
    }

    #[inline(always)]
    fn run<I: Isa>(mut self, isa: I) -> Self::Out {
        let mut written = Written::default();
        let mut rest = self.io.span();
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

/// Number of elements in a chunk that is computed in place. The chunk is copied first, because the results overwrite
/// it.
const COPY: usize = 1024;
/// If the rounding of more than 1 / `MANY` of a chunk's elements is uncertain, the whole chunk is computed again in
/// f64.
const MANY: usize = 8;
/// Number of elements computed again in f64 at a time.
const TILE: usize = 64;

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
        let again = |x: &[E], to: &mut [E]| isa.outline(Again { function, x, to });
        if certain.uncertain(x.len()).map(|bits| bits.count_ones() as usize).sum::<usize>() > x.len() / MANY {
            for (x, to) in x.chunks(TILE).zip(to.chunks_mut(TILE)) {
                again(x, to);
            }
            return;
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

/// Computes at most [`TILE`] elements in f64.
struct Again<'a, E> {
    function: &'a dyn Forms<E>,
    x: &'a [E],
    to: &'a mut [E],
}

impl<E: Element> Kernel for Again<'_, E> {
    type Out = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let Again { function, x, to } = self;
        let (mut numbers, mut values) = ([0.0; TILE], [0.0; TILE]);
        let (numbers, values) = (&mut numbers[..x.len()], &mut values[..x.len()]);
        Span::in_place(&mut *numbers).reading(x).map(
            isa,
            #[inline(always)]
            |_, x: I::F32| x,
        );
        function.to_odd(isa.token(), numbers, values);
        Span::in_place(to).reading(values).map(
            isa,
            #[inline(always)]
            |_, value: I::F64| value,
        );
    }
}
