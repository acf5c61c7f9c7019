//! Functions of two elements over flat slices of equal length.
//!
//! Elements are widened to f64 a chunk at a time. So each instruction set needs only two compiled versions of a
//! function: one for f64 and one for all narrower types.

use super::elementwise::{ROW, SliceIo};
use crate::element::Element;
use crate::error::Result;
use crate::math::derivative::within;
use crate::math::softplus::log_add_exp;
use crate::math::wide::Wide;
use crate::simd::{self, BLOCK, Float, Isa, Kernel, Output, Select, Span, Work, Written};
use std::marker::PhantomData;

/// Number of elements widened at a time.
const CHUNK: usize = 512;

/// A function of two numbers. A type that implements this trait may also be an enum of several such functions.
pub trait Pairwise: Copy + Send + Sync {
    /// Applies the function to each value and the number at the same index in `other`, and overwrites the value with
    /// the result. The caller then rounds the result to `E`, which is f64 for f64 tensors and f32 for all others. Must
    /// be `#[inline(always)]`; the functions that it calls are outlined.
    fn run<I: Isa, E: Element>(self, isa: I, other: &[f64], values: &mut [f64]);
}

/// Functions exposed as ops.
#[derive(Clone, Copy)]
pub enum Function {
    /// ln(e^a + e^b).
    LogAddExp,
    /// x / d, with |d| raised to at least eps. The result's magnitude is limited to the type's largest value.
    SafeDiv { eps: f64, largest: f64 },
}

impl Pairwise for Function {
    #[inline(always)]
    fn run<I: Isa, E: Element>(self, isa: I, other: &[f64], values: &mut [f64]) {
        let rounded_to = PhantomData::<E>;
        match self {
            Function::LogAddExp => isa.outline(LogAddExp { other, values, rounded_to }),
            Function::SafeDiv { eps, largest } => isa.outline(SafeDiv { eps, largest, other, values, rounded_to }),
        }
    }
}

struct LogAddExp<'a, E> {
    other: &'a [f64],
    values: &'a mut [f64],
    rounded_to: PhantomData<E>,
}

impl<E: Element> Kernel for LogAddExp<'_, E> {
    type Out = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        map(
            isa,
            self.other,
            self.values,
            #[inline(always)]
            |b, a| log_add_exp::<I, E>(isa, a, b).round::<E>(isa),
        );
    }
}

struct SafeDiv<'a, E> {
    eps: f64,
    largest: f64,
    other: &'a [f64],
    values: &'a mut [f64],
    rounded_to: PhantomData<E>,
}

impl<E: Element> Kernel for SafeDiv<'_, E> {
    type Out = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let (eps, zero, sign) = (isa.f64(self.eps), isa.f64(0.0), isa.i64(i64::MIN));
        map(
            isa,
            self.other,
            self.values,
            #[inline(always)]
            |d, x| {
                let least = I::F64::from_bits(eps.to_bits() | (d.to_bits() & sign));
                let away = I::F64::select(d.abs().lt(eps), least, d);
                let q = x / away;
                let q = if E::IS_F64 {
                    q
                } else {
                    // The rounding error of the quotient decides ties in the narrower type. For an infinite quotient,
                    // this error is set to 0.
                    let rest = (isa.f64(-0.0) - q).mul_add(away, x) / away;
                    let lo = I::F64::select(rest.abs().lt(isa.f64(f64::INFINITY)), rest, isa.f64(-0.0));
                    Wide { hi: q, lo, exponent: None }.round::<E>(isa)
                };
                // With an eps of 0, 0 / 0 is defined as 0.
                let q = I::F64::select(x.eq(zero) & d.eq(zero), zero, q);
                within(isa, q, self.largest)
            },
        );
    }
}

/// Applies the function to two slices, and writes the results to a third slice of the same length.
pub fn apply<'a, E: Element>(x: &[E], other: &[E], out: Output<'a, E>, function: impl Pairwise) -> Result<&'a mut [E]> {
    Ok(out.write(|to| Ok((simd::run(Flat { io: SliceIo::Apart { from: x, to }, other, function })?, ())))?.0)
}

/// Applies the function, and overwrites the first slice with the results.
pub fn apply_in_place<E: Element>(x: &mut [E], other: &[E], function: impl Pairwise) -> Result<()> {
    simd::run(Flat { io: SliceIo::InPlace(x), other, function })?;
    Ok(())
}

struct Flat<'a, 'w, E, F> {
    io: SliceIo<'a, 'w, E>,
    other: &'a [E],
    function: F,
}

impl<'w, E: Element, F: Pairwise> Work for Flat<'_, 'w, E, F> {
    fn rows(&self) -> usize {
        self.other.len().div_ceil(ROW)
    }

    fn cols(&self) -> usize {
        ROW
    }

    fn split_at(self, at: usize) -> (Self, Self) {
        let Flat { io, other, function } = self;
        let ((a, b), (other_a, other_b)) = (io.split_at(at * ROW), other.split_at(at * ROW));
        (Flat { io: a, other: other_a, function }, Flat { io: b, other: other_b, function })
    }
}

impl<'w, E: Element, F: Pairwise> Kernel for Flat<'_, 'w, E, F> {
    type Out = Written<'w>;

    #[inline(always)]
    fn run<I: Isa>(mut self, isa: I) -> Self::Out {
        let (mut values, mut others) = ([0.0; CHUNK], [0.0; CHUNK]);
        let mut written = Written::default();
        let mut rest = self.io.span();
        for other in self.other.chunks(CHUNK) {
            let chunk;
            (chunk, rest) = rest.split_at(other.len());
            let (values, others) = (&mut values[..other.len()], &mut others[..other.len()]);
            widen(isa, chunk.source(), values);
            widen(isa, other, others);
            if E::IS_F64 {
                self.function.run::<I, f64>(isa, others, values);
            } else {
                self.function.run::<I, f32>(isa, others, values);
            }
            written = written + store(isa, values, chunk).into();
        }
        written
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

#[inline(always)]
fn store<'a, I: Isa, E: Element>(isa: I, from: &[f64], to: Span<'_, 'a, E, E>) -> &'a mut [E] {
    to.reading(from).map(
        isa,
        #[inline(always)]
        |_, v: I::F64| v,
    )
}

/// Overwrites each value with `f(other, value)`.
#[inline(always)]
pub fn map<I: Isa>(isa: I, other: &[f64], values: &mut [f64], f: impl Fn(I::F64, I::F64) -> I::F64) {
    Span::in_place(values).map_with(
        isa,
        [other],
        #[inline(always)]
        |_, value: I::F64, [other]| f(isa.load_f64(other), value),
    );
    const { assert!(CHUNK.is_multiple_of(BLOCK)) };
}
