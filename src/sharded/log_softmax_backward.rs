//! The gradient of the logarithm of softmax.

use super::Sharded;
use super::collective::Collective;
use crate::cpu::scores_backward::partial::Of;
use crate::element::Element;
use crate::error::Result;
use crate::ops::softmax::Softmax;
use crate::rows::Rows;
use crate::simd::in_default;

const OP: &str = "log_softmax_backward";

impl<C: Collective + ?Sized> Sharded<'_, C> {
    /// [`log_softmax_backward`](crate::log_softmax_backward()) of rows of which this rank has `x` and `dy`: its own columns of the
    /// gradient.
    ///
    /// # Exchange
    /// 24 bytes to agree, 48 bytes a row for maxima, 8 for sums; and of each rank, for each row, 32 bytes with a number for
    /// each 256 columns, and the terms of what a cut leaves of such a tile. Of f64 twice that, 8 bytes a row for the largest
    /// gradient, and what softmax gathers.
    ///
    /// # Errors
    /// Those of [`log_softmax_backward`](crate::log_softmax_backward()); [`Error::Collective`](crate::Error::Collective) where another
    /// rank has them, is about to do something else, or does not come.
    pub fn log_softmax_backward<E: Element>(
        &self,
        x: Rows<'_, E>,
        dy: Rows<'_, E>,
        options: &Softmax<'_>,
    ) -> Result<Vec<E>> {
        in_default(|| self.scores_backward(OP, x, dy, options, Of::LogSoftmax))
    }
}
