//! Maximum and minimum of a row.

use super::{Logits, Row, classify};
use crate::element::Element;
use crate::simd::{BLOCK, Float, Isa, MaskBits, NotNan, Span, Storage, fold, padded};

/// Maximum and minimum of a row, and whether it contains a NaN.
#[derive(Clone, Copy)]
pub struct Extrema {
    pub max: f64,
    pub min: f64,
    pub nan: bool,
}

/// Returns the maximum and minimum; -inf and +inf for an empty row.
#[inline(always)]
pub fn extrema<I: Isa, E: Element>(isa: I, x: &[E]) -> Extrema {
    if E::IS_F64 {
        let zero = isa.f64(0.0);
        let init = (isa.f64(f64::NEG_INFINITY), isa.f64(f64::INFINITY), zero.lt(zero));
        let (max, min, nan) = fold(
            x,
            x.first().copied().unwrap_or(E::ZERO),
            init,
            #[inline(always)]
            |(max, min, nan), _, values| {
                let v = E::load_wide(isa, values);
                (v.max(max), v.min(min), nan | v.is_nan())
            },
        );
        return Extrema { max: isa.max_f64(max), min: isa.min_f64(min), nan: nan.any() };
    }
    let mut extremes = Extremes::new(isa);
    let (quads, rest) = x.as_chunks::<{ 4 * BLOCK }>();
    for quad in quads {
        let blocks = quad.as_chunks::<BLOCK>().0;
        for (chain, block) in blocks.iter().enumerate() {
            extremes.update(chain, E::load(isa, block));
        }
    }
    let (blocks, tail) = rest.as_chunks::<BLOCK>();
    for block in blocks {
        extremes.update_alone(E::load(isa, block));
    }
    if !tail.is_empty() {
        extremes.update_alone(E::load(isa, &padded(tail, tail[0])));
    }
    extremes.found(isa)
}

/// Running maximum and minimum over blocks of f32. Four chains hide the latency of a comparison.
pub struct Extremes<I: Isa> {
    max: [I::F32; 4],
    min: [I::F32; 4],
    nan: I::M32,
    last: I::F32,
}

impl<I: Isa> Extremes<I> {
    #[inline(always)]
    pub fn new(isa: I) -> Self {
        let (max, min) = (isa.f32(f32::NEG_INFINITY), isa.f32(f32::INFINITY));
        Extremes { max: [max; 4], min: [min; 4], nan: max.lt(max), last: max }
    }

    /// Updates the maximum and the minimum of chain number `chain` with a block. Callers alternate between even and odd
    /// numbers, because a call with an odd number looks for NaN in its own block and in the block of the previous call.
    #[inline(always)]
    fn update(&mut self, chain: usize, v: I::F32) {
        self.max[chain] = v.max(self.max[chain]);
        self.min[chain] = v.min(self.min[chain]);
        if chain.is_multiple_of(2) {
            self.last = v;
        } else {
            self.nan = self.nan | self.last.either_nan(v);
        }
    }

    #[inline(always)]
    pub fn update_alone(&mut self, v: I::F32) {
        self.max[0] = v.max(self.max[0]);
        self.min[0] = v.min(self.min[0]);
        self.nan = self.nan | v.is_nan();
    }

    #[inline(always)]
    pub fn found(self, isa: I) -> Extrema {
        let max = self.max[0].max(self.max[1]).max(self.max[2].max(self.max[3]));
        let min = self.min[0].min(self.min[1]).min(self.min[2].min(self.min[3]));
        let nan = (self.nan | self.last.is_nan()).any();
        Extrema { max: f64::from(isa.max_f32(max)), min: f64::from(isa.min_f32(min)), nan }
    }
}

/// Extremes of a lane whose scores are the logits. These extremes are found while the previous lane is written.
pub struct Plain(Extrema);

impl Plain {
    /// Finds the extremes of the first lane.
    #[inline(always)]
    pub fn first<I: Isa, E: Element>(isa: I, x: &[E]) -> Self {
        Plain(extrema(isa, x))
    }

    /// Returns the class of a lane that has `len` elements and these extremes.
    #[inline(always)]
    pub fn row(&self, len: usize) -> Row<'static> {
        classify(0..len, Logits::Direct, self.0)
    }

    /// Calls `f` with each block of a span, and writes the results, which are never NaN. Also finds the extremes of
    /// `next`, which is as long as the span.
    #[inline(always)]
    pub fn write<'a, I: Isa, S: Storage, D: Storage, E: Element>(
        &mut self,
        isa: I,
        span: Span<'_, 'a, S, D>,
        next: &[E],
        f: impl Fn(usize, I::F32) -> I::F32,
    ) -> &'a mut [D] {
        let mut extremes = Extremes::new(isa);
        let written = span.map_unrolled_with(
            isa,
            [next],
            true,
            #[inline(always)]
            |i, v: I::F32, [next]| {
                let next = E::load(isa, next);
                // The chains are constants, so that they stay in registers.
                if i % 2 == 0 {
                    extremes.update(0, next)
                } else {
                    extremes.update(1, next)
                }
                NotNan(f(i, v))
            },
        );
        self.0 = extremes.found(isa);
        written
    }
}
