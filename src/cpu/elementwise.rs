//! Functions of one element over flat slices.
//!
//! Every function is computed in f64 with a low part and rounded once, which makes it correctly rounded in f32, f16
//! and bf16; that is also what makes its bits equal on every machine.

use crate::element::{DType, Element};
use crate::error::Result;
use crate::math::exp::exp;
use crate::math::log::log;
use crate::math::sigmoid::sigmoid;
use crate::math::wide::Wide;
use crate::math::{self, exp_pair, exp2_pair, log_pair, log2_pair, normal_pair, sigmoid_pair, softplus_pair};
use crate::simd::{self, Float, Int, Isa, Kernel, LANES, MaskBits, Output, Span, Work, Written, block};
use std::mem::MaybeUninit;

/// A function of one number.
pub trait Function: Copy + Send + Sync {
    /// Whether there is a form in pairs of f32, which is faster; see [`Function::pair`].
    const HAS_PAIR: bool = false;

    /// The value rounded to f32 from either side: right where both have the same bits. `#[inline(always)]`, like
    /// everything it calls.
    #[inline(always)]
    fn pair<I: Isa>(self, _: I, x: I::F32) -> [I::F32; 2] {
        [x, x]
    }

    /// For which x [`Function::pair`] serves; its values for them are numbers.
    #[inline(always)]
    fn serves<I: Isa>(self, _: I, x: I::F32) -> I::M32 {
        x.eq(x)
    }

    /// Its value for every x, to be rounded to `E`. `#[inline(always)]`, like everything it calls.
    fn eval<I: Isa, E: Element>(self, isa: I, x: I::F64) -> Wide<I>;
}

