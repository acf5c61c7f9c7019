//! Kernels of the functions of one element.

use super::Function;
use super::tables::Tables;
use crate::element::Element;
use crate::simd::{BLOCK, Float, Int, Isa, Kernel, MaskBits, NotNan, PrefetchRow, Span, Token, load};

/// Largest number of elements in a chunk.
pub const CHUNK: usize = 4096;
/// Number of elements that [`InF64`] computes at a time.
const TILE: usize = 64;
/// Number of elements between the computed block and the prefetched block.
pub const AHEAD: usize = 1024;
/// Number of blocks whose flags share one 64-bit word.
const WORD: usize = 4;

/// Kernels of a [`Function`] as a trait object, so that their callers are compiled once for each storage type.
pub trait Forms<E: Element>: Sync {
    /// Computes the function for at most [`CHUNK`] elements, and flags the elements whose rounding is certain.
    fn values<'a>(&self, token: Token, x: &'a [E], to: Span<'a, 'a, E, E>, certain: &mut Certain) -> &'a mut [E];
    /// Computes the function in f64. An inexact result is rounded to the neighbouring f64 whose last bit is 1 (to odd).
    /// A second rounding to f32, f16 or bf16 then equals a single rounding.
    fn to_odd(&self, token: Token, x: &[f32], to: &mut [f64]);
    /// Returns [`Function::tables`].
    fn tables(&self) -> Option<&'static Tables>;
}

impl<E: Element, F: Function> Forms<E> for F {
    fn values<'a>(&self, token: Token, x: &'a [E], to: Span<'a, 'a, E, E>, certain: &mut Certain) -> &'a mut [E] {
        // 16-bit results of functions with tables are mostly read from the tables. The computation is therefore the
        // smallest one, in f64. The condition is constant, so `Values` is not compiled for these functions and types.
        if F::HAS_TABLES && !E::IS_F32 && !E::IS_F64 {
            return token.run(InF64 { function: self, x, to });
        }
        token.run(Values { function: *self, x, to, certain })
    }

    fn to_odd(&self, token: Token, x: &[f32], to: &mut [f64]) {
        token.run(ToOdd { function: *self, x, to });
    }

    fn tables(&self) -> Option<&'static Tables> {
        F::tables()
    }
}

/// For each element of a chunk, whether its rounding is certain.
pub struct Certain([[u16; WORD]; CHUNK / BLOCK / WORD]);

impl Certain {
    pub fn new() -> Self {
        Certain([[u16::MAX; WORD]; CHUNK / BLOCK / WORD])
    }

    /// Returns whether the rounding of each of the first `len` elements is certain.
    #[inline(always)]
    pub fn all(&self, len: usize) -> bool {
        self.0[..len.div_ceil(BLOCK * WORD)].as_flattened().iter().fold(u16::MAX, |all, bits| all & bits) == u16::MAX
    }

    /// Returns words with a bit for each of the first `len` elements. The bit is 1 if the element's rounding is
    /// uncertain. A word covers four blocks: bit 16 i + j is lane j of its block i.
    pub fn uncertain(&self, len: usize) -> impl Iterator<Item = u64> {
        let words = self.0[..len.div_ceil(BLOCK * WORD)].iter();
        words.map(|blocks| !blocks.iter().rev().fold(0, |word, bits| word << BLOCK | u64::from(*bits)))
    }
}

struct Values<'a, 'c, E, F> {
    function: F,
    x: &'a [E],
    to: Span<'a, 'a, E, E>,
    certain: &'c mut Certain,
}

