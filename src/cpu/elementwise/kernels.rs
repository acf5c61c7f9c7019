//! The kernels of a function of one element.

use super::Function;
use crate::element::Element;
use crate::simd::{Float, Int, Isa, Kernel, LANES, MaskBits, Span, Token, block};

/// Elements that are done in pairs at a time.
pub const CHUNK: usize = 4096;
/// Blocks whose certain lanes make one word.
const WORD: usize = 4;

/// A function's kernels, whatever the function.
pub trait Forms: Sync {
    /// Whether there is a form in pairs of f32.
    fn has_pairs(&self) -> bool;
    /// At most [`CHUNK`] values in pairs of f32, and of which the rounding is certain.
    fn in_pairs<'a>(
        &self,
        token: Token,
        x: &'a [f32],
        span: Span<'a, f32, f32>,
        rounding: Rounding,
        certain: &mut Certain,
    ) -> &'a mut [f32];
    /// Values in f64, rounded to odd: rounding them once more to f32, f16 or bf16 is as good as one rounding.
    fn to_odd(&self, token: Token, x: &[f32], to: &mut [f64]);
    /// Values of f64.
    fn of_f64<'a>(&self, token: Token, span: Span<'a, f64, f64>) -> &'a mut [f64];
}

impl<F: Function> Forms for F {
    fn has_pairs(&self) -> bool {
        F::HAS_PAIR
    }

    fn in_pairs<'a>(
        &self,
        token: Token,
        x: &'a [f32],
        span: Span<'a, f32, f32>,
        rounding: Rounding,
        certain: &mut Certain,
    ) -> &'a mut [f32] {
        token.run(InPairs { function: *self, x, span, rounding, certain })
    }

    fn to_odd(&self, token: Token, x: &[f32], to: &mut [f64]) {
        token.run(ToOdd { function: *self, x, to });
    }

    fn of_f64<'a>(&self, token: Token, span: Span<'a, f64, f64>) -> &'a mut [f64] {
        token.run(OfF64 { function: *self, span })
    }
}

/// What a type keeps of an f32.
#[derive(Clone, Copy)]
pub struct Rounding {
    /// The bits that it drops.
    dropped: u32,
    min_normal: f32,
}

impl Rounding {
    pub fn of<E: Element>() -> Self {
        Rounding { dropped: 24 - E::LIMITS.digits, min_normal: E::LIMITS.min_normal as f32 }
    }
}

/// For each lane whether its rounding is certain.
pub struct Certain([[u16; WORD]; CHUNK / LANES / WORD]);

impl Certain {
    pub fn new() -> Self {
        Certain([[u16::MAX; WORD]; CHUNK / LANES / WORD])
    }

    /// The lanes of `len` elements that are uncertain: bit 16 i + j is lane j of block i of four.
    pub fn uncertain(&self, len: usize) -> impl Iterator<Item = u64> {
        let words = self.0[..len.div_ceil(LANES * WORD)].iter();
        words.map(|blocks| !blocks.iter().rev().fold(0, |word, bits| word << LANES | u64::from(*bits)))
    }
}

struct InPairs<'a, 'c, F> {
    function: F,
    x: &'a [f32],
    span: Span<'a, f32, f32>,
    rounding: Rounding,
    certain: &'c mut Certain,
}

impl<'a, F: Function> Kernel for InPairs<'a, '_, F> {
    type Out = &'a mut [f32];

    /// Uncertain lanes are noted and mended afterwards: a branch for each block would cost more than they do.
    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> &'a mut [f32] {
        let InPairs { function, x, span, rounding, certain } = self;
        let certain = certain.0.as_flattened_mut();
        let mut all = isa.f32(0.0).eq(isa.f32(0.0));
        let to = span.reading(x).numbers(
            isa,
            #[inline(always)]
            |i, x| {
                let [above, below] = function.pair(isa, x);
                all = all & function.serves(isa, x);
                certain[i] = rounding.is_certain(isa, above, below).bits();
                above
            },
        );
        let blocks = x.len().div_ceil(LANES);
        if all.bits() != u16::MAX {
            for (i, certain) in certain[..blocks].iter_mut().enumerate() {
                *certain &= function.serves(isa, isa.load_f32(&block(x, i, 0.0))).bits();
            }
        }
        if !x.len().is_multiple_of(LANES) {
            certain[blocks - 1] |= u16::MAX << (x.len() % LANES);
        }
        to
    }
}

impl Rounding {
    /// Where two f32 are the same and lead to the same number of the type: in 16-bit types, not where they lie halfway
    /// between two of these or next to that, nor where the type's result may be subnormal.
    #[inline(always)]
    fn is_certain<I: Isa>(self, isa: I, above: I::F32, below: I::F32) -> I::M32 {
        if self.dropped == 0 {
            return above.to_bits().eq(below.to_bits());
        }
        // Off by a unit in f32's last place at most. Of the dropped bits, half - 1, half and half + 1 are to be told.
        let half = 1 << (self.dropped - 1);
        let near = (above.to_bits() - isa.i32(half - 1)) & isa.i32((1 << self.dropped) - 4);
        !near.eq(isa.i32(0)) & isa.f32(self.min_normal).le(above.abs())
    }
}

struct ToOdd<'x, 'a, F> {
    function: F,
    x: &'x [f32],
    to: &'a mut [f64],
}

impl<F: Function> Kernel for ToOdd<'_, '_, F> {
    type Out = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        Span::in_place(self.to).map_from_wide(
            isa,
            self.x,
            #[inline(always)]
            |_, x| self.function.eval::<I, f32>(isa, x).round::<f32>(isa),
        );
    }
}

struct OfF64<'a, F> {
    function: F,
    span: Span<'a, f64, f64>,
}

impl<'a, F: Function> Kernel for OfF64<'a, F> {
    type Out = &'a mut [f64];

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> &'a mut [f64] {
        self.span.map_wide(
            isa,
            #[inline(always)]
            |_, x| self.function.eval::<I, f64>(isa, x).round::<f64>(isa),
        )
    }
}
