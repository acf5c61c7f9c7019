//! What the logits of a row hold, where they are in f64 or not all of them are numbers.

use super::candidates::Candidates;
use crate::cpu::scores::{Live, Logits};
use crate::element::Element;

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

    /// Appends the tokens whose logits are such.
    #[inline(always)]
    pub fn gather<E: Element>(&self, x: &[E], such: impl Fn(f64) -> bool, to: &mut Candidates<f64>) {
        to.append(self.columns.len(), |room| {
            for i in 0..self.columns.len() {
                let logit = self.logit(x, i);
                if such(logit) {
                    (room.tokens[room.count], room.logits[room.count]) = ((self.columns.start + i) as u32, logit);
                    room.count += 1;
                }
            }
        });
    }
}
