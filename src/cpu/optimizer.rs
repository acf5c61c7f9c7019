//! Optimiser steps, computed in f64. Each stored number is rounded once.

use super::stochastic_rounding::{self, RandomBits};
use crate::element::Element;
use crate::error::Result;
use crate::floats::Floats;
use crate::simd::{self, Float, Isa, Kernel, Select, Span, Work};

/// Number of elements processed together. They fit in the first-level cache.
const CHUNK: usize = 512;

/// Update rule. Each rule has at most two state values for each weight.
#[derive(Clone, Copy, Debug)]
pub enum Formula {
    AdamW(AdamW),
    Descent(Descent),
    Momentum(Momentum),
}

/// State values of the weights. A slice that the rule does not use is empty.
type Kept<'a, S> = [&'a mut [S]; 2];

/// Runs one step on the model's own weights, without a copy of higher precision.
pub fn step<S: Element>(weights: &mut [S], kept: Kept<'_, S>, gradient: Floats<'_>, formula: Formula) -> Result<()> {
    let rounded: &mut [S] = &mut [];
    simd::run(Step { weights, rounded, kept, gradient, start: 0, random: None, formula })
}

/// Runs one step on f32 master weights, and stores the rounded weights that the model computes with. If other code has
/// changed a rounded weight, the rounded weight first replaces its master weight.
pub fn step_rounded<P: Element>(
    weights: &mut [f32],
    rounded: &mut [P],
    kept: Kept<'_, f32>,
    gradient: Floats<'_>,
    formula: Formula,
) -> Result<()> {
    simd::run(Step { weights, rounded, kept, gradient, start: 0, random: None, formula })
}

/// Runs one step on 16-bit weights without master weights. The new weights are rounded to f32, and then stochastically
/// to the 16-bit type.
pub fn step_stochastic<P: Element>(
    rounded: &mut [P],
    kept: Kept<'_, f32>,
    gradient: Floats<'_>,
    random: RandomBits,
    formula: Formula,
) -> Result<()> {
    let weights: &mut [f32] = &mut [];
    simd::run(Step { weights, rounded, kept, gradient, start: 0, random: Some(random), formula })
}

struct Step<'a, S, P> {
    /// Weights that the rule updates: the model's own weights in [`step`], the master weights in [`step_rounded`].
    /// Empty in [`step_stochastic`].
    weights: &'a mut [S],
    /// Rounded weights that the model computes with. Empty in [`step`].
    rounded: &'a mut [P],
    kept: Kept<'a, S>,
    /// Gradient of all weights.
    gradient: Floats<'a>,
    /// Index of the first element of `weights` and `rounded` among all weights of the call.
    start: usize,
    /// Source of random bits, if the weights are rounded stochastically.
    random: Option<RandomBits>,
    formula: Formula,
}

impl<S, P> Step<'_, S, P> {
    fn count(&self) -> usize {
        self.weights.len().max(self.rounded.len())
    }
}

/// Splits a slice after `at` elements, or at its end if it is shorter.
fn split<S>(slice: &mut [S], at: usize) -> (&mut [S], &mut [S]) {
    slice.split_at_mut(at.min(slice.len()))
}

impl<S: Element, P: Element> Work for Step<'_, S, P> {
    fn rows(&self) -> usize {
        self.count().div_ceil(CHUNK)
    }

    fn cols(&self) -> usize {
        CHUNK
    }

    fn split_at(self, at: usize) -> (Self, Self) {
        let at = at * CHUNK;
        let [one, other] = self.kept;
        let (weights, more_weights) = split(self.weights, at);
        let (rounded, more_rounded) = split(self.rounded, at);
        let ((one, more_of_one), (other, more_of_other)) = (split(one, at), split(other, at));
        let kept = [more_of_one, more_of_other];
        (
            Step { weights, rounded, kept: [one, other], ..self },
            Step { weights: more_weights, rounded: more_rounded, kept, start: self.start + at, ..self },
        )
    }
}

