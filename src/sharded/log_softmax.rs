//! The logarithm of softmax.

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
    /// [`log_softmax`](crate::log_softmax()) of rows of which this rank has `x`: its own columns of the result.
    ///
    /// # Exchange
    /// 24 bytes to agree, 56 bytes a row for maxima, 16 for sums; of f64 48 and 24, and each rank gives 40 a row besides.
    ///
    /// # Errors
    /// Those of [`log_softmax`](crate::log_softmax()); [`Error::Collective`](crate::Error::Collective) where another rank has them, is
    /// about to do something else, or does not come.
    pub fn log_softmax<E: Element>(&self, x: Rows<'_, E>, options: &Softmax<'_>) -> Result<Vec<E>> {
        in_default(|| {
            let first = self.columns.start;
            let mut sums = self.two_maxima(OP, x, options)?.log_sums(x, first, options)?;
            self.add_up::<E>(OP, &mut sums.0, For::Logarithm)?;
            sums.log_softmax(x, first, options)
        })
    }
}
