//! What the logits of a row hold, found without sorting them.

use super::candidates::{Candidate, Candidates};
use crate::cpu::scores::{Live, Logits};
use crate::element::Element;
use crate::simd::{Isa, Span};

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
