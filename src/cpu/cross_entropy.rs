//! Cross-entropy of rows, plus label smoothing and z-loss. The cross-entropy is `(max - z_t) + ln(sum)`, which has no
//! cancellation. Here `z_t` is the target's logit, `max` is the largest logit, and `sum` is the sum of `e^(z - max)`
//! over all logits z.

use super::lanes::GuardCounts;
use super::scores::{Live, LogitTransform, Logits, Row, is_half};
use super::scratch::{Scratch, lend_scratch};
use crate::element::Element;
use crate::error::Result;
use crate::math::bins::Bins;
use crate::report::Counts;
use crate::rows::Rows;
use crate::simd::{self, BLOCK, Float, Isa, Kernel, Select, Storage, Work, load_wide};

/// Checked options and operands of a call, except the logits. Every target that is not ignored is a valid class.
#[derive(Clone, Copy)]
pub struct CrossEntropy<'a> {
    pub scores: LogitTransform<'a>,
    pub targets: &'a [i64],
    pub ignore_index: i64,
    /// Weight of each class.
    pub weight: Option<&'a [f64]>,
    /// Sum of the class weights.
    pub weight_sum: f64,
    pub label_smoothing: f64,
    pub z_loss: f64,
}

/// Loss of a row before the reduction; 0 for an ignored row.
#[derive(Clone, Copy, Debug, Default)]
pub struct RowLoss {
    /// Cross-entropy, weighted and smoothed.
    pub entropy: f64,
    pub z: f64,
}

/// Computes the loss of each row.
pub fn losses<E: Element>(x: Rows<'_, E>, to: &mut [RowLoss], op: CrossEntropy<'_>) -> Result<Counts> {
    let guards = simd::run(Losses { x, first: 0, to, op })?;
    Ok(guards.counts)
}

struct Losses<'a, E> {
    x: Rows<'a, E>,
    first: usize,
    to: &'a mut [RowLoss],
    op: CrossEntropy<'a>,
}

impl<E: Element> Work for Losses<'_, E> {
    fn rows(&self) -> usize {
        self.to.len()
    }

    fn cols(&self) -> usize {
        self.x.cols()
    }

    fn split_at(self, at: usize) -> (Self, Self) {
        let (a, b) = self.to.split_at_mut(at);
        (Losses { to: a, ..self }, Losses { first: self.first + at, to: b, ..self })
    }
}

impl<E: Element> Kernel for Losses<'_, E> {
    type Out = GuardCounts;

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> GuardCounts {
        let mut guards = GuardCounts::default();
        guards.counts.rows = self.to.len() as u64;
        let mut lent = lend_scratch();
        let scratch = lent.get();
        for (i, to) in self.to.iter_mut().enumerate() {
            let index = self.first + i;
            if let Some(target) = self.op.target(index) {
                let x = self.x.row(index);
                *to = self.op.row(isa, index, x, target, scratch, &mut guards);
            }
        }
        guards
    }
}

impl CrossEntropy<'_> {
    #[inline(always)]
    fn row<I: Isa, E: Element>(
        &self,
        isa: I,
        index: usize,
        x: &[E],
        target: usize,
        scratch: &mut Scratch,
        guards: &mut GuardCounts,
    ) -> RowLoss {
        let Scratch { logits, widened, made, .. } = scratch;
        let (x, row) = self.scores.read_widened(isa, index, x, true, (widened, logits));
        match row {
            Row::Live(live) => {
                let log_sum = live.log_sum(isa, x, !is_half::<E>(), made);
                self.loss(isa, x, target, &live, log_sum)
            }
            row => self.fill_value::<E>(&row, index, target, guards),
        }
    }

    /// Returns the target of a row, or `None` if the row is ignored.
    #[inline(always)]
    pub fn target(&self, row: usize) -> Option<usize> {
        let target = self.targets[row];
        (target != self.ignore_index).then_some(target as usize)
    }

    #[inline(always)]
    pub fn weight(&self, class: usize) -> f64 {
        self.weight.map_or(1.0, |weight| weight[class])
    }

    /// Returns the loss of a row that is not [`Row::Live`]. The terms of the loss are infinite if the row is fully
    /// masked. Otherwise they are NaN.
    #[inline(always)]
    pub fn fill_value<E: Element>(
        &self,
        row: &Row<'_>,
        index: usize,
        target: usize,
        guards: &mut GuardCounts,
    ) -> RowLoss {
        row.fill_value(index, self.scores.fully_masked, guards, E::ZERO, E::ZERO);
        let term = if matches!(row, Row::Masked) { f64::INFINITY } else { f64::NAN };
        let counts = self.weight(target) != 0.0 || self.label_smoothing != 0.0;
        RowLoss {
            entropy: if counts || term.is_nan() { term } else { 0.0 },
            z: if self.z_loss == 0.0 { 0.0 } else { term },
        }
    }

    /// Returns the loss of a row that is [`Row::Live`].
    #[inline(always)]
    pub fn loss<I: Isa, E: Element>(&self, isa: I, x: &[E], target: usize, live: &Live<'_>, log_sum: f64) -> RowLoss {
        let logit = live.logit(x, target);
        let distances = if self.label_smoothing == 0.0 {
            0.0
        } else {
            let distance = Distance::new(self.label_smoothing, x.len(), live.max);
            Distance::total(&distance.sum(isa, self.weight, x, &live.logits))
        };
        self.combine(x.len(), target, (live.max, logit), log_sum, distances)
    }

    /// Computes the loss of a row of `cols` columns from its largest logit, the target's logit, the logarithm of its
    /// sum of exponentials, and its sum of [`Distance`]s.
    #[inline(always)]
    pub fn combine(
        &self,
        cols: usize,
        target: usize,
        (max, logit): (f64, f64),
        log_sum: f64,
        distances: f64,
    ) -> RowLoss {
        let nll = (max - logit) + log_sum;
        let mut entropy = times(self.weight(target) * (1.0 - self.label_smoothing), nll);
        if self.label_smoothing != 0.0 {
            let share = self.label_smoothing / cols as f64;
            entropy += distances + times(share * self.weight_sum, log_sum);
        }
        let lse = max + log_sum;
        RowLoss { entropy, z: if self.z_loss == 0.0 { 0.0 } else { self.z_loss * lse * lse } }
    }
}

