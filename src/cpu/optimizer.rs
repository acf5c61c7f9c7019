//! Optimiser steps, computed in f64. Each stored number is rounded once.

use super::stochastic_rounding::{self, RandomBits};
use crate::element::Element;
use crate::error::Result;
use crate::floats::Floats;
use crate::simd::{self, Float, Isa, Select, Span, Work};

/// Number of elements processed together. They fit in the nearest cache.
const CHUNK: usize = 512;

/// Update rule applied to each chunk. `S` is the type of the weights and of the `N` state values stored for each
/// weight.
pub trait Formula<const N: usize>: Copy + Send + Sync {
    /// Updates the weights and their state in place. Must be `#[inline(always)]`, like everything it calls.
    fn step<I: Isa, S: Element>(self, isa: I, weights: &mut [S], kept: [&mut [S]; N], gradient: &[f64]);
}

/// Runs one step on the model's own weights, without a copy of higher precision.
pub fn step<S: Element, const N: usize>(
    weights: &mut [S],
    kept: [&mut [S]; N],
    gradient: Floats<'_>,
    formula: impl Formula<N>,
) -> Result<()> {
    let rounded: &mut [S] = &mut [];
    simd::run(Step { weights, rounded, kept, gradient, start: 0, random: None, formula })
}

/// Runs one step on f32 master weights, and stores the rounded weights, which the model computes with. If a rounded
/// weight was changed elsewhere, it replaces its master weight before the step.
pub fn step_rounded<P: Element, const N: usize>(
    weights: &mut [f32],
    rounded: &mut [P],
    kept: [&mut [f32]; N],
    gradient: Floats<'_>,
    formula: impl Formula<N>,
) -> Result<()> {
    simd::run(Step { weights, rounded, kept, gradient, start: 0, random: None, formula })
}

/// Runs one step on 16-bit weights without master weights. The new weights are rounded to f32, and then stochastically.
pub fn step_stochastic<P: Element, const N: usize>(
    rounded: &mut [P],
    kept: [&mut [f32]; N],
    gradient: Floats<'_>,
    random: RandomBits,
    formula: impl Formula<N>,
) -> Result<()> {
    let weights: &mut [f32] = &mut [];
    simd::run(Step { weights, rounded, kept, gradient, start: 0, random: Some(random), formula })
}

struct Step<'a, S, P, F, const N: usize> {
    /// The model's own weights, or master weights. Empty for 16-bit weights without master weights.
    weights: &'a mut [S],
    /// Rounded weights that the model computes with. Empty if `weights` has the model's own weights.
    rounded: &'a mut [P],
    kept: [&'a mut [S]; N],
    /// Gradient of all weights.
    gradient: Floats<'a>,
    /// Index of this part's first weight among all weights.
    start: usize,
    /// Source of random bits, if the weights are rounded stochastically.
    random: Option<RandomBits>,
    formula: F,
}

impl<S, P, F, const N: usize> Step<'_, S, P, F, N> {
    fn count(&self) -> usize {
        self.weights.len().max(self.rounded.len())
    }
}

impl<S: Element, P: Element, F: Formula<N>, const N: usize> Work for Step<'_, S, P, F, N> {
    type Out = ();

    fn rows(&self) -> usize {
        self.count().div_ceil(CHUNK)
    }

    fn cols(&self) -> usize {
        CHUNK
    }

    fn split_at(self, at: usize) -> (Self, Self) {
        let at = at * CHUNK;
        let (weights, more_weights) = self.weights.split_at_mut(at.min(self.weights.len()));
        let (rounded, more_rounded) = self.rounded.split_at_mut(at.min(self.rounded.len()));
        let mut more_kept = [const { None }; N];
        let mut rests = more_kept.iter_mut();
        let kept = self.kept.map(|kept| {
            let (kept, more) = kept.split_at_mut(at);
            if let Some(rest) = rests.next() {
                *rest = Some(more);
            }
            kept
        });
        let more_kept = more_kept.map(Option::unwrap_or_default);
        let rest =
            Step { weights: more_weights, rounded: more_rounded, kept: more_kept, start: self.start + at, ..self };
        let Step { gradient, random, formula, .. } = rest;
        (Step { weights, rounded, kept, gradient, start: self.start, random, formula }, rest)
    }

    fn join((): (), (): ()) {}

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let count = self.count();
        let Step { weights, rounded, mut kept, gradient, start, random, formula } = self;
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
            formula.step(isa, weights, kept.each_mut().map(|kept| &mut kept[at..end]), gradient);
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
    Span::in_place(weights).map_unrolled_with(
        isa,
        [rounded],
        #[inline(always)]
        |_, w: I::F64, [p]| {
            let p = P::load_wide(isa, p);
            I::F64::select(P::round_wide(isa, w).eq(p), w, p)
        },
    );
}

