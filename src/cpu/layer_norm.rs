//! LayerNorm of a row, all of it in f64, rounded once.

use super::lanes::{LaneKernel, Met};
use super::moments::Moments;
use super::rms_norm::{RUN, load_run};
use crate::element::Element;
use crate::floats::Floats;
use crate::simd::{Ahead, Float, Isa, LANES, Span, Written};

#[derive(Clone, Copy)]
pub struct LayerNorm<'a> {
    pub weight: Option<Floats<'a>>,
    pub bias: Option<Floats<'a>>,
    pub eps: f64,
}

impl<E: Element> LaneKernel<E> for LayerNorm<'_> {
    #[inline(always)]
    fn lane<I: Isa>(&self, isa: I, _: usize, span: Span<'_, E, E>, met: &mut Met) -> Written {
        let moments = Moments::layer(isa, span.source(), self.eps);
        moments.count(&mut met.counts);
        let (next, next_to) = (Ahead::of(span.source()), span.ahead());
        let (mut weights, mut biases) = ([1.0; RUN], [0.0; RUN]);
        let mut written = Written::default();
        let mut rest = span;
        let mut start = 0;
        while rest.len() > 0 {
            let run;
            let count = RUN.min(rest.len());
            (run, rest) = rest.split_at(count);
            load_run(isa, self.weight, start, count, &mut weights);
            load_run(isa, self.bias, start, count, &mut biases);
            written = written
                + run
                    .map_wide(
                        isa,
                        #[inline(always)]
                        |i, v| {
                            next.block(start / LANES + i);
                            next_to.block(start / LANES + i);
                            let n = moments.normalise::<I, E, true>(isa, v);
                            n.mul_add(block_of(isa, &weights, i), block_of(isa, &biases, i))
                        },
                    )
                    .into();
            start += count;
        }
        written
    }
}

/// The `i`th block of a run.
#[inline(always)]
pub fn block_of<I: Isa>(isa: I, run: &[f64; RUN], i: usize) -> I::F64 {
    isa.load_f64(&run.as_chunks().0[i])
}
