//! Kullback-Leibler divergence of target probabilities from predictions, row by row, all in f64. Predictions are
//! logits, to which softmax is applied, or log-probabilities.

use super::row_loss::{Row, Upstream, elements, total};
use crate::floats::Floats;
use crate::math::exp::{exp, exp_parts};
use crate::math::log::{log, log1p_scalar};
use crate::math::wide::two_sum;
use crate::simd::{Float, Isa, Kernel, Select, Span, load_wide};
use std::ops::Range;

/// Checked options and operands of a call, except the logits.
#[derive(Clone, Copy)]
pub struct KlDiv<'a> {
    /// Target of each logit: a probability, or its logarithm if `log_target` is set.
    pub targets: Floats<'a>,
    pub log_target: bool,
    /// Whether the rows hold log-probabilities. If so, each element has a loss, otherwise each row has one.
    pub log_probs: bool,
    pub scale: f64,
    pub upstream: Upstream<'a>,
}

/// Computes the losses and the gradient of a row.
pub struct OneRow<'a, 'r> {
    pub op: &'a KlDiv<'a>,
    pub index: usize,
    pub row: Row<'r>,
}

/// Lower limit of x: at or below this limit, e^x is set to 0.
const LOWEST: f64 = -750.0;

impl Kernel for OneRow<'_, '_> {
    type Out = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let OneRow { op, index, row: Row { x, dx, beside: p, losses } } = self;
        let range = elements(index, x.len());
        op.probabilities(isa, index, p);
        if op.log_probs {
            op.elements(isa, range, [x, dx], p);
            match losses {
                [loss] => *loss = total(isa, x),
                losses => losses.copy_from_slice(x),
            }
            return;
        }
        op.logits(isa, x);
        let (at, max) = largest(x);
        if !max.is_finite() {
            let masked = max == f64::NEG_INFINITY;
            let loss = match masked {
                true if p.iter().any(|&p| p > 0.0) => f64::INFINITY,
                true => 0.0,
                false => f64::NAN,
            };
            losses.fill(loss);
            dx.fill(if masked { 0.0 } else { f64::NAN });
            return;
        }
        exponentials(isa, x, max, dx);
        // The sum of all terms except the largest is computed separately, because this sum may be tiny.
        let (one, p_one) = (std::mem::take(&mut dx[at]), std::mem::take(&mut p[at]));
        let (others, p_others) = (total(isa, dx), total(isa, p));
        (dx[at], p[at]) = (one, p_one);
        let (log_sum, sum, p_sum) = (log1p_scalar(isa, others), 1.0 + others, p_one + p_others);
        op.terms(isa, range, [x, p], max, log_sum);
        losses.fill(total(isa, x));
        // If the product of both factors overflows, they are applied one after the other. A gradient of 0 stays 0 then.
        let upstream = op.upstream.factor(index);
        let product = upstream * op.scale;
        let (factor, then) = if product.is_finite() { (product, 1.0) } else { (upstream, op.scale) };
        let at_largest = ((p_others - p_one * others) / sum) * factor;
        let (share, factor) = (isa.f64(p_sum / sum), isa.f64(factor));
        Span::in_place(&mut *dx).map(
            isa,
            #[inline(always)]
            |i, e: I::F64| (e * share - load_wide(isa, p, i, 0.0)) * factor,
        );
        dx[at] = at_largest;
        if then != 1.0 {
            dx.iter_mut().for_each(
                #[inline(always)]
                |dx| *dx *= then,
            );
        }
    }
}

