//! Scores of 16-bit types, widened to f32. The code that reads scores is thus compiled for f32 and f64 only.

use super::extrema::{Extrema, Extremes};
use super::{LogitTransform, Logits, Row, classify};
use crate::cpu::scratch::{Buffers, grown, scratch_slice};
use crate::element::Element;
use crate::simd::{BLOCK, Isa, Kernel, NotNan, PrefetchRow, Select, Span, load_flags};
use std::ops::Range;

/// Returns the scores as f32 or f64. 16-bit scores are widened into the buffer.
#[inline(always)]
pub fn widened<'a, I: Isa, E: Element>(isa: I, x: &'a [E], buffer: &'a mut Vec<f32>) -> &'a [E::Logit] {
    if is_half::<E>() {
        isa.outline(Widen { x, next: PrefetchRow::of(x, 0), to: scratch_slice(buffer, x.len()) });
    }
    E::as_logits(x, buffer)
}

/// Returns whether the type has 16 bits.
pub const fn is_half<E: Element>() -> bool {
    !E::IS_F64 && !E::IS_F32
}

impl LogitTransform<'_> {
    /// Returns the scores as f32 or f64. For 16-bit scores, widens `columns` into the buffer and also returns the
    /// extremes of `columns`. A score whose keep flag is not set becomes -inf. Other columns of the buffer are
    /// unspecified. If `far` is set, the next row is prefetched.
    ///
    /// The loop is inlined into the caller, because a call would take noticeable time in rows of 128 columns.
    #[inline(always)]
    pub fn widened<'a, I: Isa, E: Element>(
        &self,
        isa: I,
        lane: usize,
        (x, columns): (&'a [E], Range<usize>),
        far: bool,
        (buffer, flags): (&'a mut Vec<f32>, &mut Vec<u8>),
    ) -> (&'a [E::Logit], Option<Extrema>) {
        let found = if is_half::<E>() {
            let next = PrefetchRow::of(x, usize::from(far)).from(columns.start);
            let to = &mut scratch_slice(buffer, x.len())[columns.clone()];
            let widen = Widen { x: &x[columns.clone()], next, to };
            let keep = self
                .mask
                .as_ref()
                .and_then(|mask| mask.keep(lane, columns.start, columns.end, grown(flags, columns.len())));
            prefetch_flags(keep.unwrap_or_default(), far);
            Some(match keep {
                Some(keep) => isa.outline(WidenKept { widen, keep }),
                None => widen.run(isa),
            })
        } else {
            None
        };
        (E::as_logits(x, buffer), found)
    }

    /// Returns the scores as [`Self::widened`] does, and classifies the row as [`Self::read`] does. Columns that the
    /// mask excludes by length, causality or window are unspecified.
    #[inline(always)]
    pub fn read_widened<'x, 's, I: Isa, E: Element>(
        &self,
        isa: I,
        lane: usize,
        x: &'x [E],
        far: bool,
        (buffer, buffers): (&'x mut Vec<f32>, &'s mut Buffers),
    ) -> (&'x [E::Logit], Row<'s>) {
        let columns = if is_half::<E>() { self.bounds(lane, 0..x.len()) } else { 0..0 };
        let (x, found) = self.widened(isa, lane, (x, columns.clone()), far, (buffer, &mut buffers.flags));
        let row = self.read_found(isa, lane, (x, columns, found), buffers);
        (x, row)
    }

    /// Classifies a row as [`Self::read`] does. The arguments in parentheses are the results of [`Self::widened`], with
    /// the lane's bounds between them.
    #[inline(always)]
    pub fn read_found<'s, I: Isa, E: Element>(
        &self,
        isa: I,
        lane: usize,
        (x, columns, found): (&[E], Range<usize>, Option<Extrema>),
        buffers: &'s mut Buffers,
    ) -> Row<'s> {
        match found {
            // With keep flags, the logits differ from the scores that the caller may read again.
            Some(found) if self.is_plain() && !self.has_flags() => classify(columns, Logits::Direct, found),
            _ => self.read(isa, lane, x, buffers),
        }
    }
}

/// Widens 16-bit scores to f32, and returns their maximum and minimum.
struct Widen<'a, E> {
    x: &'a [E],
    next: PrefetchRow<E>,
    to: &'a mut [f32],
}

impl<E: Element> Widen<'_, E> {
    /// Applies `f` to the index and the values of each block, and writes the result.
    #[inline(always)]
    fn each<I: Isa>(self, isa: I, f: impl Fn(usize, I::F32) -> I::F32) -> Extrema {
        let Widen { x, next, to } = self;
        let mut extremes = Extremes::new(isa);
        Span::in_place(to).reading(x).map(
            isa,
            #[inline(always)]
            |i, x: I::F32| {
                next.block_for_later(i);
                let x = f(i, x);
                extremes.update_alone(x);
                // If x is NaN after all, its bits are stored unchanged. No result depends on them.
                NotNan(x)
            },
        );
        extremes.found(isa)
    }
}

impl<E: Element> Kernel for Widen<'_, E> {
    type Out = Extrema;

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> Extrema {
        self.each(
            isa,
            #[inline(always)]
            |_, x| x,
        )
    }
}

/// Prefetches the flags of the next row if `far` is set.
#[inline(always)]
pub fn prefetch_flags(keep: &[u8], far: bool) {
    if far {
        let ahead = PrefetchRow::of(keep, 1);
        for line in 0..keep.len() / 64 {
            ahead.block(line * 64 / BLOCK);
        }
    }
}

/// Widens 16-bit scores like [`Widen`], with -inf where a keep flag is not set.
struct WidenKept<'a, E> {
    widen: Widen<'a, E>,
    keep: &'a [u8],
}

impl<E: Element> Kernel for WidenKept<'_, E> {
    type Out = Extrema;

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> Extrema {
        let masked = isa.f32(f32::NEG_INFINITY);
        self.widen.each(
            isa,
            #[inline(always)]
            |i, x| I::F32::select(load_flags(isa, self.keep, i), x, masked),
        )
    }
}