impl<'a, E: Element, F: Function> Kernel for Values<'a, '_, E, F> {
    type Out = &'a mut [E];

    /// The kernel only flags the elements whose rounding is certain, and the caller computes the others again. Flags
    /// are faster than a branch for each block.
    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> &'a mut [E] {
        let Values { function, x, to, certain } = self;
        if E::IS_F64 || !F::HAS_PAIR {
            return to.reading(x).map(
                isa,
                #[inline(always)]
                |_, x: I::F64| function.eval::<I, E>(isa, x).round::<E>(isa),
            );
        }
        let certain = certain.0.as_flattened_mut();
        let mut all = isa.f32(0.0).eq(isa.f32(0.0));
        let (next, next_to) = (PrefetchRow::of(x, 0).from(AHEAD), to.ahead(0).from(AHEAD));
        let to = to.reading(x).map(
            isa,
            #[inline(always)]
            |i, x: I::F32| {
                next.block(i);
                next_to.block(i);
                all = all & function.serves(isa, x);
                let [above, below] = function.pair(isa, x);
                let is_certain =
                    if E::IS_F32 { above.to_bits().eq(below.to_bits()) } else { is_certain::<I, E>(isa, above) };
                certain[i] = is_certain.bits();
                NotNan(above)
            },
        );
        let blocks = x.len().div_ceil(BLOCK);
        if all.bits() != u16::MAX {
            for (i, certain) in certain[..blocks].iter_mut().enumerate() {
                *certain &= function.serves(isa, load(isa, x, i, E::ZERO)).bits();
            }
        }
        if !x.len().is_multiple_of(BLOCK) {
            certain[blocks - 1] |= u16::MAX << (x.len() % BLOCK);
        }
        to
    }
}

/// Returns the lanes whose rounding to a 16-bit type is certain. `above` is the upper bound from [`Function::pair`].
/// The two bounds differ by at most one ULP of f32, so the exact value is less than two ULP from `above`. Values that
/// are subnormal in the 16-bit type count as uncertain.
#[inline(always)]
fn is_certain<I: Isa, E: Element>(isa: I, above: I::F32) -> I::M32 {
    const ULPS: i32 = 2;
    let dropped = 24 - E::LIMITS.digits;
    // Rounding drops the last `dropped` bits. The rounding counts as uncertain if these bits, read as an integer, are
    // in the range `half - ULPS ..= half + ULPS - 1`. At `half + ULPS`, the rounding is certain: a number that is less
    // than `ULPS` ULP smaller is still above the midpoint.
    let half = 1 << (dropped - 1);
    let near = (above.to_bits() - isa.i32(half - ULPS)) & isa.i32((1 << dropped) - 2 * ULPS);
    !near.eq(isa.i32(0)) & isa.f32(E::LIMITS.min_normal as f32).le(above.abs())
}

/// Kernel that computes a function in f64, rounded to odd. The types f32, f16 and bf16 share it.
struct ToOdd<'x, 'a, F> {
    function: F,
    x: &'x [f32],
    to: &'a mut [f64],
}

impl<F: Function> Kernel for ToOdd<'_, '_, F> {
    type Out = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        Span::in_place(self.to).reading(self.x).map(
            isa,
            #[inline(always)]
            |_, x: I::F64| self.function.eval::<I, f32>(isa, x).round::<f32>(isa),
        );
    }
}

/// Computes the function in f64, and rounds the results to `E`, which must not be f64.
pub struct InF64<'a, 'w, E> {
    pub function: &'a dyn Forms<E>,
    pub x: &'a [E],
    pub to: Span<'w, 'w, E, E>,
}

impl<'w, E: Element> Kernel for InF64<'_, 'w, E> {
    type Out = &'w mut [E];

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> &'w mut [E] {
        let (mut numbers, mut values) = ([0.0; TILE], [0.0; TILE]);
        self.to.in_runs(TILE, |start, to| {
            let (numbers, values) = (&mut numbers[..to.len()], &mut values[..to.len()]);
            Span::in_place(&mut *numbers).reading(&self.x[start..][..to.len()]).map(
                isa,
                #[inline(always)]
                |_, x: I::F32| x,
            );
            self.function.to_odd(isa.token(), numbers, values);
            to.reading(&*values).map(
                isa,
                #[inline(always)]
                |_, value: I::F64| value,
            )
        })
    }
}
