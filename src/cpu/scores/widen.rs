//! Scores of 16-bit types, widened to f32. The code that reads scores is thus compiled for f32 and f64 only.

use super::extrema::{Extrema, Extremes};
use super::{LogitTransform, Logits, Row, classify};
use crate::cpu::scratch::{Buffers, scratch_slice};
use crate::element::Element;
use crate::simd::{Isa, Kernel, NotNan, PrefetchRow, Span};

/// Returns the scores as f32 or f64. 16-bit scores are widened into the buffer, and their extremes are returned too. If
/// `far` is set, the next row is prefetched.
#[inline(always)]
pub fn widened<'a, I: Isa, E: Element>(
    isa: I,
    x: &'a [E],
    far: bool,
    buffer: &'a mut Vec<f32>,
) -> (&'a [E::Logit], Option<Extrema>) {
    let found = is_half::<E>().then(
        #[inline(always)]
        || isa.outline(Widen { x, far, to: scratch_slice(buffer, x.len()) }),
    );
    (E::as_logits(x, buffer), found)
}

/// Returns whether the type has 16 bits.
const fn is_half<E: Element>() -> bool {
    !E::IS_F64 && !E::IS_F32
}

impl LogitTransform<'_> {
    /// Returns the scores as [`widened`] does, and classifies the row as [`LogitTransform::read`] does.
    #[inline(always)]
    pub fn read_widened<'x, 's, I: Isa, E: Element>(
        &self,
        isa: I,
        lane: usize,
        x: &'x [E],
        far: bool,
        (buffer, buffers): (&'x mut Vec<f32>, &'s mut Buffers),
    ) -> (&'x [E::Logit], Row<'s>) {
        let (x, found) = widened(isa, x, far, buffer);
        let row = match found {
            Some(found) if self.is_bare::<E>() => classify(0..x.len(), Logits::Direct, found),
            _ => self.read(isa, lane, x, buffers),
        };
        (x, row)
    }
}

/// Widens 16-bit scores to f32, and returns their maximum and minimum.
struct Widen<'a, E> {
    x: &'a [E],
    far: bool,
    to: &'a mut [f32],
}

impl<E: Element> Kernel for Widen<'_, E> {
    type Out = Extrema;

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> Extrema {
        let Widen { x, far, to } = self;
        let next = PrefetchRow::of(x, usize::from(far));
        let mut extremes = Extremes::new(isa);
        Span::in_place(to).reading(x).map_unrolled(
            isa,
            #[inline(always)]
            |i, x: I::F32| {
                next.block(i);
                extremes.update(i % 2, x);
                // A NaN keeps its bits, which no result depends on.
                NotNan(x)
            },
        );
        extremes.found(isa)
    }
}
