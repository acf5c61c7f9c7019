//! Gradients of swiglu with respect to both arguments, in f64. Three slices are read once, and two are written once.

use super::elementwise::{ROW, SliceIo};
use crate::element::Element;
use crate::error::Result;
use crate::math::swiglu::{by_gate, by_up};
use crate::simd::{self, Isa, Kernel, Output, Span, Work, Written, load_wide};
use std::marker::PhantomData;

/// Number of elements widened at a time.
const CHUNK: usize = 512;

/// Writes the gradients of `gate` and `up` to two slices of the same length.
pub fn apply<'a, E: Element>([gate, up, dy]: [&[E]; 3], [dgate, dup]: [Output<'a, E>; 2]) -> Result<[&'a mut [E]; 2]> {
    let (written, ()) = simd::write_all([dgate, dup], |[to_gate, to_up]| {
        let io = [SliceIo::Apart { from: gate, to: to_gate }, SliceIo::Apart { from: up, to: to_up }];
        Ok((simd::run(Flat { io, dy })?, ()))
    })?;
    Ok(written)
}

/// Overwrites `gate` and `up` with their gradients.
pub fn apply_in_place<E: Element>([gate, up]: [&mut [E]; 2], dy: &[E]) -> Result<()> {
    simd::run(Flat { io: [SliceIo::InPlace(gate), SliceIo::InPlace(up)], dy })?;
    Ok(())
}

struct Flat<'a, 'w, E> {
    /// Source and destination for the gate and for `up`.
    io: [SliceIo<'a, 'w, E>; 2],
    dy: &'a [E],
}

impl<'w, E: Element> Work for Flat<'_, 'w, E> {
    fn rows(&self) -> usize {
        self.dy.len().div_ceil(ROW)
    }

    fn cols(&self) -> usize {
        ROW
    }

    fn split_at(self, at: usize) -> (Self, Self) {
        let (dy_a, dy_b) = self.dy.split_at(at * ROW);
        let [gate, up] = self.io;
        let ((gate_a, gate_b), (up_a, up_b)) = (gate.split_at(at * ROW), up.split_at(at * ROW));
        (Flat { io: [gate_a, up_a], dy: dy_a }, Flat { io: [gate_b, up_b], dy: dy_b })
    }
}

impl<'w, E: Element> Kernel for Flat<'_, 'w, E> {
    type Out = [Written<'w>; 2];

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> Self::Out {
        let mut buffers = [[0.0; CHUNK]; 3];
        let mut written = [Written::default(); 2];
        let [mut gates, mut ups] = self.io;
        let (mut gates, mut ups) = (gates.span(), ups.span());
        for dy in self.dy.chunks(CHUNK) {
            let (gate, up);
            (gate, gates) = gates.split_at(dy.len());
            (up, ups) = ups.split_at(dy.len());
            let [wide_gate, wide_up, wide_dy] = &mut buffers;
            let len = dy.len();
            let (wide_gate, wide_up, wide_dy) = (&mut wide_gate[..len], &mut wide_up[..len], &mut wide_dy[..len]);
            for (from, to) in [(gate.source(), &mut *wide_gate), (up.source(), &mut *wide_up), (dy, &mut *wide_dy)] {
                convert(isa, from, Span::in_place(to));
            }
            if E::IS_F64 {
                isa.outline(Each { gate: wide_gate, up: wide_up, dy: wide_dy, rounded_to: PhantomData::<f64> });
            } else {
                isa.outline(Each { gate: wide_gate, up: wide_up, dy: wide_dy, rounded_to: PhantomData::<f32> });
            }
            written[0] = written[0] + convert(isa, wide_gate, gate).into();
            written[1] = written[1] + convert(isa, wide_up, up).into();
        }
        written
    }
}

/// Converts the numbers to the type of the destination.
#[inline(always)]
fn convert<'a, I: Isa, S: Element, T: Element, D: Element>(isa: I, from: &[S], to: Span<'_, 'a, T, D>) -> &'a mut [D] {
    to.reading(from).map(
        isa,
        #[inline(always)]
        |_, v: I::F64| v,
    )
}

/// Kernel that overwrites `gate` and `up` with their gradients. The caller rounds the gradients to `E`.
struct Each<'a, E> {
    gate: &'a mut [f64],
    up: &'a mut [f64],
    dy: &'a [f64],
    rounded_to: PhantomData<E>,
}

impl<E: Element> Kernel for Each<'_, E> {
    type Out = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let dy = self.dy;
        Span::map_pair(
            [Span::in_place(self.gate), Span::in_place(self.up)],
            isa,
            (),
            #[inline(always)]
            |i, [gate, up]: [I::F64; 2], ()| {
                let dy = load_wide(isa, dy, i, 0.0);
                [by_gate::<I, E>(isa, gate, up, dy), by_up::<I, E>(isa, gate, dy)]
            },
        );
    }
}
