//! GroupNorm: normalises each group of channels like a LayerNorm row, with a weight and a bias for each channel.

use super::lanes::{GuardCounts, LaneKernel, RowIo};
use super::layer_norm::LayerNorm;
use super::moments::OfRow;
use super::norm_rows::Norm;
use super::scratch::Scratch;
use crate::element::Element;
use crate::floats::Floats;
use crate::simd::{Isa, NotNan, Span, Written};

#[derive(Clone, Copy)]
pub struct GroupNorm<'a> {
    pub weight: Option<Floats<'a>>,
    pub bias: Option<Floats<'a>>,
    pub eps: f64,
    pub layout: Layout,
}

/// Sizes that determine which channels a row holds.
#[derive(Clone, Copy)]
pub struct Layout {
    /// Number of groups in a batch entry.
    pub groups: usize,
    /// Number of groups in a row: either all groups of a batch entry, or only one group.
    pub groups_a_row: usize,
    /// Number of channels in a group.
    pub channels: usize,
    /// Number of elements in a channel.
    pub inner: usize,
}

impl<E: Element> LaneKernel<E> for GroupNorm<'_> {
    #[inline(always)]
    fn lanes<'w, I: Isa>(
        &self,
        isa: I,
        io: &mut RowIo<'_, 'w, E>,
        _: &mut Scratch,
        guards: &mut GuardCounts,
    ) -> Written<'w> {
        let is_narrow = self.norm().is_narrow::<I, E>(isa);
        let mut written = Written::default();
        for (i, index) in io.indices().enumerate() {
            written = written + self.row(isa, is_narrow, index, io.span(i), guards).into();
        }
        written
    }
}

impl GroupNorm<'_> {
    /// Returns a LayerNorm with the weight, bias and eps of this norm.
    fn norm(&self) -> LayerNorm<'_> {
        LayerNorm { weight: self.weight, bias: self.bias, eps: self.eps }
    }

    #[inline(always)]
    fn row<'d, I: Isa, E: Element>(
        &self,
        isa: I,
        is_narrow: bool,
        index: usize,
        span: Span<'d, 'd, E, E>,
        guards: &mut GuardCounts,
    ) -> &'d mut [E] {
        let Layout { groups, groups_a_row, channels, inner } = self.layout;
        let len = channels * inner;
        span.in_runs(
            len,
            #[inline(always)]
            |start, group| {
                let first_channel = (index * groups_a_row + start / len) % groups * channels;
                self.group(isa, is_narrow, first_channel, group, guards)
            },
        )
    }

    #[inline(always)]
    fn group<'d, I: Isa, E: Element>(
        &self,
        isa: I,
        is_narrow: bool,
        channel: usize,
        span: Span<'d, 'd, E, E>,
        guards: &mut GuardCounts,
    ) -> &'d mut [E] {
        let norm = self.norm();
        let moments = isa.outline(OfRow { x: span.source(), eps: norm.eps, centred: true });
        moments.count(&mut guards.counts);
        let factors = if is_narrow { norm.factors::<E>(&moments) } else { None };
        let mut weights = Channels::new(self.weight, 1.0, channel, self.layout.inner);
        let mut biases = Channels::new(self.bias, 0.0, channel, self.layout.inner);
        let next = span.next(1);
        span.in_runs(
            RUN,
            #[inline(always)]
            |start, run| {
                let (next, beside) = (next.from(start), [weights.next(run.len()), biases.next(run.len())]);
                match factors {
                    Some([a, b, c]) => {
                        let factors = [isa.f32(a), isa.f32(b), isa.f32(c)];
                        run.map_with(
                            isa,
                            beside,
                            #[inline(always)]
                            |i, v: I::F32, [weight, bias]| {
                                next.block(i);
                                let (weight, bias) = (isa.narrow(isa.load_f64(weight)), isa.narrow(isa.load_f64(bias)));
                                NotNan(norm.narrow_value::<I, E>(isa, factors, v, weight, bias))
                            },
                        )
                    }
                    None => run.map_with(
                        isa,
                        beside,
                        #[inline(always)]
                        |i, v: I::F64, [weight, bias]| {
                            next.block(i);
                            norm.value::<I, E>(isa, &moments, v, isa.load_f64(weight), isa.load_f64(bias))
                        },
                    ),
                }
            },
        )
    }
}

/// Number of elements whose weights and biases are expanded at a time, on the stack.
const RUN: usize = 256;

/// Per-channel operands, expanded to one value for each element, [`RUN`] elements at a time.
struct Channels<'a> {
    floats: Option<Floats<'a>>,
    run: [f64; RUN],
    /// Index of the channel after the current one.
    channel: usize,
    /// Operand of the current channel.
    value: f64,
    /// Number of elements of the current channel that are still to be expanded.
    left: usize,
    inner: usize,
}

impl<'a> Channels<'a> {
    fn new(floats: Option<Floats<'a>>, without: f64, channel: usize, inner: usize) -> Self {
        Channels { floats, run: [without; RUN], channel, value: without, left: 0, inner }
    }

    /// Returns the operands of the next `count` elements.
    fn next(&mut self, count: usize) -> &[f64] {
        let mut rest = &mut self.run[..count];
        if let Some(floats) = self.floats {
            while !rest.is_empty() {
                if self.left == 0 {
                    self.value = floats.get(self.channel).unwrap_or(f64::NAN);
                    self.channel += 1;
                    self.left = self.inner;
                }
                let count = self.left.min(rest.len());
                rest[..count].fill(self.value);
                self.left -= count;
                rest = &mut rest[count..];
            }
        }
        &self.run[..count]
    }
}
