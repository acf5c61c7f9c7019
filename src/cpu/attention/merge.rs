//! Partial attention results of a row, and their merging.

use crate::math::exp::term;
use crate::simd::{Float, Isa, Kernel, Span, Storage};

/// Largest logit `max` of a row so far, and the sum of e^(logit - max). The weighted sum of the values is stored
/// separately.
#[derive(Clone, Copy, Debug)]
pub struct State {
    pub max: f64,
    pub sum: f64,
    /// Power of two by which `sum` and the weighted sum of the values are multiplied.
    pub factor: f64,
}

/// Largest logit and sum of exponentials of a row, for one block of keys.
#[derive(Clone, Copy, Debug)]
pub struct End {
    pub max: f64,
    pub sum: f64,
}

/// Result of one row for one block of keys.
pub enum BlockResult<'b> {
    /// No unmasked key.
    Empty,
    /// A logit is NaN or +inf. The field is that logit.
    Spoilt(f64),
    /// Finite result, with the weighted sums of the values in f32.
    Narrow(End, &'b [f32]),
    /// Finite result in f64.
    Wide(End, &'b [f64]),
}

impl BlockResult<'_> {
    #[inline(always)]
    pub fn merge_into<I: Isa>(self, isa: I, state: &mut State, out: &mut [f64]) {
        match self {
            BlockResult::Empty => (),
            BlockResult::Spoilt(logit) => state.spoil(logit),
            BlockResult::Narrow(end, values) => state.merge(isa, out, end, values),
            BlockResult::Wide(end, values) => state.merge(isa, out, end, values),
        }
    }
}

impl State {
    /// Creates the state of a row before its first key. The sink is an extra logit without a value. A sink of -inf
    /// means that the row has no sink.
    pub fn new(sink: f64) -> Self {
        let sum = if sink == f64::NEG_INFINITY { 0.0 } else { 1.0 };
        State { max: sink, sum, factor: 1.0 }
    }

    /// Returns the state with its sum multiplied by a power of two. The weighted sum of the values is not multiplied,
    /// so it must still be zero.
    pub fn scaled(self, factor: f64) -> Self {
        State { sum: self.sum * factor, factor, ..self }
    }

    /// Returns true until a key or a sink has contributed to the state.
    pub fn is_empty(&self) -> bool {
        self.max == f64::NEG_INFINITY
    }

    /// Returns NaN if a logit is NaN, else +inf if a logit is +inf, else `None`.
    pub fn spoilt(&self) -> Option<f64> {
        (self.max.is_nan() || self.max == f64::INFINITY).then_some(self.max)
    }

    /// Records a logit of NaN or +inf; NaN takes precedence.
    pub fn spoil(&mut self, logit: f64) {
        if !self.max.is_nan() {
            self.max = logit;
        }
    }

    /// Merges the result of a later block into the state, in f64. Sums relative to the smaller maximum are rescaled to
    /// the larger maximum. Each merge rounds the rescaling factor once and each sum once.
    #[inline(always)]
    pub fn merge<I: Isa, S: Storage>(&mut self, isa: I, out: &mut [f64], end: End, values: &[S]) {
        if self.spoilt().is_none() {
            isa.outline(Merge { state: self, out, end, values });
        }
    }
}

/// Body of [`State::merge`], compiled as a separate function that the kernels of all element types share.
struct Merge<'a, S> {
    state: &'a mut State,
    out: &'a mut [f64],
    end: End,
    values: &'a [S],
}

impl<S: Storage> Kernel for Merge<'_, S> {
    type Out = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let Merge { state, out, end, values } = self;
        let is_larger = end.max > state.max;
        let factor = weight(isa, if is_larger { state.max - end.max } else { end.max - state.max });
        let wide = isa.f64(factor);
        if is_larger {
            state.sum = state.sum.mul_add(factor, end.sum);
            state.max = end.max;
            Span::in_place(out).map_with(
                isa,
                [values],
                #[inline(always)]
                |_, out: I::F64, [value]| out.mul_add(wide, S::load_wide(isa, value)),
            );
        } else {
            state.sum = end.sum.mul_add(factor, state.sum);
            Span::in_place(out).map_with(
                isa,
                [values],
                #[inline(always)]
                |_, out: I::F64, [value]| S::load_wide(isa, value).mul_add(wide, out),
            );
        }
    }
}

/// Returns e^x for x <= 0, and 0 for x < -700.
#[inline(always)]
pub fn weight<I: Isa>(isa: I, x: f64) -> f64 {
    isa.array_f64(term(isa, isa.f64(x)))[0]
}