impl KlDiv<'_> {
    /// Writes the row's targets as probabilities.
    #[inline(always)]
    fn probabilities<I: Isa>(&self, isa: I, index: usize, p: &mut [f64]) {
        let range = elements(index, p.len());
        Span::in_place(p).map(
            isa,
            #[inline(always)]
            |i, _: I::F64| {
                let target = self.targets.block(isa, range.clone(), i);
                if self.log_target { exp::<I, f64>(isa, target).round::<f64>(isa) } else { target }
            },
        );
    }

    /// Scales the row. Finite elements stay finite, and infinite elements stay unchanged.
    #[inline(always)]
    fn logits<I: Isa>(&self, isa: I, x: &mut [f64]) {
        if self.scale == 1.0 {
            return;
        }
        let (scale, most, infinity) = (isa.f64(self.scale), isa.f64(f64::MAX), isa.f64(f64::INFINITY));
        Span::in_place(x).map(
            isa,
            #[inline(always)]
            |_, x: I::F64| {
                let z = x * scale;
                let within = most.min((isa.f64(0.0) - most).max(z));
                // Keeps infinities, so that a scale of 0 does not unmask a logit of -inf.
                let z = I::F64::select(x.abs().lt(infinity), within, z);
                I::F64::select(x.abs().eq(infinity), x, z)
            },
        );
    }

    /// Returns a block of ln p.
    #[inline(always)]
    fn ln_p<I: Isa>(&self, isa: I, range: Range<usize>, i: usize, p: I::F64) -> I::F64 {
        if self.log_target { self.targets.block(isa, range, i) } else { log(isa, p).round::<f64>(isa) }
    }

    /// Replaces `x = ln q` by the loss `p * (ln p - x)`, and writes the gradients to `dx`.
    #[inline(always)]
    fn elements<I: Isa>(&self, isa: I, range: Range<usize>, [x, dx]: [&mut [f64]; 2], p: &[f64]) {
        let each = self.upstream.dloss.len() > 1;
        let factor = isa.f64(if each { 1.0 } else { self.upstream.factor(0) });
        let zero = isa.f64(0.0);
        Span::map_pair(
            [Span::in_place(x), Span::in_place(dx)],
            isa,
            (),
            #[inline(always)]
            |i, [x, _]: [I::F64; 2], ()| {
                let p = load_wide(isa, p, i, 0.0);
                let dloss = if each { load_wide(isa, &self.upstream.dloss[range.clone()], i, 0.0) } else { factor };
                let term = I::F64::select(p.eq(zero), zero, p * (self.ln_p(isa, range.clone(), i, p) - x));
                // If x is NaN, the loss and the gradient are NaN, even if the target is 0.
                let number = x.eq(x);
                [I::F64::select(number, term, x), I::F64::select(number, (zero - p) * dloss, x)]
            },
        );
    }

    /// Replaces the logits by `p * (ln p - ln q)`.
    #[inline(always)]
    fn terms<I: Isa>(&self, isa: I, range: Range<usize>, [x, p]: [&mut [f64]; 2], max: f64, log_sum: f64) {
        let (max, log_sum, zero) = (isa.f64(max), isa.f64(log_sum), isa.f64(0.0));
        let p = &*p;
        Span::in_place(x).map(
            isa,
            #[inline(always)]
            |i, x: I::F64| {
                let p = load_wide(isa, p, i, 0.0);
                let minus_ln_q = (max - x) + log_sum;
                I::F64::select(p.eq(zero), zero, p * (self.ln_p(isa, range.clone(), i, p) + minus_ln_q))
            },
        );
    }
}

/// Returns the index and value of the largest element. If there is a NaN, returns the index and value of the first NaN
/// instead.
#[inline(always)]
fn largest(x: &[f64]) -> (usize, f64) {
    let mut found = (0, f64::NEG_INFINITY);
    for (i, &v) in x.iter().enumerate() {
        if v.is_nan() {
            return (i, v);
        }
        if v > found.1 {
            found = (i, v);
        }
    }
    found
}

/// Writes e^(x - max). The exponential is corrected for the rounding error of the difference.
#[inline(always)]
fn exponentials<I: Isa>(isa: I, x: &[f64], max: f64, to: &mut [f64]) {
    let (minus_max, lowest, zero) = (isa.f64(-max), isa.f64(LOWEST), isa.f64(0.0));
    Span::in_place(to).reading(x).map(
        isa,
        #[inline(always)]
        |_, x: I::F64| {
            let (distance, rest) = two_sum(x, minus_max);
            let near = lowest.lt(distance);
            let rest = I::F64::select(near, rest, zero);
            let e = exp_parts(isa, lowest.max(distance), rest).round::<f64>(isa);
            I::F64::select(near, e, zero)
        },
    );
}
