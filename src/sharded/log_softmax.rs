//! Log-softmax of sharded rows.

use super::Sharded;
use super::collective::Collective;
use crate::cpu::softmax_partial::For;
use crate::element::Element;
use crate::error::Result;
use crate::ops::softmax::Softmax;
use crate::rows::Rows;
use crate::simd::in_default;

const OP: &str = "log_softmax";

impl<C: Collective + ?Sized> Sharded<'_, C> {
    /// Computes [`log_softmax`](crate::log_softmax()) of sharded rows. This rank holds the columns `x`. Returns the
    /// result for these columns.
    ///
    /// # Exchange
    /// Each rank sends these numbers of bytes:
    ///
    /// | for | f32, f16, bf16 | f64 |
    /// |---|---|---|
    /// | the check that all ranks make the same call | 24 | 24 |
    /// | each row: maxima | 56 | 48 |
    /// | each row: integer sums | 16 | 24 |
    /// | each row: binned sum | | 40 |
    ///
    /// # Errors
    /// The errors of [`log_softmax`](crate::log_softmax()); [`Error::Collective`](crate::Error::Collective) if another
    /// rank returns an error, makes another call, or does not join.
    pub fn log_softmax<E: Element>(&self, x: Rows<'_, E>, options: &Softmax<'_>) -> Result<Vec<E>> {
        in_default(|| {
            let first = self.columns.start;
            let mut sums = self.two_maxima(OP, x, options)?.log_sums(x, first, options)?;
            self.add_up::<E>(OP, &mut sums.0, For::Logarithm)?;
            sums.log_softmax(x, first, options)
        })
    }
}
