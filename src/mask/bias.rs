//! Addition of a bias of any storage type to logits.

use super::saturate;
use crate::element::Element;
use crate::floats::{Floats, each_type};
use crate::simd::{Float, Isa, Kernel, Span, load_wide};
use std::ops::Range;

impl Floats<'_> {
    /// Adds each value in `range` to one logit. The slice `to` holds the logits. A sum of finite values saturates at
    /// the largest finite value.
    #[inline(always)]
    pub(super) fn add_to<I: Isa>(&self, isa: I, range: Range<usize>, to: &mut [f64]) {
        isa.outline(AddTo { floats: *self, to, range });
    }
}

struct AddTo<'a> {
    floats: Floats<'a>,
    range: Range<usize>,
    to: &'a mut [f64],
}

impl Kernel for AddTo<'_> {
    type Out = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        each_type!(self.floats, values => {
            let values = &values[self.range];
            Span::in_place(self.to).map(
                isa,
                #[inline(always)]
                |i, z: I::F64| {
                    let b = load_wide(isa, values, i, Element::ZERO);
                    saturate(isa, z + b, z.abs().max(b.abs()))
                },
            );
        });
    }
}
