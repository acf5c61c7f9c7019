//! Clamping of elements to a symmetric range.

use super::tensor_reduce::{Overwrite, Overwriting};
use crate::element::Element;
use crate::error::Result;
use crate::simd::{self, Float, Isa, Join, MaskBits, Span};

/// Whether any element is NaN, and whether any is infinite.
#[derive(Clone, Copy, Debug, Default)]
pub struct NonFinite {
    pub nan: bool,
    pub infinite: bool,
}

impl Join for NonFinite {
    fn join(self, rest: NonFinite) -> NonFinite {
        NonFinite { nan: self.nan | rest.nan, infinite: self.infinite | rest.infinite }
    }
}

/// Clamps every element except NaN to `-limit ..= limit`.
pub fn clip<E: Element>(x: &mut [E], limit: f64) -> Result<NonFinite> {
    // Rounding the limit to the element type first does not change the rounded results.
    simd::run(Overwrite { x, kernel: Within { limit: E::from_wide(limit).widen() } })
}

#[derive(Clone, Copy)]
struct Within {
    limit: f64,
}

impl<E: Element> Overwriting<E> for Within {
    type Seen = NonFinite;

    #[inline(always)]
    fn write<I: Isa>(&self, isa: I, x: &mut [E]) -> NonFinite {
        // The order of operands matters: `a.min(b)` returns `a` if `a < b`, otherwise `b`. `a.max(b)` returns `a` if
        // `a > b`, otherwise `b`. Elements are the second operand, so that NaN and -0 stay unchanged.
        if E::IS_F64 {
            let (low, high, infinity) = (isa.f64(-self.limit), isa.f64(self.limit), isa.f64(f64::INFINITY));
            let none = infinity.lt(infinity);
            let (mut nan, mut infinite) = (none, none);
            Span::in_place(x).map(
                isa,
                #[inline(always)]
                |_, v: I::F64| {
                    nan = nan | v.is_nan();
                    infinite = infinite | v.abs().eq(infinity);
                    high.min(low.max(v))
                },
            );
            return NonFinite { nan: nan.any(), infinite: infinite.any() };
        }
        let limit = self.limit as f32;
        let (low, high, infinity) = (isa.f32(-limit), isa.f32(limit), isa.f32(f32::INFINITY));
        let none = infinity.lt(infinity);
        let (mut nan, mut infinite) = (none, none);
        Span::in_place(x).map(
            isa,
            #[inline(always)]
            |_, v: I::F32| {
                nan = nan | v.is_nan();
                infinite = infinite | v.abs().eq(infinity);
                high.min(low.max(v))
            },
        );
        NonFinite { nan: nan.any(), infinite: infinite.any() }
    }
}
