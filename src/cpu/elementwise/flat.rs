//! The way of a flat slice through a function's kernels, in chunks that the nearest cache holds.

use super::kernels::{CHUNK, Certain, Forms, Rounding};
use crate::cpu::scratch::{self, Scratch, room};
use crate::element::{DType, Element};
use crate::error::Result;
use crate::floats::Floats;
use crate::simd::{self, Isa, LANES, Output, Span, Token, Work, Written};
use std::mem::MaybeUninit;

/// Runs the function from one slice into another of the same length.
pub fn apply<'a, E: Element>(x: &[E], out: Output<'a, E>, function: &dyn Forms) -> Result<&'a mut [E]> {
    let (to, finish) = out.start();
    let written = simd::run(Flat { ends: Ends::Apart { from: x, to }, function })?;
    Ok(finish.done(written))
}

/// Runs the function in place.
pub fn apply_in_place<E: Element>(data: &mut [E], function: &dyn Forms) -> Result<()> {
    simd::run(Flat { ends: Ends::InPlace(data), function })?;
    Ok(())
}

/// Where elements are read and written.
pub enum Ends<'a, E> {
    Apart { from: &'a [E], to: &'a mut [MaybeUninit<E>] },
    InPlace(&'a mut [E]),
}

impl<'a, E: Element> Ends<'a, E> {
    /// The first `at` elements, and the rest.
    pub fn split_at(self, at: usize) -> (Self, Self) {
        match self {
            Ends::Apart { from, to } => {
                let (from_a, from_b) = from.split_at(at);
                let (to_a, to_b) = to.split_at_mut(at);
                (Ends::Apart { from: from_a, to: to_a }, Ends::Apart { from: from_b, to: to_b })
            }
            Ends::InPlace(data) => {
                let (a, b) = data.split_at_mut(at);
                (Ends::InPlace(a), Ends::InPlace(b))
            }
        }
    }

    #[inline(always)]
    pub fn span(self) -> Span<'a, E, E> {
        match self {
            Ends::Apart { from, to } => Span::new(from, to),
            Ends::InPlace(data) => Span::in_place(data),
        }
    }
}

/// A function over a slice.
pub struct Flat<'a, E> {
    pub ends: Ends<'a, E>,
    pub function: &'a dyn Forms,
}

/// Elements that count as a row when the work is cut.
pub const ROW: usize = 4096;

impl<E: Element> Work for Flat<'_, E> {
    type Out = Written;

    fn rows(&self) -> usize {
        let len = match &self.ends {
            Ends::Apart { from, .. } => from.len(),
            Ends::InPlace(data) => data.len(),
        };
        len.div_ceil(ROW)
    }

    fn cols(&self) -> usize {
        ROW
    }

    fn split_at(self, at: usize) -> (Self, Self) {
        let function = self.function;
        let (a, b) = self.ends.split_at(at * ROW);
        (Flat { ends: a, function }, Flat { ends: b, function })
    }

    fn join(first: Written, rest: Written) -> Written {
        first + rest
    }

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> Written {
        let (function, token) = (self.function, isa.token());
        let span = match self.ends.span().cast::<f64>() {
            Ok(span) => return function.of_f64(token, span).into(),
            Err(span) => span,
        };
        let is_direct = E::DTYPE == DType::F32 && function.has_pairs() && span.separate_source().is_some();
        let at_a_time = if is_direct { CHUNK } else { TILE };
        scratch::with(
            #[inline(always)]
            |scratch| {
                let mut written = Written::default();
                let mut rest = span;
                while rest.len() > 0 {
                    let chunk;
                    let count = at_a_time.min(rest.len());
                    (chunk, rest) = rest.split_at(count);
                    written = written + run_chunk(isa, token, function, chunk, scratch);
                }
                written
            },
        )
    }
}

/// Elements at a time where they are converted.
const TILE: usize = 1024;
/// Of those, the uncertain ones from which on all are done again: one in eight.
const MANY: usize = 8;

/// At most [`CHUNK`] elements in pairs of f32; those of which the rounding is not certain are done again in f64.
#[inline(always)]
fn run_chunk<I: Isa, E: Element>(
    isa: I,
    token: Token,
    function: &dyn Forms,
    span: Span<'_, E, E>,
    scratch: &mut Scratch,
) -> Written {
    let len = span.len();
    let Scratch { logits, made, .. } = scratch;
    let x = match span.separate_source().map(E::floats) {
        Some(Floats::F32(x)) => x,
        _ => {
            let copy = room(&mut logits.f32s, len);
            Span::in_place(&mut *copy).map_from(
                isa,
                span.source(),
                #[inline(always)]
                |_, x| x,
            );
            &*copy
        }
    };
    let wide = room(&mut made.f64s, len.min(TILE));
    if !function.has_pairs() {
        function.to_odd(token, x, wide);
        return store(isa, span, wide).into();
    }
    let mut certain = Certain::new();
    let rounding = Rounding::of::<E>();
    match span.cast::<f32>() {
        Ok(span) => {
            let to = function.in_pairs(token, x, span, rounding, &mut certain);
            mend(isa, token, function, x, to, &certain, wide)
        }
        Err(span) => {
            let results = Span::in_place(room(&mut made.f32s, len));
            let results = &*function.in_pairs(token, x, results, rounding, &mut certain);
            let to = span.reading(results).numbers(
                isa,
                #[inline(always)]
                |_, value| value,
            );
            mend(isa, token, function, x, to, &certain, wide)
        }
    }
}

/// Rounds values to the span's type.
#[inline(always)]
fn store<'a, I: Isa, E: Element>(isa: I, span: Span<'a, E, E>, values: &[f64]) -> &'a mut [E] {
    span.map_from_wide(
        isa,
        values,
        #[inline(always)]
        |_, value| value,
    )
}

/// Does the uncertain elements again: all if there are many, or else sixteen at a time.
#[inline(always)]
fn mend<I: Isa, E: Element>(
    isa: I,
    token: Token,
    function: &dyn Forms,
    x: &[f32],
    to: &mut [E],
    certain: &Certain,
    wide: &mut [f64],
) -> Written {
    let count = certain.uncertain(x.len()).map(u64::count_ones).sum::<u32>() as usize;
    if count > x.len() / MANY {
        for (x, to) in x.chunks(TILE).zip(to.chunks_mut(TILE)) {
            let wide = &mut wide[..x.len()];
            function.to_odd(token, x, wide);
            store(isa, Span::in_place(to), wide);
        }
        return to.into();
    }
    if count == 0 {
        return to.into();
    }
    let (mut places, mut values) = ([0; LANES], [0.0; LANES]);
    let mut again = |places: &[usize], values: &[f32; LANES]| {
        let (mut wide, mut results) = ([0.0; LANES], [E::ZERO; LANES]);
        function.to_odd(token, values, &mut wide);
        for (place, result) in places.iter().zip(store(isa, Span::in_place(&mut results), &wide)) {
            to[*place] = *result;
        }
    };
    let mut found = 0;
    for (i, mut bits) in certain.uncertain(x.len()).enumerate() {
        while bits != 0 {
            let place = u64::BITS as usize * i + bits.trailing_zeros() as usize;
            bits &= bits - 1;
            (places[found], values[found]) = (place, x[place]);
            found += 1;
            if found == LANES {
                again(&places, &values);
                found = 0;
            }
        }
    }
    again(&places[..found], &values);
    to.into()
}
