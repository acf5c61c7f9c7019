//! Functions of one element over flat slices.
//!
//! Every function is computed in f64 with a low part and rounded once, which makes it correctly rounded in f32, f16
//! and bf16; that is also what makes its bits equal on every machine.

use crate::element::Element;
use crate::error::Result;
use crate::math::exp::{exp, exp_below_one, exp_parts};
use crate::math::log::log;
use crate::math::wide::{Wide, fast_two_sum};
use crate::simd::{self, Float, Isa, Output, Select, Span, Work, Written};
use std::mem::MaybeUninit;

/// A function of one number.
pub trait Function: Copy + Send + Sync {
    /// Its value for every x, to be rounded to `E`. `#[inline(always)]`, like everything it calls.
    fn eval<I: Isa, E: Element>(self, isa: I, x: I::F64) -> Wide<I>;
}

/// e^x.
#[derive(Clone, Copy)]
pub struct Exp;
/// ln x.
#[derive(Clone, Copy)]
pub struct Log;
/// 1 / (1 + e^-x).
#[derive(Clone, Copy)]
pub struct Sigmoid;
/// x / (1 + e^-x).
#[derive(Clone, Copy)]
pub struct Silu;

impl Function for Exp {
    #[inline(always)]
    fn eval<I: Isa, E: Element>(self, isa: I, x: I::F64) -> Wide<I> {
        exp::<I, E>(isa, x)
    }
}

impl Function for Log {
    #[inline(always)]
    fn eval<I: Isa, E: Element>(self, isa: I, x: I::F64) -> Wide<I> {
        log(isa, x)
    }
}

impl Function for Sigmoid {
    #[inline(always)]
    fn eval<I: Isa, E: Element>(self, isa: I, x: I::F64) -> Wide<I> {
        sigmoid::<I, E>(isa, x)
    }
}

impl Function for Silu {
    #[inline(always)]
    fn eval<I: Isa, E: Element>(self, isa: I, x: I::F64) -> Wide<I> {
        let s = sigmoid::<I, E>(isa, x);
        let x = isa.f64(lowest::<E>()).max(x);
        let hi = x * s.hi;
        let lo = x.mul_add(s.hi, isa.f64(0.0) - hi) + x * s.lo;
        // At +inf the product has no error, though infinity less itself says NaN.
        Wide { hi, lo: I::F64::select(lo.is_nan(), isa.f64(0.0), lo), exponent: s.exponent }
    }
}

/// Where sigmoid and silu have both reached zero: ten below where exp has, since silu multiplies by x.
#[inline(always)]
fn lowest<E: Element>() -> f64 {
    E::LIMITS.exp_min - 10.0
}

/// 1 / (1 + t) for x >= 0 and t / (1 + t) below, with t = e^-|x|: nothing overflows and nothing cancels.
#[inline(always)]
fn sigmoid<I: Isa, E: Element>(isa: I, x: I::F64) -> Wide<I> {
    let one = isa.f64(1.0);
    let zero = isa.f64(0.0);
    let minus = isa.f64(lowest::<E>()).max(zero - x.abs());
    let t = exp_parts(isa, minus, zero).normalised();
    let (t_high, t_low) = exp_below_one(isa, &t, minus);
    let (d, d_low) = fast_two_sum(one, t_high);
    let d_low = d_low + t_low;
    let negative = x.lt(zero);
    let n = I::F64::select(negative, t.hi, one);
    let n_low = I::F64::select(negative, t.lo, zero);
    let reciprocal = one / d;
    let q = n * reciprocal;
    let rest = (zero - q).mul_add(d, n) + (zero - q).mul_add(d_low, n_low);
    let none = isa.f64(0.0).to_bits();
    Wide { hi: q, lo: rest * reciprocal, exponent: t.exponent.map(|e| I::I64::select(negative, e, none)) }
}

/// Runs the function from one slice into another of the same length.
pub fn apply<'a, E: Element>(x: &[E], out: Output<'a, E>, function: impl Function) -> Result<&'a mut [E]> {
    let (to, finish) = out.start();
    let written = simd::run(Flat { span: Ends::Apart { from: x, to }, function })?;
    Ok(finish.done(written))
}

/// Runs the function in place.
pub fn apply_in_place<E: Element>(data: &mut [E], function: impl Function) -> Result<()> {
    simd::run(Flat { span: Ends::InPlace(data), function })?;
    Ok(())
}

enum Ends<'a, E> {
    Apart { from: &'a [E], to: &'a mut [MaybeUninit<E>] },
    InPlace(&'a mut [E]),
}

struct Flat<'a, E, F> {
    span: Ends<'a, E>,
    function: F,
}

/// Elements that count as a row when the work is cut.
const ROW: usize = 4096;

impl<E: Element, F: Function> Work for Flat<'_, E, F> {
    type Out = Written;

    fn rows(&self) -> usize {
        let len = match &self.span {
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
        let (a, b) = match self.span {
            Ends::Apart { from, to } => {
                let (from_a, from_b) = from.split_at(at * ROW);
                let (to_a, to_b) = to.split_at_mut(at * ROW);
                (Ends::Apart { from: from_a, to: to_a }, Ends::Apart { from: from_b, to: to_b })
            }
            Ends::InPlace(data) => {
                let (a, b) = data.split_at_mut(at * ROW);
                (Ends::InPlace(a), Ends::InPlace(b))
            }
        };
        (Flat { span: a, function }, Flat { span: b, function })
    }

    fn join(first: Written, rest: Written) -> Written {
        first + rest
    }

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> Written {
        let span = match self.span {
            Ends::Apart { from, to } => Span::new(from, to),
            Ends::InPlace(data) => Span::in_place(data),
        };
        span.map_wide(
            isa,
            #[inline(always)]
            |_, x| self.function.eval::<I, E>(isa, x).round::<E>(isa),
        )
        .into()
    }
}