impl<S: Element, P: Element> Kernel for Step<'_, S, P> {
    type Out = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let count = self.count();
        let Step { weights, rounded, kept: [one, other], gradient, start, random, formula } = self;
        let (mut wide, mut unkept) = ([0.0; CHUNK], [S::ZERO; CHUNK]);
        for at in (0..count).step_by(CHUNK) {
            let end = count.min(at + CHUNK);
            let gradient = gradient.wide(isa, start + at..start + end, &mut wide[..end - at]);
            let rounded = rounded.get_mut(at..end);
            let weights = weights.get_mut(at..end).unwrap_or(&mut unkept[..end - at]);
            if let Some(rounded) = &rounded {
                if random.is_some() {
                    Span::in_place(&mut *weights).reading(rounded).map(
                        isa,
                        #[inline(always)]
                        |_, p: I::F64| p,
                    );
                } else {
                    adopt(isa, weights, rounded);
                }
            }
            let kept = [one.get_mut(at..end).unwrap_or_default(), other.get_mut(at..end).unwrap_or_default()];
            formula.step(isa, &mut *weights, kept, gradient);
            match (rounded, random) {
                (None, _) => (),
                (Some(rounded), Some(random)) => {
                    stochastic_rounding::round(weights, rounded, start + at, random);
                }
                (Some(rounded), None) => {
                    Span::in_place(rounded).reading(weights).map(
                        isa,
                        #[inline(always)]
                        |_, w: I::F64| w,
                    );
                }
            }
        }
    }
}

/// Replaces a master weight that does not round to the stored weight.
#[inline(always)]
fn adopt<I: Isa, S: Element, P: Element>(isa: I, weights: &mut [S], rounded: &[P]) {
    Span::in_place(weights).map_with(
        isa,
        [rounded],
        #[inline(always)]
        |_, w: I::F64, [p]| {
            let p = P::load_wide(isa, p);
            I::F64::select(P::round_wide(isa, w).eq(p), w, p)
        },
    );
}

impl Formula {
    /// Updates the weights and their state in place. Each rule is a kernel of its own, which is compiled once for all
    /// types of rounded weights.
    #[inline(always)]
    fn step<I: Isa, S: Element>(self, isa: I, weights: &mut [S], kept: Kept<'_, S>, gradient: &[f64]) {
        match self {
            Formula::AdamW(rule) => isa.outline(Update { rule, weights, kept, gradient }),
            Formula::Descent(rule) => isa.outline(Update { rule, weights, kept, gradient }),
            Formula::Momentum(rule) => isa.outline(Update { rule, weights, kept, gradient }),
        }
    }
}

/// Kernel that updates a chunk of weights and their state in place.
struct Update<'a, R, S> {
    rule: R,
    weights: &'a mut [S],
    kept: Kept<'a, S>,
    gradient: &'a [f64],
}

/// Adam with decoupled weight decay. The state is the moving average of the gradient, and the square root of the moving
/// average of the squared gradient. The root is stored instead of the mean square, because only the root is sure to be
/// within the range of the gradients.
#[derive(Clone, Copy, Debug)]
pub struct AdamW {
    pub beta1: f64,
    pub beta2: f64,
    /// Factor of the old weight: `1 - lr * weight_decay`.
    pub keep: f64,
    /// Factor of the quotient that is subtracted from the weight. The quotient is the moving average, divided by the
    /// sum of the root and eps.
    pub rate: f64,
    pub eps: f64,
}

