//! Log-sum-exp of sharded rows.

use super::Sharded;
use super::collective::Collective;
use crate::cpu::softmax_partial::For;
use crate::element::Element;
use crate::error::Result;
use crate::ops::softmax::Softmax;
use crate::rows::Rows;
use crate::simd::in_default;

const OP: &str = "logsumexp";

impl<C: Collective + ?Sized> Sharded<'_, C> {
    /// Computes [`logsumexp`](crate::logsumexp()) of sharded rows. This rank holds the columns `x`. Every rank gets the
    /// result of each row.
    ///
    /// # Exchange
    /// Each rank sends 24 bytes to check that all ranks make the same call. For each row, it also sends 56 bytes for
    /// maxima and 16 for sums. For f64, these are 48 bytes for maxima, 24 for sums, and 40 for a gather.
    ///
    /// # Errors
    /// The errors of [`logsumexp`](crate::logsumexp()); [`Error::Collective`](crate::Error::Collective) if another rank
    /// returns an error, makes another call, or does not join.
    pub fn logsumexp<E: Element>(&self, x: Rows<'_, E>, options: &Softmax<'_>) -> Result<Vec<E>> {
        in_default(|| {
            let first = self.columns.start;
            let mut sums = self.two_maxima(OP, x, options)?.log_sums(x, first, options)?;
            self.add_up::<E>(OP, &mut sums.0, For::Logarithm)?;
            sums.logsumexp::<E>(options)
        })
    }
}
