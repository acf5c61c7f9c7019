//! Elements between two bounds.

use super::whole::{Overwrite, Overwriting};
use crate::element::Element;
use crate::error::Result;
use crate::simd::{self, Float, Isa, MaskBits, Span};
use std::cell::Cell;

/// Whether the elements have NaN or infinities among them.
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

/// Brings every element but NaN to within `limit` of zero.
pub fn clip<E: Element>(x: &mut [E], limit: f64) -> Result<Met> {
    // Rounded to the type first, the limit does to its values what it does before.
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
        // A minimum or maximum of two leaves the second as it is unless the first is beyond it: NaN, and -0.
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
