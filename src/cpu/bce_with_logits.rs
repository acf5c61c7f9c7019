//! Binary cross-entropy of logits. The loss is computed as the sum of two non-negative terms, so that it has no
//! cancellation.

use super::row_loss::{Row, Upstream, elements, or_one, times, total};
use crate::floats::Floats;
use crate::math::exp::exp;
use crate::math::log::log;
use crate::math::log1p::log1p;
use crate::simd::{Float, Isa, Kernel, Select, Span, load_wide};
use std::ops::Range;

/// Checked options and operands of a call, except the logits.
#[derive(Clone, Copy)]
pub struct Bce<'a> {
    /// Target of each element, in 0 ..= 1.
    pub targets: Floats<'a>,
    /// Weight of each element.
    pub weight: Option<Floats<'a>>,
    /// Weight of the positive class, for each column.
    pub pos_weight: Option<Floats<'a>>,
    pub focal: Option<Focal>,
    pub upstream: Upstream<'a>,
}

/// Options of a focal loss.
#[derive(Clone, Copy)]
pub struct Focal {
    pub gamma: f64,
    pub alpha: Option<f64>,
}

/// Computes the losses and the gradient of a row.
pub struct OneRow<'a, 'r> {
    pub op: &'a Bce<'a>,
    pub index: usize,
    pub row: Row<'r>,
}

impl Kernel for OneRow<'_, '_> {
    type Out = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let OneRow { op: Bce { targets, weight, pos_weight, focal, upstream }, index, row } = self;
        let Row { x, dx, losses, beside } = row;
        let (cols, range) = (x.len(), elements(index, x.len()));
        let each = upstream.dloss.len() > 1;
        let factor = isa.f64(if each { 1.0 } else { upstream.factor(0) });
        let (zero, one) = (isa.f64(0.0), isa.f64(1.0));
        if focal.is_some() {
            beside.copy_from_slice(x);
        }
        Span::map_pair(
            [Span::in_place(&mut *x), Span::in_place(&mut *dx)],
            isa,
            (),
            #[inline(always)]
            |i, [x, _]: [I::F64; 2], ()| {
                let y = targets.block(isa, range.clone(), i);
                let weight = or_one(isa, *weight, range.clone(), i);
                let factor = if each { load_wide(isa, &upstream.dloss[range.clone()], i, 0.0) } else { factor };
                // The loss is `miss * ln(1 + e^x) + hit * ln(1 + e^-x)`.
                let (miss, hit) = (one - y, y * or_one(isa, *pos_weight, 0..cols, i));
                let far = x.abs();
                let t = exp::<I, f64>(isa, zero - far).round::<f64>(isa);
                let (large, small) = (one / (one + t), t / (one + t));
                let log = log1p(isa, t).round::<f64>(isa);
                let positive = zero.lt(x);
                let loss = times(isa, I::F64::select(positive, miss, hit), far) + (miss + hit) * log;
                let (p, rest) = (I::F64::select(positive, large, small), I::F64::select(positive, small, large));
                let derivative = miss * p - hit * rest;
                [times(isa, weight, loss), times(isa, weight, derivative) * factor]
            },
        );
        if let Some(focal) = focal {
            isa.outline(Modulation { op: self.op, focal, range, logits: beside, losses: &mut *x, dx });
        }
        match losses {
            [loss] => *loss = total(isa, x),
            losses => losses.copy_from_slice(x),
        }
    }
}

/// Multiplies losses by the factor of a focal loss, and changes the gradients accordingly.
struct Modulation<'a> {
    op: &'a Bce<'a>,
    focal: &'a Focal,
    range: Range<usize>,
    logits: &'a [f64],
    losses: &'a mut [f64],
    dx: &'a mut [f64],
}

impl Kernel for Modulation<'_> {
    type Out = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let Modulation { op: Bce { targets, upstream, .. }, focal: &Focal { gamma, alpha }, range, logits, .. } = self;
        let each = upstream.dloss.len() > 1;
        let dloss = isa.f64(if each { 1.0 } else { upstream.factor(0) });
        let (zero, one) = (isa.f64(0.0), isa.f64(1.0));
        Span::map_pair(
            [Span::in_place(self.losses), Span::in_place(self.dx)],
            isa,
            (),
            #[inline(always)]
            |i, [loss, dx]: [I::F64; 2], ()| {
                let x = load_wide(isa, logits, i, 0.0);
                let y = targets.block(isa, range.clone(), i);
                let dloss = if each { load_wide(isa, &upstream.dloss[range.clone()], i, 0.0) } else { dloss };
                // The focal factor is `q^gamma`, where `q = (near + far * t) / (1 + t)` and `t = e^-|x|`. `near` and
                // `far` are not negative, so the numerator has no cancellation.
                let t = exp::<I, f64>(isa, zero - x.abs()).round::<f64>(isa);
                let positive = zero.lt(x);
                let (near, far) = (I::F64::select(positive, one - y, y), I::F64::select(positive, y, one - y));
                let sum = near + far * t;
                // If `near` is 0, then `far` is 1, so `q` is `t / (1 + t)`.
                let is_power = near.eq(zero);
                let log_sum = I::F64::select(is_power, zero - x.abs(), log(isa, sum).round::<f64>(isa));
                let log_q = log_sum - log1p(isa, t).round::<f64>(isa);
                let of_class = match alpha {
                    None => one,
                    Some(alpha) => isa.f64(alpha) * y + isa.f64(1.0 - alpha) * (one - y),
                };
                // `q^gamma` may underflow although `loss * q^gamma` does not, so the factor `q^(gamma / 2)` is applied
                // twice. This factor is never NaN, so a loss of 0 stays 0. The factor of an infinite loss is above 0,
                // so the loss stays infinite.
                let half = match gamma {
                    0.0 => one,
                    _ => exp::<I, f64>(isa, isa.f64(gamma / 2.0) * log_q).round::<f64>(isa),
                };
                let half = half.max(zero);
                let at_least = I::F64::select(loss.eq(isa.f64(f64::INFINITY)), isa.f64(f64::MIN_POSITIVE), zero);
                let half = half.max(at_least);
                let (loss, dx) = (times(isa, of_class, loss) * half, times(isa, of_class, dx) * half);
                // The derivative of `q^gamma` is `q^gamma * slope`.
                let share = I::F64::select(is_power, one, t / sum) / (one + t);
                let slope = isa.f64(gamma) * share * (one - (y + y));
                let change = I::F64::select(loss.eq(zero), zero, times(isa, slope * dloss, loss));
                [loss * half, (dx + change) * half]
            },
        );
    }
}
