//! GroupNorm: each group of channels as a row that LayerNorm has, with a weight and a bias for each channel.

use super::lanes::{LaneKernel, Met};
use super::layer_norm::block_of;
use super::moments::Moments;
use super::rms_norm::RUN;
use crate::element::Element;
use crate::floats::Floats;
use crate::simd::{Ahead, Float, Isa, LANES, Span, Written};

#[derive(Clone, Copy)]
pub struct GroupNorm<'a> {
    pub weight: Option<Floats<'a>>,
    pub bias: Option<Floats<'a>>,
    pub eps: f64,
    pub layout: Layout,
}

/// Where a row's channels are.
#[derive(Clone, Copy)]
pub struct Layout {
    /// Groups in an entry of the batch, and in a row: all of these, or one.
    pub groups: usize,
    pub groups_a_row: usize,
    /// Channels in a group, and elements in a channel.
    pub channels: usize,
    pub inner: usize,
}

impl<E: Element> LaneKernel<E> for GroupNorm<'_> {
    #[inline(always)]
    fn lane<I: Isa>(&self, isa: I, index: usize, span: Span<'_, E, E>, met: &mut Met) -> Written {
        let Layout { groups, groups_a_row, channels, inner } = self.layout;
        let mut written = Written::default();
        let mut rest = span;
        for i in 0..groups_a_row {
            let group;
            (group, rest) = rest.split_at(channels * inner);
            let first_channel = (index * groups_a_row + i) % groups * channels;
            written = written + self.group(isa, first_channel, group, met);
        }
        written
    }
}

impl GroupNorm<'_> {
    #[inline(always)]
    fn group<I: Isa, E: Element>(&self, isa: I, channel: usize, span: Span<'_, E, E>, met: &mut Met) -> Written {
        let moments = Moments::layer(isa, span.source(), self.eps);
        moments.count(&mut met.counts);
        let (next, next_to) = (Ahead::of(span.source()), span.ahead());
        let mut weights = Channels::new(self.weight, 1.0, channel, self.layout.inner);
        let mut biases = Channels::new(self.bias, 0.0, channel, self.layout.inner);
        let mut written = Written::default();
        let mut rest = span;
        let mut start = 0;
        while rest.len() > 0 {
            let run;
            let count = RUN.min(rest.len());
            (run, rest) = rest.split_at(count);
            weights.fill(count);
            biases.fill(count);
            written = written
                + run
                    .map_wide(
                        isa,
                        #[inline(always)]
                        |i, v| {
                            next.block(start / LANES + i);
                            next_to.block(start / LANES + i);
                            let n = moments.normalise::<I, E, true>(isa, v);
                            n.mul_add(block_of(isa, &weights.run, i), block_of(isa, &biases.run, i))
                        },
                    )
                    .into();
            start += count;
        }
        written
    }
}

/// Operands of one value a channel, spread over the channel's elements run by run.
struct Channels<'a> {
    floats: Option<Floats<'a>>,
    run: [f64; RUN],
    /// The channel, its value, and its elements that are still to come.
    channel: usize,
    value: f64,
    left: usize,
    inner: usize,
}

impl<'a> Channels<'a> {
    fn new(floats: Option<Floats<'a>>, without: f64, channel: usize, inner: usize) -> Self {
        Channels { floats, run: [without; RUN], channel, value: without, left: 0, inner }
    }

    /// The operands of the next so many elements.
    fn fill(&mut self, count: usize) {
        let Some(floats) = self.floats else { return };
        let mut rest = &mut self.run[..count];
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
}
