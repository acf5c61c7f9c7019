//! Softmax of sharded rows.

use super::Sharded;
use super::collective::Collective;
use crate::cpu::softmax_partial::For;
use crate::element::Element;
use crate::error::Result;
use crate::ops::softmax::Softmax;
use crate::rows::Rows;
use crate::simd::in_default;

const OP: &str = "softmax";

impl<C: Collective + ?Sized> Sharded<'_, C> {
    /// Computes [`softmax`](crate::softmax()) of sharded rows. This rank holds the columns `x`. Returns the result for
    /// these columns.
    ///
    /// # Exchange
    /// Each rank sends 24 bytes to check that all ranks make the same call. For each row, it also sends 48 bytes for
    /// maxima, and 8 bytes (24 for f64) for sums.
    ///
    /// # Errors
    /// The errors of [`softmax`](crate::softmax()); [`Error::Collective`](crate::Error::Collective) if another rank
    /// returns an error, makes another call, or does not join.
    pub fn softmax<E: Element>(&self, x: Rows<'_, E>, options: &Softmax<'_>) -> Result<Vec<E>> {
        in_default(|| {
            let first = self.columns.start;
            let mut sums = self.maxima(OP, x, options)?.sums(x, first, options)?;
            self.add_up::<E>(OP, &mut sums.0, For::Softmax)?;
            sums.softmax(x, first, options)
        })
    }
}