/// Functions without parameters: the value, and the form in pairs with where it serves, if there is one.
macro_rules! functions {
    ($($(#[doc = $doc:literal])* $name:ident: |$isa:ident, $x:ident| $value:expr $(, $pair:path, $serves:path)?;)*) => {$(
        $(#[doc = $doc])*
        #[derive(Clone, Copy)]
        pub struct $name;

        impl Function for $name {
            $(
                const HAS_PAIR: bool = true;

                #[inline(always)]
                fn pair<I: Isa>(self, isa: I, x: I::F32) -> [I::F32; 2] {
                    $pair(isa, x)
                }

                #[inline(always)]
                fn serves<I: Isa>(self, isa: I, x: I::F32) -> I::M32 {
                    $serves(isa, x)
                }
            )?

            #[inline(always)]
            fn eval<I: Isa, E: Element>(self, $isa: I, $x: I::F64) -> Wide<I> {
                $value
            }
        }
    )*};
}
functions! {
    /// e^x.
    Exp: |isa, x| exp::<I, E>(isa, x), exp_pair::exp, exp_pair::serves;
    /// 2^x.
    Exp2: |isa, x| math::exp2::exp2::<I, E>(isa, x), exp2_pair::exp2, exp2_pair::serves;
    /// e^x - 1.
    Expm1: |isa, x| math::expm1::expm1::<I, E>(isa, x);
    /// ln x.
    Log: |isa, x| log(isa, x), log_pair::log, log_pair::serves;
    /// log2 x.
    Log2: |isa, x| math::log2::log2(isa, x), log2_pair::log2, log_pair::serves;
    /// ln(1 + x).
    Log1p: |isa, x| math::log1p::log1p(isa, x);
    /// 1 / x.
    Reciprocal: |isa, x| math::reciprocal::reciprocal(isa, x), math::reciprocal::reciprocal_pair, is_number;
    /// sqrt x.
    Sqrt: |isa, x| math::sqrt::sqrt(isa, x), math::sqrt::sqrt_pair, math::sqrt::sqrt_serves;
    /// 1 / sqrt(x).
    Rsqrt: |isa, x| math::sqrt::rsqrt::<I, E>(isa, x), math::sqrt::rsqrt_pair, math::sqrt::rsqrt_serves;
    /// tanh x.
    Tanh: |isa, x| math::tanh::tanh_wide(isa, x), math::tanh_pair::tanh, is_number;
    /// 1 / (1 + e^-x).
    Sigmoid: |isa, x| sigmoid::<I, E>(isa, x), sigmoid_pair::sigmoid, sigmoid_pair::serves;
    /// -ln(1 + e^-x).
    LogSigmoid: |isa, x| math::softplus::log_sigmoid::<I, E>(isa, x), softplus_pair::log_sigmoid, softplus_pair::log_sigmoid_serves;
    /// ln(1 + e^x).
    Softplus: |isa, x| math::softplus::softplus::<I, E>(isa, x), softplus_pair::softplus, softplus_pair::serves;
    /// x / (1 + e^-x).
    Silu: |isa, x| math::sigmoid::silu::<I, E>(isa, x), sigmoid_pair::silu, sigmoid_pair::silu_serves;
    /// erf x.
    Erf: |isa, x| math::erf::erf(isa, x), normal_pair::erf, is_number;
    /// x (1 + erf(x / sqrt(2))) / 2.
    Gelu: |isa, x| math::gelu::gelu::<I, E>(isa, x), normal_pair::gelu, normal_pair::gelu_serves;
    /// x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))) / 2.
    GeluTanh: |isa, x| math::gelu_tanh::gelu_tanh::<I, E>(isa, x), sigmoid_pair::gelu_tanh, sigmoid_pair::gelu_tanh_serves;
}

/// Where forms serve that serve for every number.
#[inline(always)]
fn is_number<I: Isa>(_: I, x: I::F32) -> I::M32 {
    x.eq(x)
}

/// e^x for x brought to within two bounds.
#[derive(Clone, Copy)]
pub struct ClampedExp {
    pub min: f64,
    pub max: f64,
}
/// ln x for x not below the floor.
#[derive(Clone, Copy)]
pub struct ClampedLog {
    pub floor: f64,
}

impl Function for ClampedExp {
    const HAS_PAIR: bool = true;

    #[inline(always)]
    fn pair<I: Isa>(self, isa: I, x: I::F32) -> [I::F32; 2] {
        exp_pair::exp(isa, x)
    }

    /// Where nothing is clamped.
    #[inline(always)]
    fn serves<I: Isa>(self, isa: I, x: I::F32) -> I::M32 {
        // A bound that f32 rounds inwards or not at all.
        let (min, max) = (self.min as f32, self.max as f32);
        let min = if f64::from(min) < self.min { min.next_up() } else { min };
        let max = if f64::from(max) > self.max { max.next_down() } else { max };
        exp_pair::serves(isa, x) & isa.f32(min).le(x) & x.le(isa.f32(max))
    }

    #[inline(always)]
    fn eval<I: Isa, E: Element>(self, isa: I, x: I::F64) -> Wide<I> {
        exp::<I, E>(isa, isa.f64(self.max).min(isa.f64(self.min).max(x)))
    }
}

impl Function for ClampedLog {
    const HAS_PAIR: bool = true;

    #[inline(always)]
    fn pair<I: Isa>(self, isa: I, x: I::F32) -> [I::F32; 2] {
        log_pair::log(isa, x)
    }

    /// Where nothing is clamped.
    #[inline(always)]
    fn serves<I: Isa>(self, isa: I, x: I::F32) -> I::M32 {
        let floor = self.floor as f32;
        let floor = if f64::from(floor) < self.floor { floor.next_up() } else { floor };
        log_pair::serves(isa, x) & isa.f32(floor).le(x)
    }

    #[inline(always)]
    fn eval<I: Isa, E: Element>(self, isa: I, x: I::F64) -> Wide<I> {
        log(isa, isa.f64(self.floor).max(x))
    }
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

struct Flat<'a, E, F> {
    span: Ends<'a, E>,
    function: F,
}

/// Elements that count as a row when the work is cut.
pub const ROW: usize = 4096;

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
        let (a, b) = self.span.split_at(at * ROW);
        (Flat { span: a, function }, Flat { span: b, function })
    }

    fn join(first: Written, rest: Written) -> Written {
        first + rest
    }

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> Written {
        let span = self.span.span();
        if E::DTYPE == DType::F64 || !F::HAS_PAIR {
            return wide(isa, self.function, span).into();
        }
        let mut written = Written::default();
        let mut copy = [E::ZERO; COPY];
        let at_a_time = if span.separate_source().is_some() { CHUNK } else { COPY };
        let mut rest = span;
        while rest.len() > 0 {
            let chunk;
            let count = at_a_time.min(rest.len());
            (chunk, rest) = rest.split_at(count);
            let x = chunk.separate_source().unwrap_or_else(|| {
                copy[..count].copy_from_slice(chunk.source());
                &copy[..count]
            });
            written = written + by_pairs(isa, self.function, x, chunk).into();
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

/// Elements that are done in pairs at a time; and that where the source is overwritten, of which there is a copy then.
const CHUNK: usize = 4096;
const COPY: usize = 1024;
/// Of those, the uncertain ones from which on all are done again: one in eight.
const MANY: usize = 8;
/// Blocks whose certain lanes make one word.
const WORD: usize = 4;

/// At most [`CHUNK`] elements in pairs of f32; those of which the rounding is not certain are done again in f64.
///
/// Uncertain lanes are noted and mended afterwards: a branch for each block would cost more than they do.
#[inline(always)]
fn by_pairs<'a, I: Isa, E: Element, F: Function>(isa: I, function: F, x: &'a [E], span: Span<'a, E, E>) -> &'a mut [E] {
    let mut certain = [[u16::MAX; WORD]; CHUNK / LANES / WORD];
    let mut all = isa.f32(0.0).eq(isa.f32(0.0));
    let to = span.reading(x).numbers(
        isa,
        #[inline(always)]
        |i, x| {
            let [above, below] = function.pair(isa, x);
            all = all & function.serves(isa, x);
            certain.as_flattened_mut()[i] = is_certain::<I, E>(isa, above, below).bits();
            above
        },
    );
    let blocks = x.len().div_ceil(LANES);
    if all.bits() != u16::MAX {
        for (i, certain) in certain.as_flattened_mut()[..blocks].iter_mut().enumerate() {
            *certain &= function.serves(isa, E::load(isa, &block(x, i, E::ZERO))).bits();
        }
    }
    if !x.len().is_multiple_of(LANES) {
        certain.as_flattened_mut()[blocks - 1] |= u16::MAX << (x.len() % LANES);
    }
    let words = certain[..blocks.div_ceil(WORD)].iter().map(|blocks| !word(*blocks));
    let count: u32 = words.clone().map(u64::count_ones).sum();
    if count as usize > x.len() / MANY {
        return isa.outline(Again { function, x, to });
    }
    if count > 0 {
        mend(isa, function, x, to, words);
    }
    to
}

/// Bit 16 i + j is lane j of block i.
#[inline(always)]
fn word(blocks: [u16; WORD]) -> u64 {
    blocks.into_iter().rev().fold(0, |word, bits| word << LANES | u64::from(bits))
}

/// Where two f32 are the same and lead to the same number of the type: in 16-bit types, not where they lie halfway
/// between two of these or next to that, nor where the type's result may be subnormal.
#[inline(always)]
fn is_certain<I: Isa, E: Element>(isa: I, above: I::F32, below: I::F32) -> I::M32 {
    let dropped = 24 - E::LIMITS.digits;
    if dropped == 0 {
        return above.to_bits().eq(below.to_bits());
    }
    // Off by a unit in f32's last place at most. Of the dropped bits, half - 1, half and half + 1 are to be told.
    let half = 1 << (dropped - 1);
    let near = (above.to_bits() - isa.i32(half - 1)) & isa.i32((1 << dropped) - 4);
    !near.eq(isa.i32(0)) & isa.f32(E::LIMITS.min_normal as f32).le(above.abs())
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

/// Does the uncertain elements again, sixteen at a time; they are the bits of the words.
#[inline(always)]
fn mend<I: Isa, E: Element, F: Function>(
    isa: I,
    function: F,
    x: &[E],
    to: &mut [E],
    uncertain: impl Iterator<Item = u64>,
) {
    let (mut places, mut values, mut results) = ([0; LANES], [E::ZERO; LANES], [E::ZERO; LANES]);
    let mut found = 0;
    for (i, mut bits) in uncertain.enumerate() {
        while bits != 0 {
            let place = WORD * LANES * i + bits.trailing_zeros() as usize;
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

#[cfg(test)]
mod tests;
