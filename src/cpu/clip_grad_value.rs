//! Clamping of elements to a symmetric range.

use super::tensor_reduce::{Overwrite, Overwriting};
use crate::element::Element;
use crate::error::Result;
use crate::simd::{self, Float, Isa, MaskBits, Span};
use std::cell::Cell;

/// Whether any element is NaN, and whether any is infinite.
#[derive(Clone, Copy, Debug, Default)]
pub struct Met {
    pub nan: bool,
    pub infinite: bool,
}

impl Met {
    fn join(self, rest: Met) -> Met {
        Met { nan: self.nan | rest.nan, infinite: self.infinite | rest.infinite }
    }
}

/// Clamps every element except NaN to `-limit ..= limit`.
pub fn clip<E: Element>(x: &mut [E], limit: f64) -> Result<Met> {
    // Rounding the limit to the type first does not change the rounded results.
    simd::run(Overwrite { x, kernel: Within { limit: E::from_wide(limit).widen() } })
}

#[derive(Clone, Copy)]
struct Within {
    limit: f64,
}

impl<E: Element> Overwriting<E> for Within {
    type Seen = Met;

    fn join(first: Met, rest: Met) -> Met {
        first.join(rest)
    }

    #[inline(always)]
    fn write<I: Isa>(&self, isa: I, x: &mut [E]) -> Met {
        // `a.min(b)` returns b unless a < b, and `a.max(b)` returns b unless a > b. So v stays NaN or -0.
        if E::IS_F64 {
            let (low, high, infinity) = (isa.f64(-self.limit), isa.f64(self.limit), isa.f64(f64::INFINITY));
            let none = infinity.lt(infinity);
            let met = Cell::new((none, none));
            Span::in_place(x).map_wide(
                isa,
                #[inline(always)]
                |_, v| {
                    let (nan, infinite) = met.get();
                    met.set((nan | v.is_nan(), infinite | v.abs().eq(infinity)));
                    high.min(low.max(v))
                },
            );
            let (nan, infinite) = met.get();
            return Met { nan: nan.any(), infinite: infinite.any() };
        }
        let limit = self.limit as f32;
        let (low, high, infinity) = (isa.f32(-limit), isa.f32(limit), isa.f32(f32::INFINITY));
        let none = infinity.lt(infinity);
        let (mut nan, mut infinite) = (none, none);
        Span::in_place(x).map(
            isa,
            #[inline(always)]
            |_, v| {
                nan = nan | v.is_nan();
                infinite = infinite | v.abs().eq(infinity);
                high.min(low.max(v))
            },
        );
        Met { nan: nan.any(), infinite: infinite.any() }
    }
}