impl<S: Element> Kernel for Update<'_, AdamW, S> {
    type Out = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let Update { rule, weights, kept: [mean, root], gradient } = self;
        let (beta1, rest1) = (isa.f64(rule.beta1), isa.f64(1.0 - rule.beta1));
        let (beta2, rest2) = (isa.f64(rule.beta2), isa.f64(1.0 - rule.beta2));
        let (keep, rate, eps) = (isa.f64(rule.keep), isa.f64(rule.rate), isa.f64(rule.eps));
        Span::in_place(&mut *mean).map_with(
            isa,
            [gradient],
            #[inline(always)]
            |_, m: I::F64, [g]| m * beta1 + isa.load_f64(g) * rest1,
        );
        Span::in_place(&mut *root).map_with(
            isa,
            [gradient],
            #[inline(always)]
            |_, u: I::F64, [g]| {
                let (u, g, back) = in_units::<I, S>(isa, u, isa.load_f64(g));
                (u * u * beta2 + g * g * rest2).sqrt() * back
            },
        );
        Span::in_place(weights).map_with(
            isa,
            [&*mean, &*root],
            #[inline(always)]
            |_, w: I::F64, [m, u]| w * keep - S::load_wide(isa, m) / (S::load_wide(isa, u) + eps) * rate,
        );
    }
}

/// Multiplies both numbers by a power of two. Returns the products, and the reciprocal of the power. The power keeps
/// the squares of f64 numbers from overflowing or underflowing. Types narrower than f64 need no scaling.
#[inline(always)]
fn in_units<I: Isa, S: Element>(isa: I, a: I::F64, b: I::F64) -> (I::F64, I::F64, I::F64) {
    const HUGE: f64 = f64::from_bits((1023 + 500) << 52);
    const TINY: f64 = f64::from_bits((1023 - 400) << 52);
    const UNIT: f64 = f64::from_bits((1023 + 600) << 52);
    let one = isa.f64(1.0);
    if !S::IS_F64 {
        return (a, b, one);
    }
    let largest = a.abs().max(b.abs());
    let (huge, tiny) = (isa.f64(HUGE).lt(largest), largest.lt(isa.f64(TINY)));
    let [up, down] = [isa.f64(UNIT), isa.f64(1.0 / UNIT)];
    let unit = I::F64::select(huge, down, I::F64::select(tiny, up, one));
    let back = I::F64::select(huge, up, I::F64::select(tiny, down, one));
    (a * unit, b * unit, back)
}

/// Gradient descent with weight decay.
#[derive(Clone, Copy, Debug)]
pub struct Descent {
    pub lr: f64,
    pub weight_decay: f64,
}

impl<S: Element> Kernel for Update<'_, Descent, S> {
    type Out = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let Update { rule, weights, gradient, .. } = self;
        let (lr, decay) = (isa.f64(rule.lr), isa.f64(rule.weight_decay));
        Span::in_place(weights).map_with(
            isa,
            [gradient],
            #[inline(always)]
            |_, w: I::F64, [g]| w - (isa.load_f64(g) + w * decay) * lr,
        );
    }
}

/// Gradient descent with momentum. The state is the momentum.
#[derive(Clone, Copy, Debug)]
pub struct Momentum {
    pub descent: Descent,
    pub momentum: f64,
    /// Factor that multiplies the sum of the gradient and the weight decay before this sum is added to the momentum.
    pub fresh: f64,
    pub nesterov: bool,
}

impl<S: Element> Kernel for Update<'_, Momentum, S> {
    type Out = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let Update { rule, weights, kept: [kept, _], gradient } = self;
        let (lr, decay) = (isa.f64(rule.descent.lr), isa.f64(rule.descent.weight_decay));
        let (momentum, fresh) = (isa.f64(rule.momentum), isa.f64(rule.fresh));
        Span::in_place(&mut *kept).map_with(
            isa,
            ([gradient], [&*weights]),
            #[inline(always)]
            |_, b: I::F64, ([g], [w])| b * momentum + (isa.load_f64(g) + S::load_wide(isa, w) * decay) * fresh,
        );
        Span::in_place(weights).map_with(
            isa,
            ([gradient], [&*kept]),
            #[inline(always)]
            |_, w: I::F64, ([g], [b])| {
                let b = S::load_wide(isa, b);
                let towards = if rule.nesterov { isa.load_f64(g) + w * decay + b * momentum } else { b };
                w - towards * lr
            },
        );
    }
}
