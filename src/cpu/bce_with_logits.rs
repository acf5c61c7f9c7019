//! Binary cross-entropy of logits, as the sum of two non-negative terms, so that the loss has no cancellation.

use super::row_loss::{Row, Upstream, elements, or_one, times, total};
use crate::floats::Floats;
use crate::math::exp::exp;
use crate::math::log1p::log1p;
use crate::simd::{Float, Isa, Kernel, Select, Span, block};

/// Options of a call, resolved against its operands.
#[derive(Clone, Copy)]
pub struct Bce<'a> {
    /// Target of each element, in 0 ..= 1.
    pub targets: Floats<'a>,
    /// Weight of each element.
    pub weight: Option<Floats<'a>>,
    /// Weight of the positive class, for each column.
    pub pos_weight: Option<Floats<'a>>,
    pub upstream: Upstream<'a>,
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
        let OneRow { op: Bce { targets, weight, pos_weight, upstream }, index, row } = self;
        let Row { x, dx, losses, .. } = row;
        let (cols, range) = (x.len(), elements(index, x.len()));
        let each = upstream.dloss.len() > 1;
        let factor = isa.f64(if each { 1.0 } else { upstream.factor(0) });
        let (zero, one) = (isa.f64(0.0), isa.f64(1.0));
        Span::map_wide_both(
            [Span::in_place(&mut *x), Span::in_place(&mut *dx)],
            isa,
            #[inline(always)]
            |i, x, _| {
                let y = targets.block(isa, range.clone(), i);
                let weight = or_one(isa, *weight, range.clone(), i);
                let factor = if each { isa.load_f64(&block(&upstream.dloss[range.clone()], i, 0.0)) } else { factor };
                // `miss` weighs the loss of a positive logit, and `hit` the loss of a negative logit.
                let (miss, hit) = (one - y, y * or_one(isa, *pos_weight, 0..cols, i));
                let far = x.abs();
                let t = exp::<I, f64>(isa, zero - far).round::<f64>(isa);
                let (large, small) = (one / (one + t), t / (one + t));
                let log = log1p(isa, t).round::<f64>(isa);
                let positive = zero.lt(x);
                let loss = times(isa, I::F64::select(positive, miss, hit), far) + (miss + hit) * log;
                let (p, rest) = (I::F64::select(positive, large, small), I::F64::select(positive, small, large));
                let derivative = miss * p - hit * rest;
                (times(isa, weight, loss), times(isa, weight, derivative) * factor)
            },
        );
        match losses {
            [loss] => *loss = total(isa, x),
            losses => losses.copy_from_slice(x),
        }
    }
}
