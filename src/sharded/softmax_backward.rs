//! Gradient of softmax of sharded rows.

use super::Sharded;
use super::collective::Collective;
use crate::cpu::scores_backward::partial::SoftmaxOp;
use crate::element::Element;
use crate::error::Result;
use crate::ops::softmax::Softmax;
use crate::rows::Rows;
use crate::simd::in_default;

const OP: &str = "softmax_backward";

impl<C: Collective + ?Sized> Sharded<'_, C> {
    /// Computes [`softmax_backward`](crate::softmax_backward()) of sharded rows. This rank holds the columns `x` and
    /// `dy`. Returns the gradient for these columns.
    ///
    /// # Exchange
    /// Each rank sends these numbers of bytes:
    ///
    /// | for | f32, f16, bf16 | f64 |
    /// |---|---|---|
    /// | the check that all ranks make the same call | 24 | 24 |
    /// | each row: maxima | 48 | 48 |
    /// | each row: sum of exponentials | 8 | 24 |
    /// | each row: largest upstream gradient | | 8 |
    /// | the length of the list of partial sums | 8 | 8 |
    /// | each row in the list | 32 | 64 |
    /// | each row, per whole tile of 256 columns in the list | 8 | 16 |
    /// | each row, per column of a partial tile in the list | 8 | 16 |
    ///
    /// # Errors
    /// The errors of [`softmax_backward`](crate::softmax_backward()); [`Error::Collective`](crate::Error::Collective)
    /// if another rank returns an error, makes another call, or does not join.
    pub fn softmax_backward<E: Element>(
        &self,
        x: Rows<'_, E>,
        dy: Rows<'_, E>,
        options: &Softmax<'_>,
    ) -> Result<Vec<E>> {
        in_default(|| self.scores_backward(OP, x, dy, options, SoftmaxOp::Softmax))
    }
}
