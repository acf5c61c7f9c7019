//! Access to single logits in two kinds of rows: rows of f64, and rows that have a NaN or an infinity.

use super::candidates::Candidates;
use crate::cpu::scores::Live;
use crate::element::Element;

impl Live<'_> {
    /// Returns the first token whose logit satisfies `such`.
    #[inline(always)]
    pub fn find<E: Element>(&self, x: &[E], such: impl Fn(f64) -> bool) -> usize {
        let found = (0..self.columns.len()).find(|&i| such(self.logit(x, i)));
        self.columns.start + found.unwrap_or(0)
    }

    /// Appends the tokens whose logits satisfy `such`.
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