/// Smoothing term `s / V * w_k * (max - z_k)`. Here s is the label smoothing, V the number of classes, and w_k and z_k
/// are the weight and the logit of class k. The term is scaled down by 2^128, so that no distance overflows and the
/// binned sum has headroom.
#[derive(Clone, Copy)]
pub struct Distance {
    share: f64,
    max: f64,
}

impl Distance {
    const DOWN: f64 = 1.0 / Self::UP;
    const UP: f64 = (1u128 << 127) as f64 * 2.0;

    /// Creates the term for a row of `cols` columns.
    #[inline(always)]
    pub fn new(label_smoothing: f64, cols: usize, max: f64) -> Self {
        Distance { share: label_smoothing / cols as f64, max: max * Self::DOWN }
    }

    /// Computes the terms of block `index` from its logits `z`. `weight` starts at the same column as block 0.
    #[inline(always)]
    fn block<I: Isa>(self, isa: I, weight: Option<&[f64]>, index: usize, z: I::F64) -> I::F64 {
        let zero = isa.f64(0.0);
        let distance = isa.f64(self.max) - z * isa.f64(Self::DOWN);
        let share = match weight {
            None => isa.f64(self.share),
            Some(weight) => isa.f64(self.share) * load_wide(isa, weight, index, 0.0),
        };
        I::F64::select(share.eq(zero), zero, share * distance)
    }

    /// Sums the terms of the given columns, which may be all columns or a range of them.
    #[inline(always)]
    pub fn sum<I: Isa, E: Element>(self, isa: I, weight: Option<&[f64]>, x: &[E], logits: &Logits<'_>) -> Bins {
        match *logits {
            Logits::Direct => isa.outline(Distances { weight, distance: self, z: x }),
            Logits::F32(z) => isa.outline(Distances { weight, distance: self, z }),
            Logits::F64(z) => isa.outline(Distances { weight, distance: self, z }),
        }
    }

    /// Converts a sum of terms to f64, and undoes the scaling of the terms.
    pub fn total(sum: &Bins) -> f64 {
        sum.value().0 * Self::UP
    }
}

/// Returns `factor * term`. If the factor is 0, returns 0, even if the term is infinite or NaN.
#[inline(always)]
fn times(factor: f64, term: f64) -> f64 {
    if factor == 0.0 { 0.0 } else { factor * term }
}

struct Distances<'a, S> {
    weight: Option<&'a [f64]>,
    distance: Distance,
    z: &'a [S],
}

impl<S: Storage> Kernel for Distances<'_, S> {
    type Out = Bins;

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> Bins {
        let Distances { weight, distance, z } = self;
        let Some(&pad) = z.first() else { return Bins::default() };
        let zero = isa.f64(0.0);
        Bins::of(
            isa,
            z.len(),
            #[inline(always)]
            |i| {
                // Columns past the end add 0.
                let there = z.len().saturating_sub(BLOCK * i).min(BLOCK);
                let inside = isa.mask_wide(((1u32 << there) - 1) as u16);
                let term = distance.block(isa, weight, i, load_wide(isa, z, i, pad));
                I::F64::select(inside, term, zero)
            },
        )
    }
}
