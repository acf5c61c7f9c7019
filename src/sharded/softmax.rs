//! Softmax.

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
    /// [`softmax`](crate::softmax()) of rows of which this rank has `x`: its own columns of the result.
    ///
    /// # Exchange
    /// 24 bytes to agree, 48 bytes a row for maxima, 8 for sums, of f64 24.
    ///
    /// # Errors
    /// Those of [`softmax`](crate::softmax()); [`Error::Collective`](crate::Error::Collective) where another rank has them, is
    /// about to do something else, or does not come.
    pub fn softmax<E: Element>(&self, x: Rows<'_, E>, options: &Softmax<'_>) -> Result<Vec<E>> {
        in_default(|| {
            let first = self.columns.start;
            let mut sums = self.maxima(OP, x, options)?.sums(x, first, options)?;
            self.add_up::<E>(OP, &mut sums.0, For::Softmax)?;
            sums.softmax(x, first, options)
        })
    }
}
