//! Gradient of means over tokens. Each unmasked token gets dy divided by the number of unmasked tokens.

use super::lanes::GuardCounts;
use super::mean_pool::MeanPool;
use crate::element::Element;
use crate::error::Result;
use crate::rows::LanesMut;
use crate::simd::{self, Isa, Kernel, Output, Span, Work, Written};

/// Spreads the gradient of each column's mean over the tokens.
pub fn apply<'a, E: Element>(dy: &[E], dx: LanesMut<'a, E>, pool: MeanPool<'_>) -> Result<(&'a mut [E], GuardCounts)> {
    let geometry = dx.geometry;
    let (len, inner, stride) = (geometry.len(), geometry.inner(), geometry.stride);
    let count = geometry.outer();
    dx.data.write(|to| simd::run(Sequences { dy, pool, len, inner, stride, first: 0, count, to }))
}

struct Sequences<'a, 'w, E> {
    dy: &'a [E],
    pool: MeanPool<'a>,
    len: usize,
    inner: usize,
    stride: usize,
    /// Index of the first sequence to write.
    first: usize,
    /// Number of sequences to write.
    count: usize,
    to: Output<'w, E>,
}

impl<'w, E: Element> Work for Sequences<'_, 'w, E> {
    fn rows(&self) -> usize {
        self.count
    }

    fn cols(&self) -> usize {
        self.len * self.inner
    }

    fn split_at(self, at: usize) -> (Self, Self) {
        let Sequences { dy, pool, len, inner, stride, first, count, to } = self;
        let (a, b) = to.split_at(at * stride);
        let part = |first, count, to| Sequences { dy, pool, len, inner, stride, first, count, to };
        (part(first, at, a), part(first + at, count - at, b))
    }
}

impl<'w, E: Element> Kernel for Sequences<'_, 'w, E> {
    type Out = (Written<'w>, GuardCounts);
    // AVX-512 gains at most 10 %: the kernel is limited by memory.
    const GAINS_FROM_AVX512: bool = false;

    #[inline(always)]
    fn run<I: Isa>(mut self, isa: I) -> Self::Out {
        let (mut guards, mut written, mut buffer) = (GuardCounts::default(), Written::default(), Vec::new());
        // A tensor in which one dimension is 0 may have any number of sequences and tokens, so the loop is skipped.
        if self.count == 0 || self.inner == 0 {
            return (written, guards);
        }
        let mut share = vec![E::ZERO; self.inner];
        for i in 0..self.count {
            let sequence = self.first + i;
            let tokens = self.pool.tokens(sequence, self.len, &mut buffer);
            guards.counts.rows += self.inner as u64;
            if tokens.count == 0 {
                self.pool.count_masked(sequence, self.len, self.inner, &mut guards);
            }
            let count = isa.f64(tokens.count as f64);
            share.copy_from_slice(&self.dy[sequence * self.inner..][..self.inner]);
            Span::in_place(&mut share).map(
                isa,
                #[inline(always)]
                |_, dy: I::F64| dy / count,
            );
            for token in 0..self.len {
                let start = i * self.stride + token * self.inner;
                let to = Span::new(&share, self.to.range(start..start + self.inner));
                let done = if tokens.counts(token) { to.copy_from(&share) } else { to.fill(E::ZERO) };
                written = written + done.into();
            }
        }
        (written, guards)
    }
}