/// Adam with decoupled weight decay. The state is the mean gradient and the root of the mean square. Unlike the mean
/// square, the root is within the range of the gradients.
#[derive(Clone, Copy, Debug)]
pub struct AdamW {
    pub beta1: f64,
    pub beta2: f64,
    /// Factor of the old weight: 1 - lr weight_decay.
    pub keep: f64,
    /// Factor that multiplies the quotient of the mean and the root.
    pub rate: f64,
    pub eps: f64,
}

impl Formula<2> for AdamW {
    #[inline(always)]
    fn step<I: Isa, S: Element>(self, isa: I, weights: &mut [S], kept: [&mut [S]; 2], gradient: &[f64]) {
        let [mean, root] = kept;
        let [beta1, beta2, keep, rate, eps] =
            [self.beta1, self.beta2, self.keep, self.rate, self.eps].map(|number| isa.f64(number));
        let [rest1, rest2] = [1.0 - self.beta1, 1.0 - self.beta2].map(|number| isa.f64(number));
        Span::in_place(mean).map_unrolled_with(
            isa,
            [gradient],
            #[inline(always)]
            |_, m: I::F64, [g]| m * beta1 + isa.load_f64(g) * rest1,
        );
        Span::in_place(root).map_unrolled_with(
            isa,
            [gradient],
            #[inline(always)]
            |_, u: I::F64, [g]| {
                let (u, g, back) = in_units::<I, S>(isa, u, isa.load_f64(g));
                (u * u * beta2 + g * g * rest2).sqrt() * back
            },
        );
        Span::in_place(weights).map_unrolled_with(
            isa,
            [&*mean, &*root],
            #[inline(always)]
            |_, w: I::F64, [m, u]| w * keep - S::load_wide(isa, m) / (S::load_wide(isa, u) + eps) * rate,
        );
    }
}

/// Returns both numbers multiplied by a power of two, and the reciprocal of this power. The power keeps the squares of
/// f64 numbers from overflowing or vanishing. Types narrower than f64 need no scaling.
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

impl Formula<0> for Descent {
    #[inline(always)]
    fn step<I: Isa, S: Element>(self, isa: I, weights: &mut [S], _: [&mut [S]; 0], gradient: &[f64]) {
        let [lr, decay] = [self.lr, self.weight_decay].map(|number| isa.f64(number));
        Span::in_place(weights).map_unrolled_with(
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
    /// Factor of the gradient when it is added to the momentum.
    pub fresh: f64,
    pub nesterov: bool,
}

impl Formula<1> for Momentum {
    #[inline(always)]
    fn step<I: Isa, S: Element>(self, isa: I, weights: &mut [S], [kept]: [&mut [S]; 1], gradient: &[f64]) {
        let Descent { lr, weight_decay } = self.descent;
        let [lr, decay, momentum, fresh] = [lr, weight_decay, self.momentum, self.fresh].map(|number| isa.f64(number));
        Span::in_place(kept).map_unrolled_with(
            isa,
            ([gradient], [&*weights]),
            #[inline(always)]
            |_, b: I::F64, ([g], [w])| b * momentum + (isa.load_f64(g) + S::load_wide(isa, w) * decay) * fresh,
        );
        Span::in_place(weights).map_unrolled_with(
            isa,
            ([gradient], [&*kept]),
            #[inline(always)]
            |_, w: I::F64, ([g], [b])| {
                let b = S::load_wide(isa, b);
                let towards = if self.nesterov { isa.load_f64(g) + w * decay + b * momentum } else { b };
                w - towards * lr
            },
        );
    }
}
