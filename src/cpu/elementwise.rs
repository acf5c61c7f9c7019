//! Functions of one element over flat slices.
//!
//! Every function is computed in f64 with a low part and rounded once, which makes it correctly rounded in f32, f16
//! and bf16; that is also what makes its bits equal on every machine.

use crate::element::{DType, Element};
use crate::error::Result;
use crate::math::exp::{exp, exp_below_one, exp_parts};
use crate::math::exp_pair;
use crate::math::log::log;
use crate::math::sigmoid_pair;
use crate::math::wide::{Wide, fast_two_sum};
use crate::simd::{self, Float, Int, Isa, Kernel, LANES, MaskBits, Output, Select, Span, Work, Written};
use std::mem::MaybeUninit;

/// A function of one number.
pub trait Function: Copy + Send + Sync {
    /// Whether there is a form in pairs of f32, which is faster; see [`Function::pair`].
    const HAS_PAIR: bool = false;

    /// The value in f32, and where it is certainly rounded correctly. `#[inline(always)]`, like everything it calls.
    #[inline(always)]
    fn pair<I: Isa>(self, isa: I, x: I::F32) -> (I::F32, I::M32) {
        let zero = isa.f32(0.0);
        (x, zero.lt(zero))
    }

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
    const HAS_PAIR: bool = true;

    #[inline(always)]
    fn pair<I: Isa>(self, isa: I, x: I::F32) -> (I::F32, I::M32) {
        exp_pair::exp(isa, x)
    }

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
    const HAS_PAIR: bool = true;

    #[inline(always)]
    fn pair<I: Isa>(self, isa: I, x: I::F32) -> (I::F32, I::M32) {
        sigmoid_pair::sigmoid(isa, x)
    }

    #[inline(always)]
    fn eval<I: Isa, E: Element>(self, isa: I, x: I::F64) -> Wide<I> {
        sigmoid::<I, E>(isa, x)
    }
}

impl Function for Silu {
    const HAS_PAIR: bool = true;

    #[inline(always)]
    fn pair<I: Isa>(self, isa: I, x: I::F32) -> (I::F32, I::M32) {
        sigmoid_pair::silu(isa, x)
    }

    #[inline(always)]
    fn eval<I: Isa, E: Element>(self, isa: I, x: I::F64) -> Wide<I> {
        let s = sigmoid::<I, E>(isa, x);
        let x = isa.f64(lowest::<E>()).max(x);
        let hi = x * s.hi;
        let lo = x.mul_add(s.hi, isa.f64(0.0) - hi) + x * s.lo;
        // At +inf the product has no error, though infinity less itself says NaN. At -0 a low part of +0 would take
        // the sign away.
        let lo = I::F64::select(lo.is_nan(), isa.f64(0.0), lo);
        Wide { hi, lo: I::F64::select(x.eq(isa.f64(0.0)), x, lo), exponent: s.exponent }
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
        if E::DTYPE == DType::F64 || !F::HAS_PAIR {
            return wide(isa, self.function, span).into();
        }
        let mut written = Written::default();
        let mut copy = [E::ZERO; CHUNK];
        let mut rest = span;
        while rest.len() > 0 {
            let chunk;
            let count = CHUNK.min(rest.len());
            (chunk, rest) = rest.split_at(count);
            written = written + by_pairs(isa, self.function, chunk, &mut copy).into();
        }
        written
    }
}

/// All elements in f64.
#[inline(always)]
fn wide<'a, I: Isa, E: Element, F: Function>(isa: I, function: F, span: Span<'a, E, E>) -> &'a mut [E] {
    span.map_wide(
        isa,
        #[inline(always)]
        |_, x| function.eval::<I, E>(isa, x).round::<E>(isa),
    )
}

/// Elements that are done in pairs at a time.
const CHUNK: usize = 1024;

/// At most [`CHUNK`] elements in pairs of f32; those of which the rounding is not certain are done again in f64, from
/// a copy where the source is overwritten.
///
/// Uncertain lanes are noted and mended afterwards: a branch for each block would cost more than they do.
#[inline(always)]
fn by_pairs<'a, I: Isa, E: Element, F: Function>(
    isa: I,
    function: F,
    span: Span<'a, E, E>,
    copy: &mut [E; CHUNK],
) -> &'a mut [E] {
    /// Uncertain elements from which on all are done again.
    const MANY: u32 = 128;
    let x = span.separate_source().unwrap_or_else(|| {
        copy[..span.len()].copy_from_slice(span.source());
        &copy[..span.len()]
    });
    let mut uncertain = [0u16; CHUNK / LANES];
    let to = span.map_from(
        isa,
        x,
        #[inline(always)]
        |i, x| {
            let (y, certain) = function.pair(isa, x);
            uncertain[i] = !(certain & !is_midpoint::<I, E>(isa, y)).bits();
            y
        },
    );
    if !x.len().is_multiple_of(LANES) {
        uncertain[x.len() / LANES] &= (1 << (x.len() % LANES)) - 1;
    }
    let count: u32 = uncertain.iter().map(|bits| bits.count_ones()).sum();
    if count >= MANY {
        return isa.outline(Again { function, x, to });
    }
    if count > 0 {
        mend(isa, function, x, to, &uncertain);
    }
    to
}

/// Where an f32 lies halfway between two numbers of a 16-bit type, or the type's result may be subnormal: rounding it
/// once more could go wrong.
#[inline(always)]
fn is_midpoint<I: Isa, E: Element>(isa: I, y: I::F32) -> I::M32 {
    let dropped = 24 - E::LIMITS.digits;
    if dropped == 0 {
        let zero = isa.f32(0.0);
        return zero.lt(zero);
    }
    let halfway = (y.to_bits() & isa.i32((1 << dropped) - 1)).eq(isa.i32(1 << (dropped - 1)));
    halfway | y.abs().lt(isa.f32(E::LIMITS.min_normal as f32))
}

/// The f64 form as a function of its own: it is seldom needed.
struct Again<'a, 'x, E, F> {
    function: F,
    x: &'x [E],
    to: &'a mut [E],
}

impl<'a, E: Element, F: Function> Kernel for Again<'a, '_, E, F> {
    type Out = &'a mut [E];

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> &'a mut [E] {
        Span::in_place(self.to).map_from_wide(
            isa,
            self.x,
            #[inline(always)]
            |_, x| self.function.eval::<I, E>(isa, x).round::<E>(isa),
        )
    }
}

/// Does the uncertain elements again, sixteen at a time.
#[inline(always)]
fn mend<I: Isa, E: Element, F: Function>(isa: I, function: F, x: &[E], to: &mut [E], uncertain: &[u16; CHUNK / LANES]) {
    let (mut places, mut values, mut results) = ([0; LANES], [E::ZERO; LANES], [E::ZERO; LANES]);
    let mut found = 0;
    for (block, &bits) in uncertain.iter().enumerate() {
        let mut bits = bits;
        while bits != 0 {
            let place = LANES * block + bits.trailing_zeros() as usize;
            bits &= bits - 1;
            (places[found % LANES], values[found % LANES]) = (place, x[place]);
            found += 1;
            if found % LANES == 0 {
                isa.outline(Again { function, x: &values, to: &mut results });
                for (place, result) in places.iter().zip(&results) {
                    to[*place] = *result;
                }
            }
        }
    }
    isa.outline(Again { function, x: &values, to: &mut results });
    for (place, result) in places[..found % LANES].iter().zip(&results) {
        to[*place] = *result;
    }
}
