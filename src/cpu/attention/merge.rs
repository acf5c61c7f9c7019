//! What some keys of a row come to, and how two such parts become one.

use crate::math::exp::term;
use crate::simd::{Float, Isa, Span, Storage};

/// The largest logit, and the sum of e^(logit - max); the values' sum, weighted so, is kept beside it.
#[derive(Clone, Copy, Debug)]
pub struct State {
    pub max: f64,
    pub sum: f64,
    /// What sum and values are multiplied with, a power of two.
    pub factor: f64,
}

/// The largest logit and the sum of a part.
#[derive(Clone, Copy, Debug)]
pub struct End {
    pub max: f64,
    pub sum: f64,
}

/// What a row's block of keys came to.
pub enum Part<'b> {
    /// No key to attend to.
    Empty,
    /// A logit of this, NaN or +inf.
    Spoilt(f64),
    /// Finite, with the values' sums.
    Narrow(End, &'b [f32]),
    /// The same in f64.
    Wide(End, &'b [f64]),
}

impl Part<'_> {
    #[inline(always)]
    pub fn merge_into<I: Isa>(self, isa: I, state: &mut State, out: &mut [f64]) {
        match self {
            Part::Empty => (),
            Part::Spoilt(logit) => state.spoil(logit),
            Part::Narrow(end, values) => state.merge(isa, out, end, values),
            Part::Wide(end, values) => state.merge(isa, out, end, values),
        }
    }
}

impl State {
    /// Of a logit without a value; of none for -inf.
    pub fn new(sink: f64) -> Self {
        let sum = if sink == f64::NEG_INFINITY { 0.0 } else { 1.0 };
        State { max: sink, sum, factor: 1.0 }
    }

    /// The same with sum and values multiplied with a power of two; its values are zeros.
    pub fn scaled(self, factor: f64) -> Self {
        State { sum: self.sum * factor, factor, ..self }
    }

    /// Whether there is no key, and no sink.
    pub fn is_empty(&self) -> bool {
        self.max == f64::NEG_INFINITY
    }

    /// NaN or +inf where a logit is that.
    pub fn spoilt(&self) -> Option<f64> {
        (self.max.is_nan() || self.max == f64::INFINITY).then_some(self.max)
    }

    /// A logit that is NaN or +inf; NaN outdoes +inf.
    pub fn spoil(&mut self, logit: f64) {
        if !self.max.is_nan() {
            self.max = logit;
        }
    }

    /// Adds a part behind what there is: whichever has the smaller maximum is brought to the other's, in f64, one
    /// rounding for the factor and one for each sum.
    #[inline(always)]
    pub fn merge<I: Isa, S: Storage>(&mut self, isa: I, out: &mut [f64], end: End, values: &[S]) {
        if self.spoilt().is_some() {
            return;
        }
        if end.max > self.max {
            let factor = weight(isa, self.max - end.max);
            self.sum = self.sum.mul_add(factor, end.sum);
            self.max = end.max;
            let factor = isa.f64(factor);
            Span::in_place(out).map_wide_with(
                isa,
                [values],
                #[inline(always)]
                |_, out, [value]| out.mul_add(factor, S::load_wide(isa, value)),
            );
        } else {
            let factor = weight(isa, end.max - self.max);
            self.sum = end.sum.mul_add(factor, self.sum);
            let factor = isa.f64(factor);
            Span::in_place(out).map_wide_with(
                isa,
                [values],
                #[inline(always)]
                |_, out, [value]| S::load_wide(isa, value).mul_add(factor, out),
            );
        }
    }
}

/// e^x for x <= 0.
#[inline(always)]
pub fn weight<I: Isa>(isa: I, x: f64) -> f64 {
    isa.array_f64(term(isa, isa.f64(x)))[0]
}
