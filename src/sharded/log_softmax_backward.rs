//! Gradient of log-softmax of sharded rows.

use super::Sharded;
use super::collective::Collective;
use crate::cpu::scores_backward::partial::SoftmaxOp;
use crate::element::Element;
use crate::error::Result;
use crate::ops::softmax::Softmax;
use crate::rows::Rows;
use crate::simd::in_default;

const OP: &str = "log_softmax_backward";

impl<C: Collective + ?Sized> Sharded<'_, C> {
    /// Computes [`log_softmax_backward`](crate::log_softmax_backward()) of sharded rows. This rank holds the columns
    /// `x` and `dy`. Returns the gradient for these columns.
    ///
    /// # Exchange
    /// Each rank sends 24 bytes to check that all ranks make the same call. For each row, it also sends 48 bytes for
    /// maxima and 8 for sums. It then sends a list, whose length takes 8 bytes. For each row, the list has 32 bytes, 8
    /// for each whole tile of 256 columns in the shard, and 8 for each column in partial tiles. For f64, each row takes
    /// 24 bytes for sums instead of 8, and 8 more for the largest gradient, and the list is twice as long.
    ///
    /// # Errors
    /// The errors of [`log_softmax_backward`](crate::log_softmax_backward());
    /// [`Error::Collective`](crate::Error::Collective) if another rank returns an error, makes another call, or does
    /// not join.
    pub fn log_softmax_backward<E: Element>(
        &self,
        x: Rows<'_, E>,
        dy: Rows<'_, E>,
        options: &Softmax<'_>,
    ) -> Result<Vec<E>> {
        in_default(|| self.scores_backward(OP, x, dy, options, SoftmaxOp::LogSoftmax))
    }
}
