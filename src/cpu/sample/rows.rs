//! What the logits of a row hold, found without sorting them.

use super::candidates::{Candidate, Candidates};
use crate::cpu::scores::{Live, Logits};
use crate::element::{DType, Element};
use crate::simd::{Float, Isa, LANES, Span, fold};

impl Live<'_> {
    /// The logit of the `i`th column that has one.
    #[inline(always)]
    fn logit<E: Element>(&self, x: &[E], i: usize) -> f64 {
        match self.logits {
            Logits::Direct => x[self.columns.start + i].widen(),
            Logits::F32(z) => f64::from(z[i]),
            Logits::F64(z) => z[i],
        }
    }

    /// The first token whose logit is such.
    #[inline(always)]
    pub fn find<E: Element>(&self, x: &[E], such: impl Fn(f64) -> bool) -> usize {
        let found = (0..self.columns.len()).find(|&i| such(self.logit(x, i)));
        self.columns.start + found.unwrap_or(0)
    }

    #[inline(always)]
    fn candidate<E: Element>(&self, x: &[E], i: usize) -> Candidate {
        Candidate { logit: self.logit(x, i), token: (self.columns.start + i) as u32 }
    }

    /// The tokens whose logits are such.
    #[inline(always)]
    pub fn such<E: Element>(&self, x: &[E], such: impl Fn(f64) -> bool) -> Candidates {
        let mut kept = Candidates::default();
        (0..self.columns.len()).map(|i| self.candidate(x, i)).filter(|c| such(c.logit)).for_each(|c| kept.push(c));
        kept
    }

    /// All tokens that are not masked.
    #[inline(always)]
    pub fn present<I: Isa, E: Element>(&self, isa: I, x: &[E]) -> Candidates {
        if self.min > f64::NEG_INFINITY { self.all(isa, x) } else { self.such(x, |z| z > f64::NEG_INFINITY) }
    }

    /// All tokens.
    #[inline(always)]
    fn all<I: Isa, E: Element>(&self, isa: I, x: &[E]) -> Candidates {
        let mut logits = vec![0.0; self.columns.len()];
        match self.logits {
            Logits::Direct => widen(isa, &x[self.columns.clone()], &mut logits),
            Logits::F32(z) => widen(isa, z, &mut logits),
            Logits::F64(z) => logits.copy_from_slice(z),
        }
        let tokens = (self.columns.start as u32..self.columns.end as u32).collect();
        Candidates { tokens, logits, masses: Vec::new() }
    }

    /// The k first tokens in order, k below the number of columns, and equals of the last if they are kept; by index.
    ///
    /// The k-th largest of the maxima of blocks is a bound that at least k tokens reach; few others do.
    #[inline(always)]
    pub fn top_k<I: Isa, E: Element>(&self, isa: I, x: &[E], k: usize, keeps_equals: bool) -> Candidates {
        let count = self.columns.len();
        let maxima = match self.logits {
            Logits::Direct => block_maxima(isa, &x[self.columns.clone()]),
            Logits::F32(z) => block_maxima(isa, z),
            Logits::F64(z) => block_maxima(isa, z),
        };
        let bound = kth_largest(&maxima, k);
        let mut found = Vec::with_capacity(2 * k);
        for (b, max) in maxima.into_iter().enumerate() {
            if max >= bound {
                let range = b * BLOCK..count.min((b + 1) * BLOCK);
                found.extend(range.map(|i| self.candidate(x, i)));
            }
        }
        let mut kept = Candidates::default();
        let reaches = |c: &Candidate| c.logit >= bound && c.logit > f64::NEG_INFINITY;
        found.into_iter().filter(reaches).for_each(|c| kept.push(c));
        kept.keep_first(k, keeps_equals);
        kept
    }
}

#[inline(always)]
fn widen<I: Isa, E: Element>(isa: I, x: &[E], to: &mut [f64]) {
    Span::in_place(to).map_from_wide(
        isa,
        x,
        #[inline(always)]
        |_, z| z,
    );
}

/// The k-th largest, or -inf if there are fewer.
fn kth_largest(maxima: &[f64], k: usize) -> f64 {
    if k > maxima.len() {
        return f64::NEG_INFINITY;
    }
    *maxima.to_vec().select_nth_unstable_by(k - 1, |a, b| b.total_cmp(a)).1
}

/// Elements whose maximum stands for them in [`Live::top_k`].
const BLOCK: usize = 4 * LANES;

/// The maximum of each block; no NaN is among the values.
#[inline(always)]
fn block_maxima<I: Isa, E: Element>(isa: I, z: &[E]) -> Vec<f64> {
    let mut maxima = Vec::with_capacity(z.len().div_ceil(BLOCK));
    for values in z.chunks(BLOCK) {
        let max = if E::DTYPE == DType::F64 {
            let lanes = fold(
                values,
                values[0],
                isa.f64(f64::NEG_INFINITY),
                #[inline(always)]
                |max, _, v| E::load_wide(isa, v).max(max),
            );
            isa.array_f64(lanes).into_iter().fold(f64::NEG_INFINITY, f64::max)
        } else {
            let lanes = fold(
                values,
                values[0],
                isa.f32(f32::NEG_INFINITY),
                #[inline(always)]
                |max, _, v| E::load(isa, v).max(max),
            );
            f64::from(isa.array_f32(lanes).into_iter().fold(f32::NEG_INFINITY, f32::max))
        };
        maxima.push(max);
    }
    maxima
}
