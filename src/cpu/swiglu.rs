//! Product silu(gate) * up. It is computed in f32 for elements where f32 is accurate enough, otherwise in f64.
//!
//! The choice for an element depends on that element alone. The f64 computation is a separate function, which is called
//! for every chunk with at least one element that needs f64.

use super::elementwise::{AHEAD, ROW, SliceIo};
use crate::element::Element;
use crate::error::Result;
use crate::math::swiglu::{Narrow, swiglu};
use crate::simd::{self, Float, Isa, Kernel, MaskBits, NotNan, Output, PrefetchRow, Select, Span, Work, Written};

/// Number of elements processed at a time. If the gate is overwritten, each of its chunks is copied first.
const CHUNK: usize = 512;

/// Computes silu(gate) * up for each element, and writes the products to a third slice of the same length.
pub fn apply<'a, E: Element>(gate: &[E], up: &[E], out: Output<'a, E>) -> Result<&'a mut [E]> {
    Ok(out.write(|to| Ok((simd::run(Flat { io: SliceIo::Apart { from: gate, to }, up })?, ())))?.0)
}

/// Computes the products, and overwrites the gate with them.
pub fn apply_in_place<E: Element>(gate: &mut [E], up: &[E]) -> Result<()> {
    simd::run(Flat { io: SliceIo::InPlace(gate), up })?;
    Ok(())
}

struct Flat<'a, 'w, E> {
    io: SliceIo<'a, 'w, E>,
    up: &'a [E],
}

impl<'w, E: Element> Work for Flat<'_, 'w, E> {
    fn rows(&self) -> usize {
        self.up.len().div_ceil(ROW)
    }

    fn cols(&self) -> usize {
        ROW
    }

    fn split_at(self, at: usize) -> (Self, Self) {
        let ((a, b), (up_a, up_b)) = (self.io.split_at(at * ROW), self.up.split_at(at * ROW));
        (Flat { io: a, up: up_a }, Flat { io: b, up: up_b })
    }
}

impl<'w, E: Element> Kernel for Flat<'_, 'w, E> {
    type Out = Written<'w>;

    #[inline(always)]
    fn run<I: Isa>(mut self, isa: I) -> Self::Out {
        let narrow = Narrow::new(isa);
        let mut copy = [E::ZERO; CHUNK];
        let mut written = Written::default();
        let mut rest = self.io.span();
        for up in self.up.chunks(CHUNK) {
            let chunk;
            (chunk, rest) = rest.split_at(up.len());
            let gate = chunk.separate_source().unwrap_or_else(|| {
                copy[..up.len()].copy_from_slice(chunk.source());
                &copy[..up.len()]
            });
            let to = if E::IS_F64 {
                chunk.reading(gate).map_with(
                    isa,
                    [up],
                    #[inline(always)]
                    |_, gate: I::F64, [up]| swiglu::<I, f64>(isa, gate, E::load_wide(isa, up)),
                )
            } else {
                by_narrow(isa, &narrow, gate, up, chunk)
            };
            written = written + to.into();
        }
        written
    }
}

/// Computes a chunk in f32. If f32 is not accurate enough for an element, computes the chunk again by [`Again`].
#[inline(always)]
fn by_narrow<'a, I: Isa, E: Element>(
    isa: I,
    narrow: &Narrow<I>,
    gate: &'a [E],
    up: &[E],
    chunk: Span<'_, 'a, E, E>,
) -> &'a mut [E] {
    let mut all = isa.f32(0.0).eq(isa.f32(0.0));
    let ahead = [gate, up].map(|slice| PrefetchRow::of(slice, 0).from(AHEAD));
    let ahead_to = chunk.ahead(0).from(AHEAD);
    let to = chunk.reading(gate).map_with(
        isa,
        [up],
        #[inline(always)]
        |i, gate: I::F32, [up]| {
            ahead[0].block(i);
            ahead[1].block(i);
            ahead_to.block(i);
            let (y, serves) = narrow.product::<E>(gate, E::load(isa, up));
            all = all & serves;
            NotNan(y)
        },
    );
    if all.bits() != u16::MAX {
        isa.outline(Again { gate, up, to });
    }
    to
}

/// Second computation of a chunk. Elements for which f32 is not accurate enough are computed in f64.
struct Again<'a, E> {
    gate: &'a [E],
    up: &'a [E],
    to: &'a mut [E],
}

impl<E: Element> Kernel for Again<'_, E> {
    type Out = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let narrow = Narrow::new(isa);
        let (zero, one) = (isa.f32(0.0), isa.f32(1.0));
        Span::in_place(self.to).reading(self.gate).map_with(
            isa,
            [self.up],
            #[inline(always)]
            |_, gate: I::F64, [up]| {
                let (y, serves) = narrow.product::<E>(isa.narrow(gate), E::load(isa, up));
                let serves = isa.widen(I::F32::select(serves, one, zero)).eq(isa.f64(1.0));
                I::F64::select(serves, isa.widen(y), swiglu::<I, f32>(isa, gate, E::load_wide(isa, up)))
            },
        );
    }
}
